"""Logs on stderr: each line is one JSON document, whoever wrote it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


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


_HELLO = """
import ssl, struct, sys
from posthouse import tls

def hello(name):
    sni = struct.pack("!BH", 0, len(name)) + name
    sni = struct.pack("!H", len(sni)) + sni
    extensions = struct.pack("!HH", 0, len(sni)) + sni + struct.pack("!HHHH", 10, 4, 2, 23)
    extensions += struct.pack("!HHHHH", 13, 6, 4, 0x0403, 0x0804)
    body = bytes([3, 3]) + bytes(32) + bytes([0, 0, 4, 0xC0, 0x2B, 0xC0, 0x2F, 1, 0])
    body += struct.pack("!H", len(extensions)) + extensions
    message = bytes([1]) + struct.pack("!I", len(body))[1:] + body
    return bytes([0x16, 3, 1]) + struct.pack("!H", len(message)) + message

context = tls.renewing_context(lambda: tls.ensure_digital_id(FOLDER, "mx.example"))

def greet(name):
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(came, goes, server_side=True)
    came.write(hello(name))
    try:
        secured.do_handshake()
    except ssl.SSLWantReadError:
        print("well")
    except ssl.SSLError:
        print("refused")
"""


def test_a_server_name_that_is_not_ascii_is_one_line_a_minute(tmp_path: Path) -> None:
    said = logged(f"FOLDER = {str(tmp_path)!r}\n{_HELLO}\nfor _ in range(5): greet(bytes([255, 254]) + b'x')")
    (line,) = [each for each in said if each["part"] == "python"]
    assert line["event"] == "an error that could be raised nowhere"
    assert "UnicodeDecodeError" in str(line["error"])
    assert (line["count"], line["process"]) == (1, "console")


def test_how_many_were_left_out_is_told(tmp_path: Path) -> None:
    script = f"FOLDER = {str(tmp_path)!r}\n{_HELLO}\n"
    script += "for _ in range(5): greet(bytes([255, 254]))\n"
    script += "import time\nlater = time.monotonic() + 100\ntime.monotonic = lambda: later\n"
    script += "greet(bytes([255, 254]))\n"
    assert [each["count"] for each in logged(script) if each["part"] == "python"] == [1, 5]
