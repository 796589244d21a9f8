"""The example of docs/scanning.md is a rule that holds."""

import tomllib
from pathlib import Path

from posthouse.core.rule import parse_rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scanning.md"


def test_the_example_is_valid() -> None:
    blocks = PAGE.read_text("utf-8").split("```toml\n")[1:]
    assert blocks
    for block in blocks:
        for rule in tomllib.loads(block.partition("```")[0])["rules"]:
            parsed, faults = parse_rule(rule, "rules[0]")
            assert (faults, parsed is None) == ((), False)
