"""Header fields, disclaimers and notices of a rule: what they may say, and to whom."""

import pytest

from posthouse.core.announcements import (
    AddedHeader,
    Addressee,
    Case,
    Disclaimer,
    NoticeRule,
    disclaimer_json,
    header_json,
    notice_json,
    parse_disclaimers,
    parse_headers,
    parse_notices,
)
from posthouse.core.examination import Position
from posthouse.core.faults import Fault
from posthouse.core.mime.notice_text import Style, fill

_CASES = ", ".join(Case)
_NAMED = "This field says what others say, or how the mail is to be read."
_OTHER = "Choose another name, such as X-Scanned."


def header(**given: object) -> tuple[AddedHeader, list[Fault]]:
    faults: list[Fault] = []
    (found,) = parse_headers([("headers[0]", {"name": "X-Scanned", "value": "yes", **given})], faults)
    return found, faults


def disclaimer(**given: object) -> tuple[Disclaimer, list[Fault]]:
    faults: list[Fault] = []
    (found,) = parse_disclaimers([("disclaimers[0]", {"text": "Beware.", **given})], faults)
    return found, faults


def notice(**given: object) -> tuple[NoticeRule, list[Fault]]:
    faults: list[Fault] = []
    table = {"to": ["sender"], "subject": "s", "text": "t", **given}
    (found,) = parse_notices([("notices[0]", table)], faults)
    return found, faults


def test_a_header_field_is_for_every_case_unless_it_says_which() -> None:
    found, faults = header()
    assert (found.on, found.name, fill(found.value, {}), faults) == (frozenset(), "X-Scanned", "yes", [])
    assert header(on=["blocked", "stripped", "blocked"])[0].on == {Case.BLOCKED, Case.STRIPPED}


@pytest.mark.parametrize("name", ["X A", "X:A", "Ü-Field", "X\tA"])
def test_a_name_that_no_field_has_is_a_fault(name: str) -> None:
    _, (fault, *more) = header(name=name)
    assert fault.field == "headers[0].name"
    assert more == []


def test_what_is_wrong_with_a_name_is_told() -> None:
    rule = "A field's name has printable ASCII without blanks and colons (RFC 5322 section 3.6.8)."
    assert header(name="X A")[1] == [Fault("headers[0].name", "X A", rule, "Write a name such as X-Scanned.")]


@pytest.mark.parametrize(
    "name",
    [
        *("Received", "RECEIVED", "Return-Path", "Content-Type", "MIME-Version"),
        *("X-Metadefender-To-Quarantine", "x-md-result", "Received-SPF"),
    ],
)
def test_no_rule_adds_a_field_that_readers_and_next_hops_act_by(name: str) -> None:
    assert header(name=name)[1] == [Fault("headers[0].name", name, _NAMED, _OTHER)]


@pytest.mark.parametrize(
    ("given", "field", "value", "rule"),
    [
        ({"name": None}, "name", "", "This is required."),
        ({"value": None}, "value", "", "This is required."),
        ({"value": ""}, "value", "", "0 characters are too few or too many."),
        ({"value": "a\r\nBcc: x"}, "value", "a\r\nBcc: x", "There are control characters in it."),
        ({"value": "%[x"}, "value", "%[x", "A variable is not closed."),
        ({"value": "%[]nosuch[]%"}, "value", "%[]nosuch[]%", "There is no variable 'nosuch'."),
        ({"on": ["blokced"]}, "on[0]", "blokced", f"The value must be one of {_CASES}."),
        ({"on": "blocked"}, "on", "blocked", "The value must be a list of texts."),
        ({"when": "x"}, "when", "", "There is no such setting."),
    ],
)
def test_faults_of_a_header_field(given: dict[str, object], field: str, value: str, rule: str) -> None:
    found, faults = header(**given)
    assert [(each.field, each.value, each.rule) for each in faults] == [(f"headers[0].{field}", value, rule)]
    if "value" in given:
        assert found.value.pieces == ()


