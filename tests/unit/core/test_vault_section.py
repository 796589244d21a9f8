"""The vault section of a rule: which attachments a vault keeps."""

import pytest

from posthouse.core.faults import Fault
from posthouse.core.rule import parse_rule, rule_json, without_defaults
from posthouse.core.scan_section import OnFailed, ScanSection
from posthouse.core.vault_choice import Attachments, Which
from posthouse.core.vault_section import VAULT_FIELDS, VaultSection, parse_vault, vault_json

PATH = "rules[0].vault"
SCAN = ScanSection(("core",))
SANITIZING = ScanSection(("core",), sanitize=True)
NEEDED = {"profile": "vault", "attachments": "all"}


def parsed(scan: ScanSection | None = SCAN, /, **given: object) -> tuple[VaultSection | None, list[Fault]]:
    faults: list[Fault] = []
    return parse_vault({**NEEDED, **given}, PATH, faults, scan), faults


def test_what_is_left_out_has_its_default() -> None:
    assert parsed() == (VaultSection("vault", Attachments(Which.ALL), False, 0, OnFailed.RETRY), [])


def test_every_setting_is_read() -> None:
    given = {"attachments": "larger-than 10MiB", "remove": True, "expires_days": 30, "on_failed": "bypass"}
    section = VaultSection("vault", Attachments(Which.LARGER, 10 * 1024 * 1024), True, 30, OnFailed.BYPASS)
    assert parsed(SCAN, **given) == (section, [])
    assert {*NEEDED, *given} == {spec.name for spec in VAULT_FIELDS}, "a new setting belongs here"


_CHOICES = "The value must be all, blocked, sanitized, or larger-than with a size."


@pytest.mark.parametrize(
    ("given", "field", "value", "rule", "remedy"),
    [
        (
            {"profile": None},
            "profile",
            "",
            "This is required.",
            "Write a name of 1 to 64 characters without / and control characters.",
        ),
        ({"attachments": None}, "attachments", "", "This is required.", "Write a text of 0 to 64 characters."),
        ({"attachments": "al"}, "attachments", "al", _CHOICES, "Did you mean all?"),
        (
            {"attachments": "larger-than"},
            "attachments",
            "larger-than",
            _CHOICES,
            "Write all, blocked, sanitized, or a size such as larger-than 10MiB.",
        ),
        ({"remove": "no"}, "remove", "no", "The value must be true or false.", "Write true or false."),
        (
            {"expires_days": -1},
            "expires_days",
            "-1",
            "The value is out of range.",
            "Write a whole number from 0 to 3650.",
        ),
        (
            {"expires_days": 3651},
            "expires_days",
            "3651",
            "The value is out of range.",
            "Write a whole number from 0 to 3650.",
        ),
        (
            {"on_failed": "strip"},
            "on_failed",
            "strip",
            "The value must be one of retry, fail, bypass, quarantine.",
            "Choose one of retry, fail, bypass, quarantine.",
        ),
        (
            {"keep": 1},
            "keep",
            "",
            "There is no such setting.",
            "Known here: profile, attachments, remove, expires_days, on_failed.",
        ),
        (
            {"attachments": "sanitized"},
            "attachments",
            "sanitized",
            "This rule's scan does not sanitize.",
            "Set scan.sanitize = true, or choose another value.",
        ),
    ],
)
def test_a_fault_names_field_and_value_and_what_would_be_right(
    given: dict[str, object], field: str, value: str, rule: str, remedy: str
) -> None:
    assert parsed(SCAN, **given)[1] == [Fault(f"{PATH}.{field}", value, rule, remedy)]


@pytest.mark.parametrize("attachments", ["blocked", "sanitized"])
def test_without_a_scan_there_is_nothing_blocked_or_sanitized(attachments: str) -> None:
    rule = "Without a scan nothing is blocked or sanitized."
    remedy = "Add a scan section, or choose all, or larger-than."
    assert parsed(None, attachments=attachments)[1] == [Fault(f"{PATH}.attachments", attachments, rule, remedy)]
    assert parsed(SANITIZING, attachments=attachments)[1] == []


@pytest.mark.parametrize("attachments", ["all", "larger-than 1MiB"])
def test_a_vault_needs_no_scan_for_what_nobody_has_to_look_into(attachments: str) -> None:
    assert parsed(None, attachments=attachments)[1] == []


def test_json_is_read_back_the_same() -> None:
    section, _ = parsed(SANITIZING, attachments="sanitized", remove=True, expires_days=7, on_failed="fail")
    assert section is not None
    written = vault_json(section)
    assert written == {
        "profile": "vault",
        "attachments": "sanitized",
        "remove": True,
        "expires_days": 7,
        "on_failed": "fail",
    }
    assert parsed(SANITIZING, **written) == (section, [])


def test_a_rule_carries_the_section_and_export_leaves_out_defaults() -> None:
    document = {"name": "r", "match": {"recipients": ["*@a.example"]}, "vault": NEEDED, "relay": {"profile": "x"}}
    rule, faults = parse_rule(document, "rules[0]")
    assert faults == ()
    assert rule is not None
    assert rule.examined, "its mail is looked into before it goes on"
    assert parse_rule(rule_json(rule), "rules[0]") == (rule, ())
    assert without_defaults(rule_json(rule)) == document


@pytest.mark.parametrize("vault", [5, "vault", [], True, {}])
def test_a_faulty_section_is_no_rule_without_vault(vault: object) -> None:
    document = {"name": "r", "match": {"recipients": ["*@a.example"]}, "vault": vault, "relay": {"profile": "x"}}
    rule, faults = parse_rule(document, "rules[0]")
    assert rule is None
    assert {fault.field.partition(".vault")[0] for fault in faults} == {"rules[0]"}
    assert faults != ()
