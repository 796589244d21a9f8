"""What drills that yield plain figures have in common: the folder they run in, and a row in docs/drills.md."""

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from support.processes import ROOT

FILE = ROOT / "docs" / "drills.md"


def run(
    name: str, parser: argparse.ArgumentParser, drill: Callable[[Path, argparse.Namespace], Mapping[str, float]]
) -> int:
    """A drill as a command: prints its figures and, unless `--no-record`, adds them to the record."""
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=f"posthouse-{name}-") as folder:
        figures = drill(Path(folder), given)
    line = ", ".join(f"{figure} {value:g}" for figure, value in figures.items())
    print(line)
    if not given.no_record:
        record(name, line, passed=True)
    return 0


def record(drill: str, line: str, *, passed: bool) -> None:
    """One row: date, commit, drill, verdict and figures. A tree with changes not committed is marked."""
    commit = _git("rev-parse", "--short", "HEAD") + (
        "+" if _git("status", "--porcelain", "-uno", "--", ".", ":!docs/drills.md") else ""
    )
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    with FILE.open("a", encoding="utf-8") as file:
        file.write(f"| {today} | {commit} | {drill} | {'passed' if passed else 'FAILED'} | {line} |\n")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
