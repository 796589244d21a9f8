"""Logs on stderr: each line is one JSON document, whoever wrote it."""

import json
import subprocess
import sys
from collections.abc import Mapping


def logged(script: str) -> list[Mapping[str, object]]:
    """What a process that has configured its logs writes to stderr."""
    head = "import logging\nfrom posthouse import telemetry\ntelemetry.configure('console')\n"
    command = [sys.executable, "-c", head + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_what_a_library_logs_is_a_line_of_ours() -> None:
    first, second, third = logged(
        "log = logging.getLogger('uvicorn.error')\n"
        "log.warning('Invalid %s\\nreceived', 'request')\n"
        "log.error('too many %s %s', 'one')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('lost')\n"
        "log.info('of no interest')"
    )
    assert (first["event"], first["level"]) == ("Invalid request\\x0areceived", "warning")
    assert (first["part"], first["process"]) == ("uvicorn.error", "console")
    assert second["line"] == "too many %s %s"
    assert third["event"] == "lost"
    assert "ZeroDivisionError" in str(third["exception"])
