"""What MetaDefender Core's answers say: every code, and everything that an answer may lack or lie about."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core import core_answer
from posthouse.core.core_answer import Decided, Gone, ServerFault, Unfinished
from posthouse.core.http_ladder import Answer
from posthouse.core.scan import Engine, Failure, Found, Verdict

ID = "61dffeaa728844adbf49eb090e4ece0e"
SHA = "ab" * 32
THREATS, POLICIES, LOCKED = (1, 2, 4, 8, 18, 21, 22), (17, 20, 23), (12, 15)
NOT_SCANNED, BROKEN_OFF, CLEAN = (9, 10, 13, 14, 16), (3, 19), (0, 7)
CODES = (*range(24), 255)
Twist = Callable[[dict[str, Any]], object]


def document(result: str = "Allowed", code: object = 0, **process: Any) -> dict[str, Any]:
    return {
        "data_id": ID,
        "file_info": {"sha256": SHA},
        "process_info": {"result": result, "progress_percentage": 100, "blocked_reason": "", **process},
        "scan_results": {"data_id": ID, "progress_percentage": 100, "scan_all_result_i": code, "scan_details": {}},
    }


def read(value: object, *, sanitize: bool = False, status: int = 200) -> core_answer.Reading:
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return core_answer.result(Answer(status, octets), ID, SHA, sanitize=sanitize)


def decided(value: object, *, sanitize: bool = False) -> Decided:
    reading = read(value, sanitize=sanitize)
    assert isinstance(reading, Decided)
    return reading


def said(value: object, *, sanitize: bool = False) -> tuple[Verdict, Failure | None]:
    found = decided(value, sanitize=sanitize).found
    return found.verdict, found.failure


# --- codes -------------------------------------------------------------------------------------------


def expected(code: int, *, blocked: bool) -> tuple[Verdict, Failure | None]:
    if code in CLEAN:
        return (Verdict.POLICY, None) if blocked else (Verdict.CLEAN, None)
    for codes, verdict, failure in (
        (THREATS, Verdict.BLOCKED, None),
        (POLICIES, Verdict.POLICY, None),
        (LOCKED, Verdict.ENCRYPTED, None),
        (NOT_SCANNED, Verdict.FAILED, Failure.NOT_SCANNED),
        (BROKEN_OFF, Verdict.FAILED, Failure.PROCESSING),
    ):
        if code in codes:
            return verdict, failure
    return (Verdict.BLOCKED, None) if blocked else (Verdict.FAILED, Failure.PROCESSING)


@pytest.mark.parametrize("code", [*CODES[:-1], 24, 254, 256, -1, 10**30])
@pytest.mark.parametrize("result", ["Allowed", "Blocked"])
def test_a_code(code: int, result: str) -> None:
    assert said(document(result, code)) == expected(code, blocked=result == "Blocked")


@pytest.mark.parametrize("result", ["Allowed", "Blocked", "Processing"])
def test_in_progress_waits_whatever_else_is_said(result: str) -> None:
    assert read(document(result, 255)) == Unfinished()


@pytest.mark.parametrize("code", CODES)
def test_processing_waits_with_every_code(code: int) -> None:
    assert read(document("Processing", code)) == Unfinished()


@pytest.mark.parametrize("code", ["0", None, 0.0, False, True, [0], {}])
def test_a_code_that_is_no_number_is_not_clean(code: object) -> None:
    assert said(document("Allowed", code)) == (Verdict.FAILED, Failure.PROCESSING)
    assert said(document("Blocked", code)) == (Verdict.BLOCKED, None)


@pytest.mark.parametrize(
    ("reason", "verdicts", "verdict"),
    [
        ("Infected", [], Verdict.BLOCKED),
        ("", ["Suspicious"], Verdict.BLOCKED),
        ("Password Protected Document", [], Verdict.ENCRYPTED),
        ("", ["Encrypted Archive"], Verdict.ENCRYPTED),
        ("Filetype blocked", [7, None], Verdict.POLICY),
    ],
)
def test_blocked_although_nothing_was_found_goes_by_the_reason(
    reason: str, verdicts: list[object], verdict: Verdict
) -> None:
    found = decided(document("Blocked", 0, blocked_reason=reason, verdicts=verdicts)).found
    assert (found.verdict, found.reason) == (verdict, reason or "No Threat Detected")


# --- results -----------------------------------------------------------------------------------------


def test_a_threat_is_told_with_its_engines() -> None:
    value = document("Blocked", 1, blocked_reason="Infected\r\nX: y" + "z" * 300)
    value["scan_results"]["scan_details"] = {
        "A": {"scan_result_i": 0, "threat_found": ""},
        "B": {"scan_result_i": 1, "threat_found": "Eicar\n"},
        "C": "odd",
    }
    found = decided(value).found
    assert found.threat == "Eicar?"
    assert found.data_id == ID
    assert found.reason == ("Infected??X: y" + "z" * 300)[:200]
    assert found.engines == (Engine("A", "No Threat Detected"), Engine("B", "Infected", "Eicar?"))


def test_engines_are_bounded() -> None:
    value = document()
    value["scan_results"]["scan_details"] = {f"e{n}": {"scan_result_i": 0} for n in range(500)}
    assert len(decided(value).found.engines) == 50


def progress(process: object, scan: object) -> Twist:
    def change(value: dict[str, Any]) -> None:
        for name, told in (("process_info", process), ("scan_results", scan)):
            if told is None:
                del value[name]["progress_percentage"]
            else:
                value[name]["progress_percentage"] = told

    return change


@pytest.mark.parametrize("pair", [(99, 100), (100, 99), (0, None), (None, 50), (50, 50)])
def test_both_progress_values_must_be_100(pair: tuple[object, object]) -> None:
    value = document()
    progress(*pair)(value)
    assert read(value) == Unfinished()


@pytest.mark.parametrize("pair", [(100, None), (None, 100)])
def test_one_progress_value_will_do(pair: tuple[object, object]) -> None:
    value = document()
    progress(*pair)(value)
    assert said(value) == (Verdict.CLEAN, None)


LIES: dict[str, Twist] = {
    "another data_id": lambda v: v.update(data_id="f" * 32),
    "no data_id": lambda v: v.pop("data_id"),
    "another data_id within": lambda v: v["scan_results"].update(data_id="f" * 32),
    "another sha256": lambda v: v["file_info"].update(sha256="cd" * 32),
    "no sha256": lambda v: v["file_info"].pop("sha256"),
    "a sha256 that is no text": lambda v: v["file_info"].update(sha256=7),
    "no file_info": lambda v: v.pop("file_info"),
    "file_info is no table": lambda v: v.update(file_info=[SHA]),
    "no process_info": lambda v: v.pop("process_info"),
    "process_info is a text": lambda v: v.update(process_info="Allowed"),
    "no scan_results": lambda v: v.pop("scan_results"),
    "scan_results is a list": lambda v: v.update(scan_results=[]),
    "no result": lambda v: v["process_info"].pop("result"),
    "another result": lambda v: v["process_info"].update(result="Clean"),
    "result in lower case": lambda v: v["process_info"].update(result="allowed"),
    "result is a list": lambda v: v["process_info"].update(result=["Allowed"]),
    "no code": lambda v: v["scan_results"].pop("scan_all_result_i"),
    "no progress": progress(None, None),
    "progress above 100": progress(101, 100),
    "progress below 0": progress(100, -1),
    "progress is true": progress(True, 100),
    "progress is a text": progress("100", 100),
    "progress with a fraction": progress(100.0, 100),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_odd_is_not_clean(lie: str) -> None:
    value = document()
    LIES[lie](value)
    assert said(value) == (Verdict.FAILED, Failure.PROCESSING)


def test_blocked_stands_without_a_sha256_but_not_with_another_one() -> None:
    value = document("Blocked", 1)
    del value["file_info"]
    assert said(value) == (Verdict.BLOCKED, None)
    value["file_info"] = {"sha256": "cd" * 32}
    assert said(value) == (Verdict.FAILED, Failure.PROCESSING)


def test_a_sha256_in_capitals_is_the_same() -> None:
    value = document()
    value["file_info"]["sha256"] = SHA.upper()
    assert said(value) == (Verdict.CLEAN, None)


@pytest.mark.parametrize("value", [{ID: "Not Found"}, {}, {"err": "no"}, {"data_id": ID}])
def test_a_result_that_is_not_there(value: object) -> None:
    assert read(value) == Gone()
    assert read(value, status=404) == Gone()


@pytest.mark.parametrize(
    "octets", [b"", b"<html>ok</html>", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000]
)
def test_garbage_is_the_servers_fault(octets: bytes) -> None:
    reading = read(octets)
    assert isinstance(reading, ServerFault)
    assert reading.failure is Failure.UNREACHABLE


def test_a_result_that_is_too_long_is_of_the_file() -> None:
    answer = Answer(200, json.dumps(document()).encode(), whole=False)
    reading = core_answer.result(answer, ID, SHA)
    assert isinstance(reading, Decided)
    assert (reading.found.verdict, reading.found.failure) == (Verdict.FAILED, Failure.PROCESSING)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["Allowed", SHA, ID]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [*document(), *document()["process_info"], *document()["scan_results"], "post_processing"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_no_document_raises_or_is_clean_without_all_it_needs(value: object, sanitize: bool) -> None:
    reading = read(json.dumps(value).encode(), sanitize=sanitize)
    if isinstance(reading, Decided) and reading.found.verdict is Verdict.CLEAN:
        assert isinstance(value, dict)
        assert value["data_id"] == ID
        assert value["file_info"]["sha256"].lower() == SHA
        assert value["process_info"]["result"] == "Allowed"


# --- statuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        ((503, 429), Failure.BUSY),
        ((500, 502, 504, 599, 301, 307, 204, 206, 408), Failure.UNREACHABLE),
        ((400, 401, 403, 405, 411, 422), Failure.CONFIGURATION),
    ],
)
def test_a_status(statuses: tuple[int, ...], failure: Failure) -> None:
    for status in statuses:
        answer = Answer(status, b'{"err": "so it\\nis", "data_id": "a", "batch_id": "a"}')
        for reading in (
            core_answer.result(answer, ID, SHA),
            core_answer.data_id(answer),
            core_answer.batch_id(answer),
        ):
            assert isinstance(reading, ServerFault)
            assert reading.failure is failure
            assert reading.why.endswith(f"answers {status}: so it?is")


@pytest.mark.parametrize(
    ("status", "err"), [(413, ""), (400, "File is too large"), (403, "Exceeded maximum file size of the rule")]
)
def test_a_file_that_is_too_large_is_no_fault_of_the_server(status: int, err: str) -> None:
    reading = core_answer.data_id(Answer(status, json.dumps({"err": err}).encode()))
    assert isinstance(reading, Decided)
    assert (reading.found.verdict, reading.found.failure) == (Verdict.FAILED, Failure.NOT_SCANNED)


@pytest.mark.parametrize("told", [None, 7, "", "a/b", "../x", "a b", "a\r\nX: y", "x" * 129])
def test_an_id_that_is_none(told: object) -> None:
    for read_id in (core_answer.data_id, core_answer.batch_id):
        reading = read_id(Answer(200, json.dumps({"data_id": told, "batch_id": told}).encode()))
        assert isinstance(reading, ServerFault)
        assert reading.failure is Failure.UNREACHABLE


# --- sanitized files ---------------------------------------------------------------------------------


def post(ran: object = "", not_done: object = "", **more: Any) -> dict[str, Any]:
    return {"post_processing": {"actions_ran": ran, "actions_failed": not_done, **more}}


@pytest.mark.parametrize("ran", ["Sanitized", "PAscript | Sanitized", " sanitized|x", ["Sanitized"]])
def test_a_sanitized_file_is_there(ran: object) -> None:
    value = document(**post(ran))
    assert decided(value, sanitize=True).sanitized
    assert not decided(value).sanitized


@pytest.mark.parametrize("ran", ["", None, 7, "NotSanitized", "Sanitized by nobody", {"Sanitized": 1}])
def test_no_sanitized_file_is_there(ran: object) -> None:
    reading = decided(document(**post(ran)), sanitize=True)
    assert (reading.sanitized, reading.found.verdict) == (False, Verdict.CLEAN)


def test_what_could_not_be_sanitized_is_failed_only_where_it_was_wanted() -> None:
    details = {"sanitization_details": {"failure_category": "password protected"}}
    value = document(**post("Sanitized", "PAscript | Sanitization Failed", **details))
    assert said(value) == (Verdict.CLEAN, None)
    reading = decided(value, sanitize=True)
    assert (reading.found.verdict, reading.found.failure) == (Verdict.FAILED, Failure.SANITIZE)
    assert (reading.sanitized, reading.found.reason) == (False, "password protected")


def test_core_blocks_what_it_could_not_sanitize() -> None:
    value = document("Blocked", 0, blocked_reason="Sanitization Failed")
    assert said(value, sanitize=True) == (Verdict.FAILED, Failure.SANITIZE)
    assert said(value) == (Verdict.POLICY, None)


@pytest.mark.parametrize("code", [1, 12, 17, 10])
def test_a_bad_file_stays_bad_though_there_is_a_sanitized_one(code: int) -> None:
    reading = decided(document("Allowed", code, **post("Sanitized", "Sanitization Failed")), sanitize=True)
    assert not reading.sanitized
    assert (reading.found.verdict, reading.found.failure) == expected(code, blocked=False)


@pytest.mark.parametrize(("status", "whole"), [(404, True), (405, True), (200, False)])
def test_a_sanitized_file_that_cannot_be_had(status: int, whole: bool) -> None:
    found = core_answer.sanitized_file(Answer(status, b'{"err": "File could not be found"}', whole))
    assert isinstance(found, Found)
    assert (found.verdict, found.failure) == (Verdict.FAILED, Failure.SANITIZE)


def test_a_sanitized_file_that_the_server_cannot_give_now() -> None:
    found = core_answer.sanitized_file(Answer(500, b""))
    assert isinstance(found, ServerFault)
    assert core_answer.sanitized_file(Answer(200, b"")) is None


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a%20b.docx"', "a b.docx"),
        ("attachment; filename=a.pdf", "a.pdf"),
        ("attachment; filename*=UTF-8''%E2%82%AC.pdf; filename=x.pdf", "€.pdf"),
        ('attachment; FileName = "x.pdf"', "x.pdf"),
        ('attachment; filename="..%2F..%2Fetc%2Fpasswd"', "passwd"),
        ('attachment; filename="c:%5Ctemp%5Cx.doc"', "x.doc"),
        ('attachment; filename="a%0D%0AX%3A%20y.doc"', "aX y.doc"),
        ('attachment; filename="%E2%80%AEcod.exe"', "cod.exe"),
        ('attachment; filename="%FF%FE.doc"', "doc"),
        ('attachment; filename="..."', ""),
        ('attachment; filename=""', ""),
        ("attachment", ""),
        ("", ""),
        (f'attachment; filename="{"a" * 300}.docx"', "a" * 250 + ".docx"),
        (f'attachment; filename="{"a" * 300}"', "a" * 255),
        (f'attachment; filename="a.{"b" * 300}"', "a." + "b" * 253),
    ],
)
def test_the_name_of_a_sanitized_file(disposition: str, name: str) -> None:
    assert core_answer.sanitized_name(disposition) == name


@given(st.text(max_size=300))
def test_a_name_is_always_safe(text: str) -> None:
    name = core_answer.sanitized_name(f'attachment; filename="{text}"')
    assert len(name) <= 255
    assert name.isprintable()
    assert not set(name) & set("/\\")
