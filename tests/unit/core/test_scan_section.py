"""The scan section of a rule: defaults, every fault with what is wrong and what would be right, JSON."""

import pytest

from posthouse.core import scan_section
from posthouse.core.announcements import Case
from posthouse.core.faults import Fault
from posthouse.core.rule import parse_rule, rule_json
from posthouse.core.rule import without_defaults as rule_without_defaults
from posthouse.core.scan import Failure, Verdict
from posthouse.core.scan_section import (
    ACTIONS,
    SCAN_FIELDS,
    OnFailed,
    OnVerdict,
    ScanSection,
    When,
    Where,
    parse_scan,
    scan_json,
    without_defaults,
)

PATH = "rules[0].scan"
EVERYTHING: dict[str, object] = {
    "profiles": ["core", "clam"],
    "when": "before-accept",
    "deadline_seconds": 20,
    "sanitize": True,
    "quarantine_sanitized": False,
    "on_blocked": "reject",
    "on_policy": "strip",
    "on_encrypted": "mark",
    "on_ambiguous": "discard",
    "on_failed": "quarantine",
    "on_errors": {"unreachable": "retry", "not-scanned": "bypass", "configuration": "fail"},
    "quarantine": "external",
    "core_rule": "Mail in",
    "passwords": ["infected", "1 2"],
    "block_names": ["*.exe", "*.doc?"],
    "block_types": ["application/x-dosexec", "video/*"],
    "headers": [{"on": ["clean"], "name": "X-Scanned", "value": "yes, %[]scan_verdicts[]%"}],
    "disclaimers": [{"on": ["stripped"], "position": "end", "style": "warning", "text": "A part is gone.\nAsk."}],
    "notices": [{"on": ["blocked"], "to": ["sender"], "subject": "Stopped", "text": "Your mail was stopped."}],
}


def faults(**given: object) -> list[Fault]:
    found: list[Fault] = []
    parse_scan({"profiles": ["core"], **given}, PATH, found)
    return found


def section(**given: object) -> ScanSection:
    found: list[Fault] = []
    parsed = parse_scan({"profiles": ["core"], **given}, PATH, found)
    assert found == []
    return parsed


def test_what_is_left_out_has_its_default() -> None:
    parsed = section()
    assert parsed.profiles == ("core",)
    assert (parsed.when, parsed.deadline_seconds) == (When.AFTER_ACCEPT, 30)
    assert (parsed.sanitize, parsed.quarantine_sanitized) == (False, True)
    assert parsed.on == dict.fromkeys(
        (Verdict.BLOCKED, Verdict.POLICY, Verdict.ENCRYPTED, Verdict.AMBIGUOUS), OnVerdict.QUARANTINE
    )
    assert (parsed.on_failed, parsed.on_errors, parsed.quarantine) == (OnFailed.RETRY, {}, Where.INTERNAL)
    assert (parsed.core_rule, parsed.passwords, parsed.block_names, parsed.block_types) == ("", (), (), ())
    assert (parsed.headers, parsed.disclaimers, parsed.notices) == ((), (), ())


def test_every_setting_is_read() -> None:
    parsed = section(**EVERYTHING)
    assert parsed.profiles == ("core", "clam")
    assert (parsed.when, parsed.deadline_seconds) == (When.BEFORE_ACCEPT, 20)
    assert (parsed.sanitize, parsed.quarantine_sanitized) == (True, False)
    assert parsed.on == {
        Verdict.BLOCKED: OnVerdict.REJECT,
        Verdict.POLICY: OnVerdict.STRIP,
        Verdict.ENCRYPTED: OnVerdict.MARK,
        Verdict.AMBIGUOUS: OnVerdict.DISCARD,
    }
    assert parsed.on_failed is OnFailed.QUARANTINE
    assert (parsed.quarantine, parsed.core_rule, parsed.passwords) == (Where.EXTERNAL, "Mail in", ("infected", "1 2"))
    assert [each.text for each in parsed.block_names] == ["*.exe", "*.doc?"]
    assert [each.text for each in parsed.block_types] == ["application/x-dosexec", "video/*"]
    assert [(header.on, header.name) for header in parsed.headers] == [(frozenset({Case.CLEAN}), "X-Scanned")]
    assert [disclaimer.on for disclaimer in parsed.disclaimers] == [frozenset({Case.STRIPPED})]
    assert [notice.on for notice in parsed.notices] == [frozenset({Case.BLOCKED})]
    assert set(EVERYTHING) == {spec.name for spec in SCAN_FIELDS}, "a new setting belongs here"


