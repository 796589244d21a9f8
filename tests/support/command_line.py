"""Runs `posthouse` command lines in this process, as a user does, and gives exit code and output."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from posthouse.cli.main import run
from support.rest import Rest
from support.served import served


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Command lines against one data dir; `rest` is served on its console's address."""

    folder: Path
    capture: "pytest.CaptureFixture[str]"
    rest: Rest

    def __call__(self, *arguments: str) -> Ran:
        self.capture.readouterr()
        code = run(arguments)
        captured = self.capture.readouterr()
        return Ran(code, captured.out, captured.err)

    @contextmanager
    def node(self, role: str = "administrator") -> Iterator[str]:
        """A running node as its data dir tells of it: `node.json` and `console.key`."""
        with served(self.rest) as address:
            self.leave(address, role)
            yield address

    def leave(self, address: str, role: str = "administrator") -> None:
        """The two files that `serve` leaves in the data dir."""
        self.folder.mkdir(exist_ok=True)
        facts = {"console": address, "smtp": ["127.0.0.1:2525"], "pid": 1}
        (self.folder / "node.json").write_text(json.dumps(facts))
        (self.folder / "console.key").write_text(self.rest.secrets[role] + "\n")


def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capture: "pytest.CaptureFixture[str]") -> CommandLine:
    """For a fixture: the data dir is `folder`/data, and the environment has proxies that must not be used."""
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    for name in ("POSTHOUSE_SERVER", "POSTHOUSE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return CommandLine(folder / "data", capture, Rest())
