"""Which server profiles a rule names: in use, renamed, of the wrong type; whatever section names them."""

import pytest

from posthouse.core.faults import Fault
from posthouse.core.inventory import apply_document
from posthouse.core.profile_change import uses, with_profile
from posthouse.core.rule_references import Reference, references, respelt
from posthouse.core.service_type import ServiceType

RULE: dict[str, object] = {
    "name": "inbound",
    "match": {"recipients": ["*@ours.example"]},
    "scan": {"profiles": ["core", "clam"], "on_blocked": "strip"},
    "vault": {"profile": "store", "attachments": "all"},
    "relay": {"profile": "exchange"},
}
PROFILES: list[dict[str, object]] = [
    {"name": "exchange", "type": "smtp", "servers": ["smtp://10.0.0.1:25"]},
    {"name": "core", "type": "metadefender-core", "servers": ["http://10.0.0.2:8008"]},
    {"name": "clam", "type": "clamav", "servers": ["clamd://10.0.0.3:3310"]},
    {"name": "store", "type": "metadefender-vault", "servers": ["http://10.0.0.4:8010/vault_rest"], "api_key": "k"},
]
SCANNERS = (ServiceType.METADEFENDER_CORE, ServiceType.CLAMAV)


def test_a_rule_names_profiles_to_relay_to_scan_and_to_keep_attachments() -> None:
    assert references(RULE) == (
        Reference("relay.profile", "exchange", (ServiceType.SMTP,), "relays"),
        Reference("scan.profiles[0]", "core", SCANNERS, "scans"),
        Reference("scan.profiles[1]", "clam", SCANNERS, "scans"),
        Reference("vault.profile", "store", (ServiceType.METADEFENDER_VAULT,), "stores attachments"),
    )


@pytest.mark.parametrize(
    "faulty",
    [
        {},
        {"relay": None, "scan": None, "vault": None},
        {"relay": "exchange", "scan": [], "vault": 5},
        {"relay": {"profile": 5}, "scan": {"profiles": "core"}, "vault": {}},
        {"scan": {"profiles": [5, None, ""]}},
    ],
)
def test_what_is_no_name_is_passed_over(faulty: dict[str, object]) -> None:
    assert references(faulty) == ()
    assert respelt(faulty, str.upper) == faulty


def test_every_section_gets_the_new_spelling_and_keeps_the_rest() -> None:
    assert respelt(RULE, str.upper) == {
        **RULE,
        "scan": {"profiles": ["CORE", "CLAM"], "on_blocked": "strip"},
        "vault": {"profile": "STORE", "attachments": "all"},
        "relay": {"profile": "EXCHANGE"},
    }


@pytest.mark.parametrize(
    ("old", "section", "expected"),
    [
        ("core", "scan", {"profiles": ["new name", "clam"], "on_blocked": "strip"}),
        ("CLAM", "scan", {"profiles": ["core", "new name"], "on_blocked": "strip"}),
        ("store", "vault", {"profile": "new name", "attachments": "all"}),
        ("exchange", "relay", {"profile": "new name"}),
    ],
)
def test_a_renamed_profile_keeps_its_references(old: str, section: str, expected: object) -> None:
    before = next(profile for profile in PROFILES if str(profile["name"]).casefold() == old.casefold())
    profiles, (rule,) = with_profile(PROFILES, [RULE], before, {**before, "name": "new name"})
    assert rule == {**RULE, section: expected}
    assert [profile["name"] for profile in profiles].count("new name") == 1


@pytest.mark.parametrize(
    ("name", "field", "task"),
    [
        ("exchange", "relay.profile", "relays"),
        ("Core", "scan.profiles[0]", "scans"),
        ("clam", "scan.profiles[1]", "scans"),
        ("STORE", "vault.profile", "stores attachments"),
    ],
)
def test_a_profile_that_a_rule_names_cannot_go(name: str, field: str, task: str) -> None:
    rule = f"The rule {task} by this server profile."
    assert uses(name, [RULE], None) == (Fault(f"rules[inbound].{field}", name, rule, "Name another one there."),)


def test_what_no_rule_names_can_go() -> None:
    assert uses("another", [RULE], "exchange") == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scan": {"profiles": ["core", "exchange"]}}, "rules[0].scan.profiles[1]"),
        ({"scan": {"profiles": ["store"]}}, "rules[0].scan.profiles[0]"),
        ({"scan": {"profiles": ["nosuch"]}}, "rules[0].scan.profiles[0]"),
        ({"vault": {"profile": "core", "attachments": "all"}}, "rules[0].vault.profile"),
        ({"vault": {"profile": "nosuch", "attachments": "all"}}, "rules[0].vault.profile"),
        ({"relay": {"profile": "clam"}}, "rules[0].relay.profile"),
    ],
)
def test_a_profile_of_another_type_or_none_is_a_fault(change: dict[str, object], field: str) -> None:
    _, _, faults = apply_document([], [], {"server_profiles": PROFILES, "rules": [{**RULE, **change}]}, prune=False)
    assert [fault.field for fault in faults] == [field]


def test_a_rule_gets_the_spelling_of_the_profiles() -> None:
    rule = respelt(RULE, str.title)
    _, (stored,), faults = apply_document([], [], {"server_profiles": PROFILES, "rules": [rule]}, prune=False)
    assert faults == ()
    assert [used.name for used in references(stored)] == ["exchange", "core", "clam", "store"]