@pytest.mark.parametrize(
    ("failure", "action"),
    [
        (Failure.UNREACHABLE, OnFailed.RETRY),
        (Failure.NOT_SCANNED, OnFailed.BYPASS),
        (Failure.CONFIGURATION, OnFailed.FAIL),
        (Failure.TIMEOUT, OnFailed.QUARANTINE),
    ],
)
def test_a_cause_has_its_own_action_or_that_of_on_failed(failure: Failure, action: OnFailed) -> None:
    assert section(**EVERYTHING).failed_action(failure) is action


@pytest.mark.parametrize("failure", list(Failure))
def test_every_cause_can_have_its_own_action(failure: Failure) -> None:
    assert section(on_errors={failure.value: "bypass"}).failed_action(failure) is OnFailed.BYPASS


_ONE_OF_VERDICTS = "quarantine, strip, mark, discard, reject"
_ONE_OF_FAILED = "retry, fail, bypass, quarantine"
_LIST = "Write a list of texts with at least one entry."
FAULTS: list[tuple[dict[str, object], tuple[str, str, str, str]]] = [
    ({"profiles": None}, ("profiles", "", "This is required.", _LIST)),
    ({"profiles": []}, ("profiles", "[]", "The list is empty.", _LIST)),
    ({"profiles": "core"}, ("profiles", "core", "The value must be a list of texts.", _LIST)),
    ({"profiles": ["core", 5]}, ("profiles[1]", "5", "The value must be a text.", "Write a text.")),
    (
        {"profiles": ["core", "CORE"]},
        (
            "profiles[1]",
            "CORE",
            f"This is the same profile as {PATH}.profiles[0].",
            "Name each scan server profile once.",
        ),
    ),
    (
        {"when": "never"},
        (
            "when",
            "never",
            "The value must be one of after-accept, before-accept.",
            "Choose one of after-accept, before-accept.",
        ),
    ),
    (
        {"deadline_seconds": 30},
        (
            "deadline_seconds",
            "30",
            "There is no deadline after acceptance.",
            'Leave it out, or choose when = "before-accept".',
        ),
    ),
    (
        {"when": "before-accept", "deadline_seconds": 0},
        ("deadline_seconds", "0", "The value is out of range.", "Write a whole number from 1 to 300."),
    ),
    (
        {"when": "before-accept", "deadline_seconds": 301},
        ("deadline_seconds", "301", "The value is out of range.", "Write a whole number from 1 to 300."),
    ),
    ({"sanitize": "yes"}, ("sanitize", "yes", "The value must be true or false.", "Write true or false.")),
    (
        {"quarantine_sanitized": 1},
        ("quarantine_sanitized", "1", "The value must be true or false.", "Write true or false."),
    ),
    (
        {"on_ambiguous": "Quarantine"},
        ("on_ambiguous", "Quarantine", f"The value must be one of {_ONE_OF_VERDICTS}.", "Did you mean quarantine?"),
    ),
    (
        {"on_failed": "strip"},
        ("on_failed", "strip", f"The value must be one of {_ONE_OF_FAILED}.", f"Choose one of {_ONE_OF_FAILED}."),
    ),
    ({"on_errors": []}, ("on_errors", "[]", "The value must be a table.", "Write a table of names and values.")),
    (
        {"on_errors": {"busy": "strip"}},
        (
            "on_errors.busy",
            "strip",
            f"The value must be one of {_ONE_OF_FAILED}.",
            f"Choose one of {_ONE_OF_FAILED}.",
        ),
    ),
    (
        {"on_errors": {"not_scanned": "retry"}},
        ("on_errors.not_scanned", "", "There is no such setting.", "Did you mean not-scanned?"),
    ),
    (
        {"quarantine": "elsewhere"},
        (
            "quarantine",
            "elsewhere",
            "The value must be one of internal, external.",
            "Choose one of internal, external.",
        ),
    ),
    (
        {"core_rule": ""},
        ("core_rule", "", "0 characters are too few or too many.", "Write a text of 1 to 255 characters."),
    ),
    ({"passwords": 5}, ("passwords", "5", "The value must be a list of texts.", "Write a list of texts.")),
    (
        {"block_names": ["*.exe", "application/zip"]},
        ("block_names[1]", "application/zip", "This is a type.", "Write it under block_types."),
    ),
    (
        {"block_types": ["*.exe"]},
        ("block_types[0]", "*.exe", "This is no type: those have a `/`.", "Write it under block_names."),
    ),
    (
        {"block_types": ["application/*x"]},
        (
            "block_types[0]",
            "application/*x",
            "In a type filter * stands for the whole subtype only.",
            "Write application/*.",
        ),
    ),
    ({"headers": {}}, ("headers", "{}", "The value must be a list of tables.", "Write a list of tables.")),
    (
        {"disclaimers": ["Hello"]},
        ("disclaimers[0]", "Hello", "The value must be a table.", "Write a table of names and values."),
    ),
    ({"on_block": "strip"}, ("on_block", "", "There is no such setting.", "Did you mean on_blocked?")),
]


