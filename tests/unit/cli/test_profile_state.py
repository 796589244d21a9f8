"""`posthouse profile show` of servers in every state, and `profile drain`, `undrain` and `simulate`."""

import re
import sys
from pathlib import Path

import pytest

from posthouse.cli.remote import Remote
from posthouse.core.histogram import Recent
from support.command_line import CommandLine, command_line

FIRST, SECOND = "smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"
DAY = 86400.0


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


def shown(cli: CommandLine, name: str = "exchange") -> list[str]:
    with cli.node():
        ran = cli("profile", "show", name)
    assert ran.code == 0, ran.err
    return ran.out.splitlines()


def times(*seconds: float) -> dict[str, int]:
    recent = Recent()
    for each in seconds:
        recent.add(each, 0.0)
    return {str(number): count for number, count in recent.counts(0.0).items()}


def test_everything_there_is_to_say_of_a_server_is_said(cli: CommandLine) -> None:
    rest = cli.rest
    now = rest.clock.now()
    rest.knows(
        "w/0",
        "exchange",
        FIRST,
        in_use=3,
        relayed=1200,
        served_at=now - 5,
        not_now="the login was refused there and is left alone for 15 minutes",
        pool={"idle": 2, "fresh": 40, "reused": 1162, "stale": 2, "opened": 43, "tls": 42, "tls_saved": 1160},
        times={"connect": times(0.0013), "tls": times(), "transaction": times(*[0.016] * 10, 0.9)},
        last_errors=[{"at": now - 60, "stage": "final dot", "text": "451 4.3.0 " + "busy " * 30, "times": 3}],
        certificate={"names": "mail.example", "expires_at": now + 23.5 * DAY},
    )
    rest.knows("w/1", "exchange", FIRST)
    other = {"name": "other", "type": "smtp", "servers": ["10.0.0.1"]}
    assert rest.client().post("/api/v1/config/apply", json={"server_profiles": [other]}).status_code == 200
    lines = shown(cli)
    row = next(line for line in lines if FIRST in line)
    assert row.split() == ["1", FIRST, "closed", "3", "of", "20", "1200", "96.7%"]
    for line in (
        "used by rules: inbound",
        f"server 1: {FIRST}",
        "  served last    2025-11-24 15:59:55Z",
        "  connections    43 opened, 2 kept idle; handshakes saved: 1160 TCP, 1160 TLS",
        "  certificate    renew it: 23 days left, for mail.example",
        "  also used by   other",
        f"  error          2025-11-24 15:59:00Z final dot: 451 4.3.0 {'busy ' * 30} (3 times)",
        "  no mail now    the login was refused there and is left alone for 15 minutes (on 1 of 2 workers)",
    ):
        assert line in lines, (line, lines)
    (told,) = [line for line in lines if line.startswith("  p50 / p95 ")]
    assert told == "  p50 / p95      connect 1.3 ms / 1.3 ms, transaction 17 ms / 0.906 s"


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (30.0, "30 days left, for x"),
        (29.9, "renew it: 29 days left, for x"),
        (14.0, "renew it: 14 days left, for x"),
        (13.9, "WARNING: 13 days left, for x"),
        (3.0, "WARNING: 3 days left, for x"),
        (2.9, "GRAVE: 2 days left, for x"),
        (-0.1, "GRAVE: expired on 2025-11-24 13:36:00Z, for x"),
    ],
)
def test_a_certificate_that_ends_is_told_ever_more_urgently(cli: CommandLine, days: float, told: str) -> None:
    shown_there = {"names": "x", "expires_at": cli.rest.clock.now() + days * DAY}
    cli.rest.knows("w/0", "exchange", FIRST, certificate=shown_there)
    assert f"  certificate    {told}" in shown(cli)


def test_many_servers_in_all_states_fit_a_terminal_of_80_columns(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rest = cli.rest
    servers = [f"smtp://mail-relay-{number:03d}.example:25" for number in range(60)]
    document = {"name": "many", "type": "smtp", "servers": servers}
    assert rest.client().post("/api/v1/config/apply", json={"server_profiles": [document]}).status_code == 200
    refused = rest.circuit("no answer to connect within 10 s " * 5, next_probe=rest.clock.now() + 40)
    for number, server in enumerate(servers):
        circuit = {"endpoint": refused} if number % 2 else {}
        rest.knows("w/0", "many", server, in_use=12, relayed=123456, **circuit)
    client = rest.client()
    for which in ("2", "5"):
        body = {"server": which, "seconds": 600, "simulate": True, "reason": "a long rehearsal " * 10}
        assert client.post("/api/v1/server-profiles/many/drain", json=body).status_code == 200
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown(cli, "many")]
    lines = lines[lines.index("pool.max_messages     0") + 1 :]
    assert max(map(len, lines)) <= 80
    assert sum("simulated" in line for line in lines if "mail-relay" in line) == 2
    assert [line.split()[1] for line in lines if line.startswith("server ")] == [f"{n}:" for n in range(1, 61)]


