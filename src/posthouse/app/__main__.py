"""Entry of a child process of `serve`: `python -m posthouse.app worker|console`."""

import sys

from posthouse.app.child import read_boot


def main(role: str) -> None:
    """Entry of a child process."""
    boot = read_boot()
    match role:
        case "worker":
            from posthouse.app.worker import run_worker

            run_worker(boot)
        case "console":
            from posthouse.app.console import run_console

            run_console(boot)
        case _:
            raise SystemExit(f"unknown role {role!r}")


main(sys.argv[1] if len(sys.argv) > 1 else "")
