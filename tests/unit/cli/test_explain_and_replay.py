"""`posthouse rule explain` with the servers as they are now, `--inventory`, and `posthouse rule replay`."""

from pathlib import Path

import pytest

from support.command_line import CommandLine, command_line
from support.rest import mail

FIRST, SECOND = "smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"
ASKED = ("--client", "192.0.2.7", "--from", "a@example.net", "--to", "b@ours.example")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Another server, and a rule before all others."""
    made = tmp_path / "inventory.toml"
    made.write_text(
        '[[server_profiles]]\nname = "exchange"\ntype = "smtp"\nservers = ["10.0.0.1", "10.0.0.9"]\n'
        '[[rules]]\nname = "vip"\nmatch = { recipients = ["user1@ours.example"] }\nrelay = { profile = "archive" }\n'
    )
    return made


def test_explain_tells_where_the_mail_goes_now_and_why(cli: CommandLine) -> None:
    down = cli.rest.circuit("connection refused", next_probe=1764072010.0)
    cli.rest.knows("n/0/b", "exchange", FIRST, endpoint=down, not_now="circuit open: connection refused", limit=20)
    cli.rest.knows("n/0/b", "exchange", SECOND, in_use=3)
    with cli.node():
        ran = cli("rule", "explain", *ASKED)
    why = "circuit open: connection refused, next probe 12:00:10Z"
    for told in (
        f"failover: {FIRST} > {SECOND}",
        f"{FIRST}: not now: {why}; 0 of 20 in use",
        f"{SECOND}: may be addressed now, circuit closed, 3 of 10 in use",
        f"{FIRST} is skipped: {why}; the mail goes to {SECOND}.",
    ):
        assert told in ran.out, ran.out


def test_what_is_longer_than_a_line_is_wrapped_and_not_cut(cli: CommandLine) -> None:
    reply = " ".join(f"word{number}" for number in range(60))
    cli.rest.knows("n/0/b", "exchange", FIRST, not_now=f"circuit open: {reply}")
    with cli.node():
        ran = cli("rule", "explain", *ASKED)
    assert " ".join(ran.out.replace("│", "").split()).count(reply) == 2


def test_explain_against_a_file_says_so_and_saves_nothing(cli: CommandLine, file: Path) -> None:
    cli.rest.knows("n/0/b", "exchange", FIRST)
    with cli.node():
        ran = cli("rule", "explain", *ASKED, "--inventory", str(file))
        pruned = cli("rule", "explain", *ASKED, "--inventory", str(file), "--prune", "--json")
        fault = cli("rule", "explain", *ASKED, "--prune")
    assert ran.code == 0, ran
    assert f"As it would be with {file} in force; nothing is saved." in ran.out
    assert "rule vip: does not match" in ran.out
    assert "smtp://10.0.0.9:25: state not known: it is not in force, so no worker knows it" in ran.out
    assert pruned.code == 1, "the rule names a profile that the file does not have"
    assert pruned.json["errors"][0]["field"] == "inventory.rules[0].relay.profile"
    assert fault.code == 2
    assert cli.rest.inventory.revision() == 1


def test_replay_counts_and_lists_what_a_file_would_change(cli: CommandLine, file: Path) -> None:
    with cli.node():
        ran = cli("rule", "replay", "--inventory", str(file), "--last", "3")
        as_json = cli("rule", "replay", "--inventory", str(file), "--last", "2", "--json")
    assert ran.code == 0, ran
    for told in (
        "Of the last 3 mails this file would treat 3 differently.",
        "inbound > exchange",
        "vip > archive",
        "2            inbound > exchange   inbound > exchange   relayed by exchange, whose servers change: ",
        "01mail0001   2025-11-24 15:58:21Z   user1@ours.example   inbound > exchange   vip > archive",
        "Recipients that were refused are not in the history",
    ):
        assert told in ran.out, ran.out
    assert ran.out.count("smtp://10.0.0.9:25") == 1
    assert (as_json.json["mails"], as_json.json["count"]) == (2, 2)
    assert cli.rest.inventory.revision() == 1


def test_replay_says_how_many_more_differences_there_are(cli: CommandLine, file: Path) -> None:
    cli.rest.history.mails = [mail(number, cli.rest.clock.now()) for number in range(9)]
    with cli.node():
        ran = cli("rule", "replay", "--inventory", str(file), "--limit", "2")
    assert "7 more recipients" in ran.out
    assert ran.out.count("01mail") == 2


def test_replay_without_differences_or_with_faults_ends_clearly(cli: CommandLine, tmp_path: Path) -> None:
    empty, bad = tmp_path / "empty.toml", tmp_path / "bad.toml"
    empty.write_text("")
    bad.write_text('[[rules]]\nname = "r"\n')
    with cli.node():
        ran = cli("rule", "replay", "--inventory", str(empty))
        faulty = cli("rule", "replay", "--inventory", str(bad))
        assert cli("rule", "replay").code == 2
        assert cli("rule", "replay", "--inventory", str(tmp_path / "nosuch")).code == 1
    assert "would treat 0 differently" in ran.out
    assert "What differs" not in ran.out
    assert faulty.code == 1
    assert "inventory.rules[0].relay" in faulty.err


def test_replay_is_refused_to_helpdesk(cli: CommandLine, file: Path) -> None:
    with cli.node("helpdesk"):
        assert cli("rule", "replay", "--inventory", str(file)).code == 4
