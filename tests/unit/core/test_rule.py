"""Security rules: validation, open-relay guard, JSON form."""

import pytest

from posthouse.core.faults import Fault
from posthouse.core.rule import Rule, parse_rule, rule_json, without_defaults


def document(**given: object) -> dict[str, object]:
    return {"name": "r", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "x"}, **given}


def faults(**given: object) -> tuple[Fault, ...]:
    return parse_rule(document(**given), "rules[0]")[1]


def rule(**given: object) -> Rule:
    parsed, found = parse_rule(document(**given), "rules[0]")
    assert found == ()
    assert parsed is not None
    return parsed


def test_omitted_settings_have_their_defaults() -> None:
    parsed = rule()
    assert (parsed.name, parsed.relay_profile, parsed.enabled, parsed.direction) == ("r", "x", True, "")
    assert (parsed.clients, parsed.senders, parsed.open_relay) == ((), (), False)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"name": None}, ["name"]),
        ({"name": "a/b"}, ["name"]),
        ({"enabled": "yes"}, ["enabled"]),
        ({"direction": "up"}, ["direction"]),
        ({"relay": None}, ["relay"]),
        ({"relay": {}}, ["relay.profile"]),
        ({"relay": {"profile": "x", "port": 5}}, ["relay.port"]),
        ({"relay": "x"}, ["relay"]),
        ({"match": []}, ["match"]),
        ({"match": {"recipients": []}}, ["match.recipients"]),
        ({"match": {"recipient": ["*@a.example"]}}, ["match.recipient"]),
        (
            {"match": {"recipients": ["ours.example", "*@a.example", 5]}},
            ["match.recipients[2]", "match.recipients[0]"],
        ),
        ({"match": {"recipients": ["<>"]}}, ["match.recipients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "senders": ["a b"]}}, ["match.senders[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["10.0.0.1/8"]}}, ["match.clients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["10.0.0.0/33"]}}, ["match.clients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["10.0.0.0/255.0.0.0"]}}, ["match.clients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["mail.example"]}}, ["match.clients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["::ffff:10.0.0.0/104"]}}, ["match.clients[0]"]),
        ({"match": {"recipients": ["*@a.example"], "clients": ["fe80::1%eth0"]}}, ["match.clients[0]"]),
    ],
)
def test_every_fault_has_its_field(given: dict[str, object], fields: list[str]) -> None:
    assert [fault.field for fault in faults(**given)] == [f"rules[0].{field}" for field in fields]


def test_bits_outside_the_prefix_get_the_network_that_was_meant() -> None:
    (fault,) = faults(match={"clients": ["10.1.2.3/8"]})
    assert "10.0.0.0/8" in fault.remedy


def test_a_rule_with_a_scan_is_taken_and_its_mail_is_examined_before_it_goes_on() -> None:
    parsed = rule(scan={"profiles": ["core"]})
    assert parsed.scan is not None
    assert parsed.examined
    assert not rule().examined


def test_a_disabled_rule_keeps_its_scan() -> None:
    assert rule(scan={"profiles": ["core"]}, enabled=False).scan is not None


@pytest.mark.parametrize("scan", [{}, {"profiles": []}, {"profiles": ["core"], "when": "soon"}, "core", []])
def test_a_rule_with_a_faulty_scan_is_refused_and_never_becomes_one_without(scan: object) -> None:
    parsed, found = parse_rule(document(scan=scan), "rules[0]")
    assert parsed is None
    assert {fault.field.split(".")[1] for fault in found} == {"scan"}


LOOSE = [
    {},
    {"recipients": ["*"]},
    {"recipients": ["*@ours.example", "*@*"]},
    {"recipients": [r"/.*@ours.example$/"]},
]
ANYBODY = [
    {},
    {"clients": ["0.0.0.0/0"]},
    {"clients": ["10.0.0.0/7"]},
    {"clients": ["10.0.0.0/8", "11.0.0.1"]},
    {"clients": ["10.0.0.0/9", "10.128.0.0/9", "192.168.0.0/16"]},
    {"clients": ["192.168.0.0/16", "::/0"]},
    {"clients": ["2001:db8::/31"]},
    {"clients": ["2001:db8::/32", "2001:db9::1"]},
]
SOMEBODY = [
    {"clients": ["10.0.0.0/8"]},
    {"clients": ["10.0.0.0/8", "10.0.0.0/9", "10.1.2.3"]},
    {"clients": ["10.0.0.0/9", "10.128.0.0/9"]},
    {"clients": ["2001:db8::/32"]},
    {"clients": ["10.0.0.0/8", "2001:db8::/32"]},
]


@pytest.mark.parametrize("recipients", LOOSE)
@pytest.mark.parametrize("clients", ANYBODY)
def test_loose_recipients_from_anybody_are_an_open_relay(
    recipients: dict[str, list[str]], clients: dict[str, list[str]]
) -> None:
    (fault,) = faults(match=recipients | clients)
    assert fault.field == "rules[0].match.recipients"
    assert "open relay" in fault.rule
    assert "open_relay = true" in fault.remedy
    assert rule(match=recipients | clients, open_relay=True).open_relay


@pytest.mark.parametrize("recipients", LOOSE)
@pytest.mark.parametrize("clients", SOMEBODY)
def test_loose_recipients_from_few_clients_are_no_open_relay(
    recipients: dict[str, list[str]], clients: dict[str, list[str]]
) -> None:
    assert faults(match=recipients | clients) == ()


@pytest.mark.parametrize("clients", ANYBODY)
def test_confined_recipients_from_anybody_are_no_open_relay(clients: dict[str, list[str]]) -> None:
    assert faults(match=clients | {"recipients": ["*@ours.example", "*@*.ours.example", "postmaster"]}) == ()


def test_senders_do_not_make_an_open_relay_safe() -> None:
    (fault,) = faults(match={"senders": ["*@ours.example"]})
    assert "open relay" in fault.rule


def test_a_disabled_open_relay_is_an_error_too() -> None:
    assert len(faults(match={}, enabled=False)) == 1


def test_a_rule_without_match_matches_everything_and_must_say_open_relay() -> None:
    assert len(faults(match=None)) == 1


def test_json_is_read_back_the_same() -> None:
    match = {"clients": ["10.0.0.0/8", "192.0.2.1"], "senders": ["<>", "*"], "recipients": [r"/.*@a\.example$/"]}
    parsed = rule(match=match, direction="inbound", enabled=False, open_relay=True)
    written = rule_json(parsed)
    assert written == {
        "name": "r",
        "enabled": False,
        "direction": "inbound",
        "match": match | {"clients": ["10.0.0.0/8", "192.0.2.1/32"]},
        "relay": {"profile": "x"},
        "open_relay": True,
    }
    assert parse_rule(written, "x") == (parsed, ())


def test_export_leaves_out_defaults() -> None:
    assert without_defaults(rule_json(rule())) == document()
