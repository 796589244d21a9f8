# The same commands as in scripts/, for those who like make; make itself is not needed.
.DEFAULT_GOAL := help
.PHONY: help setup check format test serve demo drills bench docs lock

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Make .venv with all that development needs
	@scripts/setup

check: ## Form, types, layers and quick tests: under a minute
	@scripts/check

format: ## Format the code
	@scripts/format

test: ## Install what the tests need and run everything
	@scripts/test

serve: ## Run a node: SMTP on 127.0.0.1:2525, console on 127.0.0.1:8025
	@scripts/serve

demo: ## Watch mails go through, and one next hop die
	@scripts/demo

drills: ## The long drills: 200 kills, then every n-th call fault
	@scripts/drills kills --kills 200
	@scripts/drills faults

bench: ## Measure beside Postfix and write docs/performance.md
	@benchmarks/run

docs: ## Check that the documents say what the code does
	@scripts/setup
	@.venv/bin/pytest tests/docs

lock: ## Write requirements/*.lock anew
	@scripts/lock