def test_a_vault_has_no_state(cli: CommandLine) -> None:
    vault = {"name": "vault", "type": "metadefender-vault", "servers": ["10.0.0.7"], "api_key": {"env": "KEY"}}
    assert cli.rest.client().post("/api/v1/config/apply", json={"server_profiles": [vault]}).status_code == 200
    lines = shown(cli, "vault")
    assert lines[-1] == "server 1: http://10.0.0.7:8010/vault_rest"
    assert not any("State" in line for line in lines)


def test_a_scanner_is_told_without_what_only_next_hops_have(cli: CommandLine) -> None:
    rest, first = cli.rest, "clamd://10.0.0.7:3310"
    clamd = {"name": "clam", "type": "clamav", "servers": [first, "10.0.0.8"]}
    rule = {
        "name": "r",
        "match": {"recipients": ["*@x.example"]},
        "scan": {"profiles": ["clam"]},
        "relay": {"profile": "exchange"},
    }
    applied = rest.client().post("/api/v1/config/apply", json={"server_profiles": [clamd], "rules": [rule]})
    assert applied.status_code == 200, applied.text
    open_ = rest.circuit("connection refused", next_probe=rest.clock.now() + 40)
    rest.scans("w/0", "clam", first, in_use=2, scanned=40, endpoint=open_, not_now="circuit open: connection refused")
    lines = shown(cli, "clam")
    assert "used by rules: r" in lines
    rows = [line.split() for line in lines if line.split()[1:2] in ([first], ["clamd://10.0.0.8:3310"])]
    assert rows[:2] == [["1", first, "open", "2", "40"], ["2", "clamd://10.0.0.8:3310", "unknown"]]
    (heading,) = [line.split() for line in lines if "Scanned" in line]
    assert heading == ["#", "Server", "State", "In", "use", "Scanned"]
    assert any(line.startswith("  circuit        open since ") for line in lines)
    assert not any(word in line for line in lines for word in ("None", "Relayed", "handshakes"))


def test_json_has_all(cli: CommandLine) -> None:
    cli.rest.knows("w/0", "exchange", FIRST)
    with cli.node():
        document = cli("profile", "show", "exchange", "--json").json
    assert (document["rules"], document["own_mail"]) == (["inbound"], False)
    wanted = {"drain", "also_used_by", "reuse", "times", "certificate", "last_errors", "workers"}
    assert wanted <= document["state"][0].keys()


def test_a_server_is_drained_and_undrained_by_number_or_short_uri(cli: CommandLine) -> None:
    with cli.node("operator"):
        ran = cli("profile", "drain", "exchange", "1", "--reason", "new disks")
        assert (ran.code, ran.out) == (0, f"{FIRST} is drained for mail of exchange, until it is undrained.\n")
        cli.rest.knows("w/0", "exchange", FIRST)
        out = cli("profile", "show", "exchange").out
        assert "  drained        since 2025-11-24 16:00:00Z by key operator (k2): new disks" in out.splitlines()
        assert cli("profile", "undrain", "EXCHANGE", "10.0.0.1").out == f"{FIRST} gets mail of exchange again.\n"
        assert cli("profile", "undrain", "exchange", "1").out == f"{FIRST} was not left out.\n"
        timed = cli("profile", "drain", "exchange", "1", "--minutes", "0.5", "--json").json
    assert (timed["kind"], timed["until"] - timed["at"]) == ("drained", 30)
    assert [drain.server for drain in cli.rest.inventory.stored.drains] == [FIRST]


def test_a_server_is_treated_as_down_for_10_minutes_unless_told_otherwise(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("profile", "simulate", "exchange", "2")
        told = f"{SECOND} is treated as down for mail of exchange, until 2025-11-24 16:10:00Z.\n"
        assert (ran.code, ran.out) == (0, told)
        other = cli("profile", "simulate", "exchange", "2", "--minutes", "1440", "--json").json
        assert (other["kind"], other["until"] - other["at"]) == ("simulated", 86400)
        for minutes in ("0", "-1", "1441", "nan"):
            assert cli("profile", "simulate", "exchange", "2", "--minutes", minutes).code == 2
        assert cli("profile", "simulate", "exchange", "9").code == 1
    with cli.node("auditor"):
        assert cli("profile", "drain", "exchange", "1").code == 4


def test_a_number_means_no_other_server_when_the_order_changes_in_between(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged = Remote.tagged

    def then_ordered(remote: Remote, path: str) -> tuple[dict[str, object], str]:
        found = tagged(remote, path)
        servers = cli.rest.client().get(path).json()["servers"]
        ordered = cli.rest.client().post(f"{path}/order", json={"servers": servers[::-1]})
        assert ordered.status_code == 200
        return found

    monkeypatch.setattr(Remote, "tagged", then_ordered)
    with cli.node():
        for command in ("drain", "undrain", "simulate"):
            ran = cli("profile", command, "exchange", "2")
            assert (ran.code, "It has changed since it was read." in ran.err) == (1, True)
        assert cli("profile", "drain", "exchange", SECOND).code == 0
    assert [drain.server for drain in cli.rest.inventory.stored.drains] == [SECOND]
