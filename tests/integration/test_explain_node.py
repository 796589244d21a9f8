"""`rule explain` and `rule replay` on a real node: one of its next hops is dead, and mail has gone through it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_line import CommandLine, command_line
from support.processes import Node
from support.threaded_sink import sink
from support.waiting import eventually

DEAD = "127.0.0.1:1"


def inventory(live: str) -> str:
    """Failover from a dead server to one that lives."""
    return f"""
[[server_profiles]]
name = "next"
type = "smtp"
servers = ["{DEAD}", "{live}"]

[[rules]]
name = "inbound"
match = {{ recipients = ["*@ours.example"] }}
relay = {{ profile = "next" }}
"""


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    with sink() as address:
        yield address


@pytest.fixture(scope="module")
def node(live: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("node"), inventory(live))
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def cli(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    commands = command_line(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
    return commands


def test_explain_and_replay_of_a_node_that_relays_past_a_dead_server(
    cli: CommandLine, live: str, tmp_path: Path
) -> None:
    for number in range(4):  # one more than it takes to open the circuit
        assert cli("send", "--to", f"user{number}@ours.example").code == 0
    assert cli("send", "--to", "nobody@else.example").code == 4, "refused, so never in the history"

    def opened() -> Any:
        (item,) = cli("rule", "explain", "--to", "a@ours.example", "--json").json["items"]
        return item if item["states"][0]["circuit"] in ("open", "half-open") else None

    item = eventually(opened, "the worker tells that the circuit is open")
    dead, other = item["states"]
    assert (dead["server"], dead["may_be_addressed"], other["may_be_addressed"]) == (f"smtp://{DEAD}", "no", "yes")
    assert "refused" in dead["why"]
    assert item["goes_to"] == [f"smtp://{live}"]
    assert item["now"].startswith(f"smtp://{DEAD} is skipped: circuit open")
    assert item["now"].endswith(f"the mail goes to smtp://{live}.")

    same, other_file = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text(inventory(live))
    told = cli("rule", "replay", "--inventory", str(same), "--prune", "--json").json
    assert (told["mails"], told["count"], told["decided_otherwise"]["count"]) == (4, 0, 0)

    other_file.write_text(
        f'[[server_profiles]]\nname = "new"\ntype = "smtp"\nservers = ["{live}", "127.0.0.1:2"]\n'
        '[[rules]]\nname = "first"\nmatch = { recipients = ["user0@*"], clients = ["127.0.0.0/8"] }\n'
        'relay = { profile = "new" }\n'
    )
    told = cli("rule", "replay", "--inventory", str(other_file), "--json").json
    (difference,) = told["items"]
    assert (told["mails_differ"], difference["recipient"]) == (1, "user0@ours.example")
    assert (difference["before"]["rule"], difference["after"]["rule"]) == ("inbound", "first")
    assert difference["after"]["servers"] == [f"smtp://{live}", "smtp://127.0.0.1:2"]
    assert cli("mail", "show", difference["mail"]).code == 0

    ran = cli("rule", "explain", "--to", "user0@ours.example", "--inventory", str(other_file), "--json")
    (item,) = ran.json["items"]
    assert (item["rule"], item["goes_to"]) == ("first", [f"smtp://{live}"])
    assert {state["may_be_addressed"] for state in item["states"]} == {"not known"}
    assert cli("config", "diff", str(same), "--prune", "--json").json["changes"] == [], "nothing was saved"
