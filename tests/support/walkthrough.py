"""Runs a document's ```console blocks in one shell and compares what comes with what stands there.

A line that begins with `$ ` is a command (`\\` at its end goes on); the lines up to the next one are what it says.
JSON is compared as such; `…` stands for anything: a value, the rest of a list, other members of an object, text. Of
header fields those that stand there must come. A block marked ```console again is run until it says what it should,
for what takes a moment.
"""

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ANYTHING = "…"
SECONDS = 30.0

_BLOCK = re.compile(r"(?ms)^```console( again)?\n(.*?)^```$")


@dataclass(frozen=True)
class Step:
    """One command and what it says."""

    number: int
    """Line of the document."""
    command: str
    said: str
    again: bool


def steps(document: str) -> Iterator[Step]:
    """In the order of the document."""
    for block in _BLOCK.finditer(document):
        line = document.count("\n", 0, block.start(2)) + 1
        for part in re.split(r"(?m)^(?=\$ )", block[2]):
            if part.startswith("$ "):
                lines = part.splitlines()
                end = next(n for n, text in enumerate(lines, 1) if not text.endswith("\\"))
                yield Step(line, "\n".join(lines[:end])[2:], "\n".join(lines[end:]).strip(), bool(block[1]))
            line += part.count("\n")


class Shell:
    """One bash; variables live on from step to step. `places`: what the document says, and what it is here."""

    def __init__(self, folder: Path, places: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, step: Step) -> None:
        """AssertionError with both texts if something else comes."""
        until = time.monotonic() + SECONDS
        while True:
            came = self._call(step.command, until)
            fault = difference(step.said, came)
            if not fault:
                return
            if not step.again or time.monotonic() > until - 1:
                raise AssertionError(f"line {step.number}: {step.command}\n{fault}\n--- came:\n{came}")

    def _call(self, command: str, until: float) -> str:
        for there, here in self._places.items():
            command = command.replace(there, here)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nprintf '\\036'\n".encode())
        self._process.stdin.flush()
        said = b""
        while not said.endswith(b"\x1e"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{command}: no end within {SECONDS} s; so far {said!r}"
            octets = os.read(self._process.stdout.fileno(), 65536)
            assert octets, f"{command}: the shell ended; so far {said!r}"
            said += octets
        text = said[:-1].decode().replace("\r\n", "\n")
        for there, here in self._places.items():
            text = text.replace(here, there)
        return text.strip()


def difference(expected: str, came: str) -> str:
    """What does not fit; empty if all does."""
    if expected.startswith("HTTP/"):
        return _answers(expected, came)
    if expected[:1] in ("{", "["):
        try:
            document = json.loads(came)
        except ValueError:
            return "this is no JSON"
        return _values(json.loads(_with_members(expected)), document, "")
    pattern = ".*".join(re.escape(part) for part in expected.split(ANYTHING))
    return "" if re.fullmatch(pattern, came, re.DOTALL) else f"expected:\n{expected}"


def _answers(expected: str, came: str) -> str:
    """Status line, header fields, body."""
    head, _, body = expected.partition("\n\n")
    came_head, _, came_body = came.partition("\n\n")
    fields = {field.lower() for field in came_head.splitlines()}
    for line in head.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.lower().split(ANYTHING))
        if not any(re.fullmatch(pattern, field.strip()) for field in fields):
            return f"missing: {line}"
    return difference(body.strip(), came_body.strip()) if body else ""


def _with_members(text: str) -> str:
    """A lone … among members or elements as JSON; one within a text stays."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    for at in range(0, len(parts), 2):
        parts[at] = re.sub(r"…(\s*})?", _standing_for, parts[at])
    return "".join(parts)


def _standing_for(lone: re.Match[str]) -> str:
    return f'"…": "…"{lone[1]}' if lone[1] else '"…"'


def _values(expected: Any, came: Any, where: str) -> str:
    match expected, came:
        case "…", _:
            return ""
        case str(), str():
            pattern = ".*".join(re.escape(part) for part in expected.split(ANYTHING))
            fits = re.fullmatch(pattern, came, re.DOTALL) is not None
        case dict(), dict():
            known = expected.keys() - {ANYTHING}
            if known - came.keys() or (ANYTHING not in expected and came.keys() - known):
                return f"{where}: expected members {sorted(expected)}, came {sorted(came)}"
            return _first(_values(expected[name], came[name], f"{where}.{name}") for name in sorted(known))
        case list(), list():
            first = expected[:-1] if expected and expected[-1] == ANYTHING else expected
            if len(came) < len(first) or (first is expected and len(came) != len(first)):
                return f"{where}: expected {len(first)} elements, came {len(came)}"
            return _first(_values(one, came[n], f"{where}[{n}]") for n, one in enumerate(first))
        case _:
            fits = bool(expected == came)
    return "" if fits else f"{where}: expected {expected!r}, came {came!r}"


def _first(faults: Iterator[str]) -> str:
    return next(filter(None, faults), "")
