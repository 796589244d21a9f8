"""Adds the result of a full drill to docs/drills.md."""

import subprocess
from datetime import UTC, datetime

from support.processes import ROOT

FILE = ROOT / "docs" / "drills.md"


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