@pytest.mark.parametrize(("given", "expected"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_fault_names_field_and_value_and_what_would_be_right(
    given: dict[str, object], expected: tuple[str, str, str, str]
) -> None:
    field, *rest = expected
    assert faults(**given) == [Fault(f"{PATH}.{field}", *rest)]


@pytest.mark.parametrize("name", list(ACTIONS))
def test_reject_exists_before_acceptance_only(name: str) -> None:
    rule, remedy = (
        "Mail can be rejected only before it is accepted.",
        'Choose another action, or when = "before-accept".',
    )
    assert faults(**{name: "reject"}) == [Fault(f"{PATH}.{name}", "reject", rule, remedy)]
    assert section(**{name: "reject", "when": "before-accept"}).on[ACTIONS[name]] is OnVerdict.REJECT


@pytest.mark.parametrize(
    ("name", "most"),
    [("passwords", 50), ("block_names", 1000), ("block_types", 1000)],
)
def test_lists_are_bounded(name: str, most: int) -> None:
    entry = "a/b" if name == "block_types" else "a"
    assert faults(**{name: [entry] * most}) == []
    (fault,) = faults(**{name: [entry] * (most + 1)})
    assert (fault.field, fault.rule) == (
        f"{PATH}.{name}",
        f"The list has {most + 1} entries, {most} at most are allowed.",
    )


def test_all_faults_come_at_once() -> None:
    found = faults(
        profiles=["core", "Core"],
        when="later",
        on_blocked="reject",
        on_errors={"busy": "x"},
        block_names=["a/b"],
        headers=[{"name": "X A", "value": "x"}],
        disclaimers=[{"text": "%[]nosuch[]%"}],
        notices=[{"to": ["nobody"], "subject": "s", "text": "t"}],
        extra=1,
    )
    assert {fault.field.removeprefix(f"{PATH}.") for fault in found} == {
        *("profiles[1]", "when", "on_blocked", "on_errors.busy", "block_names[0]", "headers[0].name"),
        *("disclaimers[0].text", "notices[0].to[0]", "extra"),
    }
    assert len(found) == 9


def test_json_is_read_back_the_same() -> None:
    parsed = section(**EVERYTHING)
    assert scan_json(parsed) == EVERYTHING
    assert section(**scan_json(parsed)) == parsed


def test_json_has_the_defaults_but_nothing_empty() -> None:
    assert scan_json(section()) == {
        "profiles": ["core"],
        "when": "after-accept",
        "sanitize": False,
        "quarantine_sanitized": True,
        **dict.fromkeys(ACTIONS, "quarantine"),
        "on_failed": "retry",
        "quarantine": "internal",
    }
    assert section(**scan_json(section())) == section()


def test_export_has_what_is_not_default() -> None:
    assert without_defaults(scan_json(section())) == {"profiles": ["core"]}
    assert without_defaults(scan_json(section(when="before-accept"))) == {
        "profiles": ["core"],
        "when": "before-accept",
    }
    assert without_defaults(EVERYTHING) == EVERYTHING


def test_a_rule_carries_the_section() -> None:
    document = {
        "name": "r",
        "match": {"recipients": ["*@ours.example"]},
        "scan": EVERYTHING,
        "relay": {"profile": "x"},
    }
    parsed, found = parse_rule(document, "rules[0]")
    assert found == ()
    assert parsed is not None
    assert parsed.scan == section(**EVERYTHING)
    assert parse_rule(rule_json(parsed), "rules[0]") == (parsed, ())
    assert rule_without_defaults(rule_json(parsed)) == document
    assert scan_section.without_defaults(rule_json(parsed)["scan"]) == EVERYTHING  # type: ignore[arg-type]


@pytest.mark.parametrize("scan", [5, "core", [], True])
def test_a_section_that_is_no_table_is_a_fault_and_no_rule_without_scan(scan: object) -> None:
    document = {"name": "r", "match": {"recipients": ["*@a.example"]}, "scan": scan, "relay": {"profile": "x"}}
    parsed, found = parse_rule(document, "rules[0]")
    assert parsed is None
    assert [fault.field for fault in found] == ["rules[0].scan"]