def test_a_case_that_was_meant_is_told() -> None:
    assert [fault.remedy for fault in header(on=["blokced", "zz"])[1]] == [
        "Did you mean blocked?",
        f"Choose of {_CASES}.",
    ]


def test_a_disclaimer_stands_at_the_head_as_information_unless_it_says_otherwise() -> None:
    found, faults = disclaimer()
    assert faults == []
    assert (found.on, found.position, found.style) == (frozenset(), Position.HEAD, Style.INFORMATION)
    found, faults = disclaimer(on=["clean"], position="end", style="critical", text="Two\nlines")
    assert faults == []
    assert (found.on, found.position, found.style) == (frozenset({Case.CLEAN}), Position.END, Style.CRITICAL)
    assert fill(found.text, {}) == "Two\nlines"


@pytest.mark.parametrize(
    ("given", "field", "value", "rule", "remedy"),
    [
        ({"text": None}, "text", "", "This is required.", "Write a text of 1 to 10000 characters."),
        (
            {"text": "x" * 10001},
            "text",
            "x" * 199 + "…",
            "10001 characters are too few or too many.",
            "Write a text of 1 to 10000 characters.",
        ),
        ({"position": "top"}, "position", "top", "The value must be one of head, end.", "Choose one of head, end."),
        (
            {"style": "red"},
            "style",
            "red",
            "The value must be one of information, warning, critical.",
            "Choose one of information, warning, critical.",
        ),
    ],
)
def test_faults_of_a_disclaimer(given: dict[str, object], field: str, value: str, rule: str, remedy: str) -> None:
    assert disclaimer(**given)[1] == [Fault(f"disclaimers[0].{field}", value, rule, remedy)]


def test_a_notice_goes_to_those_that_it_names_once_each() -> None:
    found, faults = notice(to=["administrators", "sender", "administrators"])
    assert (found.to, faults) == ((Addressee.ADMINISTRATORS, Addressee.SENDER), [])


@pytest.mark.parametrize(
    ("given", "field", "value", "rule", "remedy"),
    [
        (
            {"to": ["recipient"]},
            "to[0]",
            "recipient",
            "The value must be one of recipients, sender, administrators.",
            "Did you mean recipients?",
        ),
        ({"to": []}, "to", "[]", "The list is empty.", "Write a list of texts with at least one entry."),
        ({"to": None}, "to", "", "This is required.", "Write a list of texts with at least one entry."),
        ({"subject": None}, "subject", "", "This is required.", "Write a text of 1 to 200 characters."),
        ({"subject": "a\nb"}, "subject", "a\nb", "There are control characters in it.", "Leave them out."),
        ({"text": None}, "text", "", "This is required.", "Write a text of 1 to 10000 characters."),
    ],
)
def test_faults_of_a_notice(given: dict[str, object], field: str, value: str, rule: str, remedy: str) -> None:
    assert notice(**given)[1] == [Fault(f"notices[0].{field}", value, rule, remedy)]


def test_every_one_of_a_list_is_looked_at_and_told_by_its_place() -> None:
    faults: list[Fault] = []
    tables = [("headers[0]", {"name": "A", "value": "x"}), ("headers[1]", {}), ("headers[2]", {"name": "X Y"})]
    assert len(parse_headers(tables, faults)) == 3
    assert [fault.field for fault in faults] == [
        "headers[1].name",
        "headers[1].value",
        "headers[2].value",
        "headers[2].name",
    ]


def test_json_is_read_back_the_same() -> None:
    written = {"on": ["sanitized", "blocked"], "name": "X-A", "value": "%[for ]email_recipients[nobody]% 100 %"}
    assert header_json(header(**written)[0]) == written
    text = {"on": [], "position": "end", "style": "warning", "text": "%[]email_subject[]%"}
    assert disclaimer_json(disclaimer(**text)[0]) == text
    told = {"on": ["failed"], "to": ["recipients", "administrators"], "subject": "%[]email_date[]%", "text": "a\nb"}
    assert notice_json(notice(**told)[0]) == told
