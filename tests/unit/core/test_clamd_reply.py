"""What clamd's replies to a scan mean: nothing but `stream: OK` is clean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.clamd_reply import GARBAGE, ServerFault, last_words, numbered, scan_reply
from posthouse.core.scan import Failure, Found, Verdict


def found(text: str) -> Found:
    said = scan_reply(text)
    assert isinstance(said, Found), said
    return said


def test_clean() -> None:
    assert found("stream: OK").verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "name",
    [
        "Win.Test.EICAR_HDB-1",
        "{HEX}php.cmdshell.unclassed.344.UNOFFICIAL",
        "Local.Eicar.UNOFFICIAL(44d88612fea8a8f36de82e1278abb02f:68)",
        "Heuristics.Phishing.Email.SpoofedDomain",
        "Heuristics.EncryptedLooking",
        "OK",
    ],
)
def test_a_threat(name: str) -> None:
    said = found(f"stream: {name} FOUND")
    assert (said.verdict, said.threat, said.failure) == (Verdict.BLOCKED, name, None)
    assert said.engines[0].threat == name


@pytest.mark.parametrize(
    ("text", "verdict", "failure"),
    [
        ("stream: Heuristics.Encrypted.Zip FOUND", Verdict.ENCRYPTED, None),
        ("stream: Heuristics.Encrypted.PDF FOUND", Verdict.ENCRYPTED, None),
        ("stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND", Verdict.FAILED, Failure.NOT_SCANNED),
        ("stream: Heuristics.Limits.Exceeded FOUND", Verdict.FAILED, Failure.NOT_SCANNED),
        ("stream: Heuristics.Broken.Executable FOUND", Verdict.POLICY, None),
        ("stream: Heuristics.OLE2.ContainsMacros.VBA FOUND", Verdict.POLICY, None),
        ("stream: Heuristics.Structured.CreditCardNumber FOUND", Verdict.POLICY, None),
        ("INSTREAM size limit exceeded. ERROR", Verdict.FAILED, Failure.NOT_SCANNED),
        ("stream: Exceeded max scan size ERROR", Verdict.FAILED, Failure.NOT_SCANNED),
        ("stream: Exceeded time limit ERROR", Verdict.FAILED, Failure.TIMEOUT),
        ("stream: Can't allocate memory ERROR", Verdict.FAILED, Failure.PROCESSING),
        ("Command invalid inside IDSESSION. ERROR", Verdict.FAILED, Failure.PROCESSING),
    ],
)
def test_no_threat_and_not_clean(text: str, verdict: Verdict, failure: Failure | None) -> None:
    said = found(text)
    assert (said.verdict, said.failure, said.threat) == (verdict, failure, "")
    assert said.reason


@pytest.mark.parametrize("text", ["COMMAND READ TIMED OUT ERROR", "Queue full. ERROR", "Scanner busy ERROR"])
def test_busy(text: str) -> None:
    said = scan_reply(text)
    assert isinstance(said, ServerFault)
    assert said.failure is Failure.BUSY
    assert said.sentence == f"clamd says: {text.removesuffix(' ERROR')}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK",
        "stream: ok",
        "stream: OK ",
        " stream: OK",
        "stream:  FOUND",
        "stream: FOUND",
        "HTTP/1.1 200 OK",
        "PONG",
    ],
)
def test_what_is_not_known_is_garbage(text: str) -> None:
    assert scan_reply(text) is GARBAGE


def test_texts_of_clamd_are_one_line_and_cut() -> None:
    said = found(f"stream: a\r\nb{'c' * 500} FOUND")
    assert said.threat == "a??b" + "c" * 196
    error = found(f"stream: a\n{'c' * 500} ERROR")
    assert error.reason.startswith("clamd could not scan it: a?c")
    assert len(error.reason) < 240


@given(st.text())
def test_only_one_text_is_clean(text: str) -> None:
    for each in (text, f"stream: {text}", f"stream: {text} FOUND", f"stream: {text} ERROR"):
        said = scan_reply(each)
        assert (isinstance(said, Found) and said.verdict is Verdict.CLEAN) == (each == "stream: OK")


def test_numbers() -> None:
    assert numbered("12: stream: OK") == (12, "stream: OK")
    assert numbered("1: stream: a\nb FOUND") == (1, "stream: a\nb FOUND")
    for bad in (
        "stream: OK",
        "0: stream: OK",
        "01: stream: OK",
        "-1: x",
        "١: stream: OK",
        "1:",
        "1: ",
        "9" * 11 + ": x",
    ):
        assert numbered(bad) is None


def test_the_last_words_of_clamd() -> None:
    said = last_words(b"COMMAND READ TIMED OUT\n")
    assert said is not None
    assert said.failure is Failure.BUSY
    for other in (b"", b"1: stream: OK", b"stream: OK", b"220 mail ESMTP\r\n"):
        assert last_words(other) is None
