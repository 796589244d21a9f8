"""Commands that act on a running node: what they show, what they send, and how they end."""

import io
import json
import sys
from pathlib import Path

import pytest

from posthouse.core.inventory import parse_inventory
from posthouse.core.profile_test import Inquiry
from posthouse.ports import Acted
from support.command_line import CommandLine, command_line

WAY = (
    "10.0.0.9:40001 to 10.0.0.1:25, TLSv1.3 TLS_AES_256_GCM_SHA384, certificate verified, logged in as relay, "
    "mail 3 on a kept connection"
)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


# --- mail --------------------------------------------------------------------------------------------


def test_mail_list_is_a_table_with_both_phases_of_the_status(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("mail", "list")
    assert ran.code == 0
    row = next(line for line in ran.out.splitlines() if "01mail0001" in line)
    for word in ("sender1@example.net", "user1@ours.example", "Offer 1", "accepted", "queued"):
        assert word in row
    assert "\x1b" not in ran.out, "no colour when piped"


def test_mail_list_hands_its_filters_on(cli: CommandLine) -> None:
    with cli.node():
        ran = cli(
            "mail", "list", "--to", "user2", "--from", "sender2", "--status", "relayed", "--since", "0", "--json"
        )
    assert [mail["id"] for mail in ran.json["items"]] == ["01mail0002"]
    asked = cli.rest.history.asked[-1]
    assert (asked.recipient, asked.sender, asked.status, asked.since) == ("user2", "sender2", "relayed", 0.0)


def test_mail_list_stops_at_its_limit_over_several_pages(cli: CommandLine) -> None:
    with cli.node():
        assert [m["id"] for m in cli("mail", "list", "--limit", "2", "--json").json["items"]] == [
            "01mail0002",
            "01mail0001",
        ]
        assert "No mail matches." in cli("mail", "list", "--to", "nobody").out


def test_mail_show_tells_envelope_and_recipients(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("mail", "show", "01mail0001")
    for word in ("192.0.2.7 (mx.example.net)", "ESMTP", "user1@ours.example", "451 4.7.1 busy", "exchange", WAY):
        assert word in ran.out


def test_mail_trace_tells_session_rules_order_replies_and_transcript(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("mail", "trace", "01mail0001")
    assert ran.code == 0
    for word in (
        "192.0.2.7 (mx.example.net)",
        'rule "inbound", server profile "exchange"',
        "old: is disabled",
        "inbound: matched",
        "order: smtp://10.0.0.1:25 > smtp://10.0.0.2:2525",
        f"way: {WAY}",
        "transient in 0.25 s",
        "<user1@ours.example> transient: 451 4.7.1 busy",
        "> MAIL FROM:<sender@example.net>",
        "250 2.0.0 queued as",
        "queued, next attempt",
    ):
        assert word in ran.out, ran.out


def test_trace_and_show_tell_clear_text_and_what_never_had_a_connection(cli: CommandLine) -> None:
    attempts = cli.rest.history.mails[1]["attempts"]
    assert isinstance(attempts, list)
    (attempt,) = attempts
    clear = {"local": "[::1]:40001", "remote": "[::1]:25", "tls": "none", "certificate": "none", "login": ""}
    told = "[::1]:40001 to [::1]:25, clear text, no login, connection opened for it"
    with cli.node():
        for way, number, text in ((clear, 1, told), (None, 0, "no connection")):
            attempt |= {"way": way, "mail_number": number, "marks": ["downgraded"]}
            assert f"way: {text}" in cli("mail", "trace", "01mail0001").out
            row = next(line for line in cli("mail", "show", "01mail0001").out.splitlines() if text in line)
            assert "transient, downgraded" in row


def test_trace_shows_a_step_that_this_version_does_not_know(cli: CommandLine) -> None:
    trail = cli.rest.history.mails[0]["trail"]
    assert isinstance(trail, list)
    trail.append({"at": 1_764_000_000.0, "kind": "scanned", "detail": {"recipients": [0], "verdict": "clean"}})
    with cli.node():
        assert "scanned  for <user0@ours.example>, verdict clean" in cli("mail", "trace", "01mail0000").out


def test_text_from_elsewhere_cannot_act_on_the_terminal(cli: CommandLine) -> None:
    nasty = "\x1b]0;owned\x07[bold red]x[/] \u202eabc :smile:\r\n"
    mail = cli.rest.history.mails[1]
    mail["subject"] = mail["reverse_path"] = nasty
    recipients, attempts = mail["recipients"], mail["attempts"]
    assert isinstance(recipients, list)
    assert isinstance(attempts, list)
    recipients[0]["detail"] = attempts[0]["summary"] = nasty
    attempts[0]["transcript"] = [nasty]
    with cli.node():
        for command in ("list", "show", "trace"):
            ran = cli("mail", command, *([] if command == "list" else ["01mail0001"]))
            assert ran.code == 0
            assert "\\x1b]0;owned\\x07[bold red]x[/] \\u202eabc :smile:" in ran.out, ran.out
            assert not set("\x1b\x07\r\u202e") & set(ran.out)
            as_json = cli("mail", command, "--json", *([] if command == "list" else ["01mail0001"]))
            assert as_json.out.isascii()


def test_a_mail_that_is_not_there_is_a_fault(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("mail", "trace", "nosuch")
    assert (ran.code, ran.out) == (1, "")
    assert "There is no mail of that id." in ran.err


def test_a_faulty_filter_tells_field_value_rule_and_remedy(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("mail", "list", "--status", "lost")
        as_json = cli("mail", "list", "--status", "lost", "--json")
    assert ran.code == as_json.code == 1
    assert "status = lost" in ran.err
    assert "Use '', 'queued'" in ran.err
    assert as_json.json["errors"][0]["field"] == "status"
    assert "Traceback" not in ran.err


# --- queue -------------------------------------------------------------------------------------------


def test_queue_list_is_a_table_per_next_hop(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("queue", "list")
    assert "exchange" in ran.out
    assert "2025-11-24 15:59:00Z" in ran.out


def test_why_mail_waits_is_told_by_queue_list_and_mail_show(cli: CommandLine) -> None:
    rest = cli.rest
    refused = rest.circuit("connection refused", next_probe=rest.clock.now() + 40)
    for server in ("smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"):
        rest.knows("w/0", "exchange", server, endpoint=refused, not_now="circuit open: connection refused")
    why = "smtp://10.0.0.1:25: circuit open: connection refused, next probe 16:00:40Z"
    with cli.node():
        shown = cli("queue", "list").out
        assert cli("queue", "list", "--json").json["items"][0]["waits_for"].startswith(why)
        assert f"exchange waits for {why}" in cli("mail", "show", "01mail0001").out
        assert "waits for" not in cli("mail", "show", "01mail0000").out
    assert "Waits for" in shown
    assert "circuit open: connection refused" in shown


@pytest.mark.parametrize("action", ["retry", "hold", "release", "delete"])
def test_queue_actions_name_their_mails(cli: CommandLine, action: str) -> None:
    with cli.node():
        ran = cli("queue", action, "m1", "m2")
    assert ran.code == 0
    command = cli.rest.commands.submitted[-1]
    assert (command.kind, command.mails, command.profile) == (action, ("m1", "m2"), "")
    assert "2 recipients of 2 mails" in ran.out


def test_reroute_names_the_target(cli: CommandLine) -> None:
    with cli.node():
        assert cli("queue", "reroute", "--all", "--to-profile", "archive").code == 0
        assert cli("queue", "reroute", "--all").code == 2
        assert cli("queue", "reroute", "--all", "--to-profile", "nosuch").code == 1
    assert [command.target for command in cli.rest.commands.submitted] == ["archive"]


def test_a_profile_alone_means_all_its_mail(cli: CommandLine) -> None:
    with cli.node():
        assert cli("queue", "retry", "--profile", "exchange").code == 0
    assert (cli.rest.commands.submitted[0].mails, cli.rest.commands.submitted[0].profile) == ((), "exchange")


def test_an_action_on_nothing_or_on_ids_and_all_is_a_usage_error(cli: CommandLine) -> None:
    assert cli("queue", "retry").code == 2
    assert cli("queue", "retry", "m1", "--all").code == 2


def test_an_action_that_found_none_of_its_mails_is_a_fault(cli: CommandLine) -> None:
    cli.rest.commands.obey = lambda command: Acted(0)
    with cli.node():
        assert cli("queue", "hold", "nosuch").code == 1
        assert cli("queue", "hold", "--all").code == 0


def test_delete_all_asks_first_at_a_terminal_unless_told_not_to(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    with cli.node():
        assert cli("queue", "delete", "--all").code == 1
        assert not cli.rest.commands.submitted
        assert cli("queue", "delete", "--all", "--yes").code == 0


def test_workers_that_have_not_reported_are_told(cli: CommandLine) -> None:
    cli.rest.with_live()
    with cli.node():
        assert "0 of 0 workers have reported" in cli("queue", "retry", "--all").out


# --- rule, profile -----------------------------------------------------------------------------------


def test_rules_and_profiles_are_listed_and_shown(cli: CommandLine) -> None:
    with cli.node():
        rules = cli("rule", "list").out
        assert rules.index("old") < rules.index("inbound")
        assert "192.0.2.0/24" in cli("rule", "show", "Inbound").out
        assert cli("rule", "show", "nosuch").code == 1
        assert "smtp://10.0.0.2:2525" in cli("profile", "list").out
        assert "server 2: smtp://10.0.0.2:2525" in cli("profile", "show", "exchange").out
        assert cli("profile", "show", "nosuch").code == 1
        assert cli("profile", "show", "exchange", "--json").json["servers"][0] == "smtp://10.0.0.1:25"


def test_profile_show_tells_how_its_servers_are(cli: CommandLine) -> None:
    rest = cli.rest
    refused = rest.circuit("connection refused", next_probe=rest.clock.now() + 40)
    rest.knows("w/0", "exchange", "smtp://10.0.0.1:25", endpoint=refused, in_use=1, relayed=7)
    with cli.node():
        out = cli("profile", "show", "exchange").out
        shown = cli("profile", "show", "exchange", "--json").json["state"]
    first, second = (
        next(line for line in out.splitlines() if server in line and not line.startswith("server"))
        for server in ("10.0.0.1:25", "10.0.0.2")
    )
    for word in ("open", "1 of 10", "7"):
        assert word in first, out
    assert "unknown" in second
    assert "circuit        open since 2025-11-24 16:00:00Z: connection refused; next probe" in out
    assert "; next probe 2025-11-24 16:00:40Z\n" in out
    assert [server["circuit"] for server in shown] == ["open", None]


def test_profile_test_shows_a_ladder_for_each_server_and_fails_with_it(cli: CommandLine) -> None:
    cli.rest.tester.refusing.add("smtp://10.0.0.2:2525")
    with cli.node():
        ran = cli("profile", "test", "exchange", "--rcpt", "b@ours.example", "--from", "a@ours.example")
        as_json = cli("profile", "test", "exchange", "--json")
    assert ran.code == as_json.code == 1
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == "smtp://10.0.0.1:25"
    assert lines[1].split() == ["✓", "ok", "resolve", "0", "ms", "10.0.0.1"]
    assert lines[3] == "smtp://10.0.0.2:2525"
    assert lines[5].split()[:6] == ["✗", "failed", "connect", "0.25", "s", "connection"]
    assert "listens on this address" in lines[6]
    assert lines[7] == "exchange: failed, 1 of 2 servers can be used"
    assert "\x1b" not in ran.out, "no colour when piped"
    assert cli.rest.tester.tested[0][2] == Inquiry("a@ours.example", "b@ours.example")
    assert [server["ok"] for server in as_json.json["servers"]] == [True, False]


def test_profile_test_shows_ladders_that_grow_at_a_terminal(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.rest.tester.refusing.add("smtp://10.0.0.2:2525")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with cli.node():
        ran = cli("profile", "test", "exchange")
    assert ran.code == 1
    # Once more at each stage of each server, and at the end.
    assert ran.out.count("smtp://10.0.0.1:25") > 4
    assert "exchange: failed, 1 of 2 servers can be used" in ran.out.splitlines()[-1]


def test_profile_test_succeeds_and_nothing_from_a_server_acts_on_the_terminal(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("profile", "test", "Archive")
    assert ran.code == 0
    assert "Archive: ok, 1 of 1 servers can be used" in ran.out
    assert not set("\x1b\r") & set(ran.out)


def test_profile_test_of_a_file_does_not_save_it(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[[server_profiles]]\nname = "new"\ntype = "smtp"\nservers = ["10.0.0.9"]\n'
        '[[server_profiles]]\nname = "archive"\ntype = "smtp"\nservers = ["10.0.0.8"]\n'
    )
    alone = tmp_path / "alone.json"
    alone.write_text('{"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}')
    with cli.node():
        assert cli("profile", "test", "new", "--file", str(file)).code == 0
        assert cli("profile", "test", "--file", str(alone)).code == 0
        assert cli("profile", "test", "archive", "--file", str(file)).code == 0
        both = cli("profile", "test", "--file", str(file))
        none = cli("profile", "test", "nosuch", "--file", str(file))
        assert cli("profile", "show", "new").code == 1
    tested = cli.rest.tester.tested
    assert [server for _, server, _ in tested] == ["smtp://10.0.0.9:25", "smtp://10.0.0.9:25", "smtp://10.0.0.8:25"]
    assert tested[2][0].preference == "failover", "as the file leaves it, not as it is saved"
    assert both.code == none.code == 2
    assert "new, archive" in both.err


@pytest.mark.parametrize(
    ("profile", "secret"),
    [
        ({"type": "smtp", "servers": ["10.0.0.7"], "username": "u"}, "password"),
        ({"type": "metadefender-core", "servers": ["10.0.0.7"]}, "api_key"),
        ({"type": "metadefender-vault", "servers": ["10.0.0.7"]}, "api_key"),
    ],
)
def test_profile_test_of_a_file_uses_the_stored_secret_that_applying_it_would_keep(
    cli: CommandLine, tmp_path: Path, profile: dict[str, object], secret: str
) -> None:
    with_secret, without = tmp_path / "with.json", tmp_path / "without.json"
    with_secret.write_text(json.dumps({"server_profiles": [{"name": "mine", **profile, secret: "hunter2"}]}))
    without.write_text(json.dumps({"name": "mine", **profile}))
    with cli.node():
        assert cli("config", "apply", str(with_secret)).code == 0
        ran = cli("profile", "test", "--file", str(without))
    assert ran.code == 0, ran
    ((tested, _, _),) = cli.rest.tester.tested
    assert getattr(tested, secret).source == "stored"


def test_profile_test_asks_which_and_hands_faults_on(cli: CommandLine) -> None:
    with cli.node():
        assert cli("profile", "test").code == 2
        assert cli("profile", "test", "nosuch").code == 1
        ran = cli("profile", "test", "exchange", "--rcpt", "nobody")
    assert ran.code == 1
    assert "rcpt_to = nobody" in ran.err
    cli.rest.tester.tested.clear()
    with cli.node("auditor"):
        assert cli("profile", "test", "exchange").code == 4
    assert cli.rest.tester.tested == []


def test_profile_list_and_show_know_all_types_and_give_advice(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[[server_profiles]]\nname = "vault"\ntype = "metadefender-vault"\nservers = ["https://10.0.2.1:8000"]\n'
        'api_key = { file = "/run/credentials/vault" }\n'
        '[[server_profiles]]\nname = "relay"\ntype = "smtp"\nservers = ["10.0.0.1"]\n'
        'username = "u"\npassword = { env = "P" }\nallow_plaintext_auth = true\n'
    )
    with cli.node():
        assert cli("config", "apply", str(file)).code == 0
        assert "https://10.0.2.1:8000/vault_rest" in cli("profile", "list").out
        vault, relay = cli("profile", "show", "vault"), cli("profile", "show", "relay")
        told = cli("profile", "show", "vault", "--json").json["advice"]
    assert "servers[0]: MetaDefender Vault listens on 8010 since 1.3.7" in vault.err
    assert "allow_plaintext_auth: GRAVE: The password may be sent in clear text" in relay.err
    assert [advice["field"] for advice in told] == ["servers[0]"]


def test_explain_takes_its_addresses_from_the_file(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(
        b"Return-Path: <bounce@example.net>\r\nFrom: A <a@example.net>\r\n"
        b'To: "B, C" <b@ours.example>, x@else.example\r\nCc: b@ours.example\r\n\r\nbody\r\n'
    )
    with cli.node():
        ran = cli("rule", "explain", str(file), "--client", "192.0.2.7")
        other = cli(
            "rule", "explain", str(file), "--client", "192.0.2.7", "--from", "", "--to", "q@ours.example", "--json"
        )
    assert ran.code == 0
    for word in (
        "recipient <b@ours.example>",
        "rule old: does not match",
        "no   The rule is disabled.",
        "rule inbound: matches",
        "yes  Client 192.0.2.7 is in 192.0.2.0/24.",
        "failover: smtp://10.0.0.1:25 > smtp://10.0.0.2:2525",
        "recipient <x@else.example>",
        "550 5.7.1",
    ):
        assert word in ran.out, ran.out
    (item,) = other.json["items"]
    assert (item["asked"], item["rule"]) == ("q@ours.example", "inbound")


def test_explain_without_a_recipient_or_with_a_missing_file_ends_clearly(cli: CommandLine, tmp_path: Path) -> None:
    with cli.node():
        assert cli("rule", "explain").code == 2
        ran = cli("rule", "explain", str(tmp_path / "nosuch.eml"))
        assert cli("rule", "explain", "--client", "nowhere", "--to", "a@b").code == 1
    assert ran.code == 1
    assert "No such file" in ran.err


# --- config ------------------------------------------------------------------------------------------


def test_export_is_a_file_that_applies_without_changes(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    with cli.node():
        assert cli("config", "export", "-o", str(file)).code == 0
        ran = cli("config", "apply", str(file), "--prune")
    assert ran.code == 0
    assert "No differences." in ran.out
    assert "revision 1" in ran.out
    assert 'servers = ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"]' in file.read_text()


def test_export_into_a_file_that_is_there_keeps_its_comments_mode_and_link(cli: CommandLine, tmp_path: Path) -> None:
    file, link = tmp_path / "kept.toml", tmp_path / "inventory.toml"
    link.symlink_to(file)
    with cli.node():
        assert cli("config", "export", "-o", str(file)).code == 0
        file.write_text(f"# by hand\n\n{file.read_text()}")
        file.chmod(0o640)
        before = file.read_text()
        assert cli("config", "export", "-o", str(link)).code == 0
        assert file.read_text() == before
        assert cli("rule", "enable", "old").code == 0
        assert cli("config", "diff", str(file), "--exit-code").code == 1
        assert cli("config", "diff", str(file)).code == 0
        assert cli("config", "export", "-o", str(link)).code == 0
        assert cli("config", "diff", str(file), "--exit-code").code == 0
        assert file.read_text() == before.replace("enabled = false\n", "")
        assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o640)
        assert cli("config", "export", "-o", str(link), "--anew").code == 0
        assert "by hand" not in file.read_text()


@pytest.mark.parametrize("content", ['[[rules]]\nname = "a"\n', "rules = [{", "\udcff"])
def test_a_file_that_cannot_be_brought_up_to_date_stays_as_it_is(
    cli: CommandLine, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(content, errors="surrogateescape")
    with cli.node():
        ran = cli("config", "export", "-o", str(file))
    assert ran.code == 1
    assert "--anew" in ran.err
    assert file.read_text(errors="surrogateescape") == content
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["inventory.toml"]


def test_diff_dry_run_and_apply_show_the_same_changes(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[[server_profiles]]\nname = "exchange"\ntype = "smtp"\nservers = ["10.0.0.1", "10.0.0.9"]\n'
        '[[server_profiles]]\nname = "new"\ntype = "smtp"\nservers = ["10.0.0.4"]\n'
    )
    with cli.node():
        told = cli("config", "diff", str(file))
        dry = cli("config", "apply", str(file), "--dry-run")
        assert cli.rest.inventory.revision() == 1
        done = cli("config", "apply", str(file), "--json")
    assert "+ server_profiles[new]" in told.out
    assert "~ server_profiles[exchange].servers[1]: smtp://10.0.0.2:2525 -> smtp://10.0.0.9:25" in told.out
    assert "Nothing was changed" in dry.out
    assert done.json["revision"] == cli.rest.inventory.revision() == 2


def test_all_faults_of_a_file_are_told(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[[server_profiles]]\nname = "a"\ntype = "smtp"\nservers = ["http://x", "smtp://h:0"]\nwhen = 2020-01-01\n'
        '[[rules]]\nname = "r"\nrelay = { profile = "nosuch" }\n'
    )
    with cli.node():
        ran = cli("config", "apply", str(file))
    assert ran.code == 1
    for field in ("servers[0]", "servers[1]", "when", "rules[0].relay.profile", "rules[0].match.recipients"):
        assert field in ran.err


def test_faults_have_the_same_words_in_rest_and_cli(cli: CommandLine, tmp_path: Path) -> None:
    document: dict[str, object] = {
        "server_profiles": [
            {"name": "a/b", "type": "smtp", "servers": ["http://x", "smtp://h:0"], "tls": "ssl", "username": "u"},
            {"name": "v", "type": "metadefender-vault", "servers": ["http://a", "http://b"], "pool": {}},
            {"name": "c", "type": "metadefender-core", "servers": ["http://a"], "public_url": "x", "tls_pin": "0"},
        ]
    }
    file = tmp_path / "inventory.json"
    file.write_text(json.dumps(document))
    told = parse_inventory(document)[2]
    expected = [{"field": f.field, "value": f.value, "rule": f.rule, "remedy": f.remedy} for f in told]
    assert len(expected) >= 9
    assert cli.rest.client().post("/api/v1/config/apply", json=document).json()["errors"] == expected
    with cli.node():
        ran = cli("config", "apply", str(file))
    for fault in told:
        for words in (fault.field, fault.rule, fault.remedy):
            assert words in ran.err


@pytest.mark.parametrize("content", [b"not = = toml", b"\xff\xfe", b"{broken", b"[1]"])
def test_a_file_that_is_no_document_is_a_fault(cli: CommandLine, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / ("x.json" if content == b"[1]" else "x.toml")
    file.write_bytes(content)
    with cli.node():
        ran = cli("config", "apply", str(file))
        assert cli("config", "apply", str(tmp_path / "nosuch.toml")).code == 1
    assert ran.code == 1
    assert str(file) in ran.err


# --- how commands end --------------------------------------------------------------------------------


def test_health_is_0_for_a_ready_node_and_3_else(cli: CommandLine) -> None:
    with cli.node():
        assert cli("health").code == 0
        cli.rest.with_live()
        assert cli("health").code == 3
    ran = cli("health", "--json")
    assert ran.code == 3
    assert "cannot be reached" in ran.json["error"]


def test_a_node_that_cannot_be_reached_is_3(cli: CommandLine) -> None:
    cli.leave("http://127.0.0.1:1")
    ran = cli("queue", "list")
    assert ran.code == 3
    assert "posthouse serve" in ran.err
    assert "Traceback" not in ran.err


def test_a_role_without_the_right_is_4(cli: CommandLine) -> None:
    with cli.node("helpdesk"):
        ran = cli("queue", "list")
    assert ran.code == 4
    assert "helpdesk" in ran.err


def test_a_wrong_key_is_4(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_API_KEY", "ph_wrong")
    with cli.node():
        ran = cli("queue", "list")
    assert ran.code == 4
    assert "posthouse key create" in ran.err


def test_the_environment_names_server_and_key(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with cli.node() as address:
        (cli.folder / "node.json").unlink()
        (cli.folder / "console.key").unlink()
        monkeypatch.setenv("POSTHOUSE_SERVER", address)
        assert cli("queue", "list").code == 4
        monkeypatch.setenv("POSTHOUSE_API_KEY", cli.rest.secrets["operator"])
        assert cli("queue", "list").code == 0


def test_the_key_file_is_not_sent_to_a_foreign_server(cli: CommandLine) -> None:
    cli.leave("http://127.0.0.1:1")
    ran = cli("queue", "list", "--server", "http://console.invalid:8025")
    assert ran.code == 4
    assert "no API key" in ran.err


@pytest.mark.parametrize("server", ["nonsense", "ftp://x", "http://", "http://[::1", "http://h:port"])
def test_a_server_that_is_no_address_is_a_usage_error(cli: CommandLine, server: str) -> None:
    cli.leave("http://127.0.0.1:1")
    assert cli("queue", "list", "--server", server).code == 2
