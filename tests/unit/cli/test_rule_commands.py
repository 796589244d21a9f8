"""`posthouse rule add|edit|move|remove|enable|disable` against a running node."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from support.command_line import CommandLine, command_line


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


def _names(cli: CommandLine) -> list[object]:
    return [rule["name"] for rule in cli.rest.inventory.load().rules]


def _rule(cli: CommandLine, name: str) -> Mapping[str, object]:
    return next(rule for rule in cli.rest.inventory.load().rules if rule["name"] == name)


def test_a_rule_is_added_by_flags_at_its_place(cli: CommandLine) -> None:
    flags = ["--recipients", "*@a.example", "--recipients", "*@b.example", "--senders", "*@c.example"]
    more = ["--clients", "192.0.2.0/24", "--profile", "exchange", "--direction", "outbound", "--position", "1"]
    with cli.node():
        ran = cli("rule", "add", "new", *flags, *more, "--disabled")
    assert (ran.code, ran.out) == (0, "Rule new is added.\n")
    assert _names(cli) == ["new", "old", "inbound"]
    assert _rule(cli, "new") == {
        "name": "new",
        "enabled": False,
        "direction": "outbound",
        "match": {
            "clients": ["192.0.2.0/24"],
            "senders": ["*@c.example"],
            "recipients": ["*@a.example", "*@b.example"],
        },
        "relay": {"profile": "exchange"},
        "open_relay": False,
    }


def test_a_rule_is_added_from_a_file_with_flags_over_it(cli: CommandLine, tmp_path: Path) -> None:
    alone = tmp_path / "rule.toml"
    alone.write_text('name = "new"\nmatch = { recipients = ["*@a.example"] }\nrelay = { profile = "exchange" }\n')
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("".join(f'[[rules]]\nname = "{n}"\nrelay = {{ profile = "exchange" }}\n' for n in "ab"))
    with cli.node():
        made = cli("rule", "add", "--file", str(alone), "--profile", "archive", "--json")
        assert cli("rule", "add", "b", "--file", str(inventory), "--recipients", "*@b.example").code == 0
        both, none = cli("rule", "add", "--file", str(inventory)), cli("rule", "add", "c", "--file", str(inventory))
    assert made.json["relay"] == {"profile": "archive"}
    assert _names(cli) == ["old", "inbound", "new", "b"]
    assert both.code == none.code == 2
    assert "a, b" in both.err


def test_faults_of_a_rule_are_told_with_their_fields(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("rule", "add", "new", "--recipients", "*", "--profile", "nosuch")
        taken = cli("rule", "add", "INBOUND", "--recipients", "*@a.example", "--profile", "exchange")
        assert cli("rule", "add").code == 2
    assert ran.code == taken.code == 1
    for word in ("relay.profile = nosuch", "match.recipients", "open relay"):
        assert word in ran.err
    assert "There is a rule 'inbound' already" in taken.err


def test_edit_changes_what_is_given_and_keeps_the_rest(cli: CommandLine) -> None:
    before = _rule(cli, "inbound")
    with cli.node():
        assert cli("rule", "edit", "INBOUND", "--senders", "*@c.example", "--name", "in").code == 0
        assert _names(cli) == ["old", "in"]
        match = {"clients": ["192.0.2.0/24"], "senders": ["*@c.example"], "recipients": ["*@ours.example"]}
        assert _rule(cli, "in") == {**before, "name": "in", "match": match}
        assert cli("rule", "edit", "in", "--senders", "", "--name", "inbound").code == 0
        assert "as it was already" in cli("rule", "edit", "inbound", "--profile", "exchange").out
        assert cli("rule", "edit", "nosuch", "--profile", "exchange").code == 1
    assert _rule(cli, "inbound") == before


def test_edit_by_a_file_leaves_nothing_of_what_was(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "rule.json"
    file.write_text('{"name": "inbound", "match": {"recipients": ["*@x.example"]}, "relay": {"profile": "archive"}}')
    with cli.node():
        assert cli("rule", "edit", "inbound", "--file", str(file)).code == 0
    assert _rule(cli, "inbound")["match"] == {"recipients": ["*@x.example"]}


def test_move_remove_enable_and_disable(cli: CommandLine) -> None:
    with cli.node():
        assert cli("rule", "move", "inbound", "1").out == "Rule inbound is number 1.\n"
        assert _names(cli) == ["inbound", "old"]
        assert cli("rule", "move", "inbound", "3").code == 1
        assert cli("rule", "enable", "old").code == 0
        assert _rule(cli, "old")["enabled"] is True
        assert cli("rule", "disable", "old", "--json").json["enabled"] is False
        assert cli("rule", "remove", "old", "--json").json == {"removed": "old"}
        assert _names(cli) == ["inbound"]
        assert cli("rule", "remove", "old").code == 1
        assert cli("rule", "show", "Inbound", "--json").json["name"] == "inbound"
        assert cli("rule", "show", "old").code == 1


def test_a_list_longer_than_a_page_is_shown_whole(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    rule = '[[rules]]\nname = "r{}"\nmatch = {{ recipients = ["*@a.example"] }}\nrelay = {{ profile = "exchange" }}\n'
    file.write_text("".join(rule.format(number) for number in range(600)))
    with cli.node():
        assert cli("config", "apply", str(file)).code == 0
        listed = cli("rule", "list", "--json").json
    assert [r["name"] for r in listed["items"]] == [f"r{number}" for number in range(600)] + ["old", "inbound"]
    assert listed["next"] is None


def test_who_may_not_change_rules_is_told_so(cli: CommandLine) -> None:
    with cli.node("operator"):
        assert cli("rule", "remove", "old").code == 4
    assert _names(cli) == ["old", "inbound"]
