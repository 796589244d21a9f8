"""The collection of raw sessions, where it is there: for DATA and BDAT, whole and cut, in both newline modes."""

import json
from dataclasses import replace

import pytest

from posthouse.core.smtp_data import Newlines
from posthouse.core.smtp_server import ServerSession
from support.corpus import corpus
from support.receiving import Dialogue, assert_wire_form, chunked, converse, new_session

_FOLDER = corpus()
CASES: list[dict[str, object]] = (
    json.loads((_FOLDER / "smtp-sessions" / "cases.json").read_text())["cases"] if _FOLDER else []
)
CODES = {
    "bare-lf-in-command": {500, 501},
    "bdat-neg": {501},
    "ehlo-resets": {503},
    "vrfy": {252, 502},
    "xclient-unauth": {500, 550},
    "helo-long": {250, 501},
}
"""Of the last reply before QUIT, where the case names it."""


def pieces_of(case: dict[str, object]) -> list[bytes]:
    chunks = case["chunks"]
    assert isinstance(chunks, list)
    return [str(chunk).encode("latin-1") for chunk in chunks]


def as_bdat(pieces: list[bytes]) -> list[bytes] | None:
    """The same with BDAT: what stood between DATA and the first CRLF.CRLF is the content."""
    if b"DATA\r\n" not in pieces:
        return None
    at = pieces.index(b"DATA\r\n")
    rest = b"".join(pieces[at + 1 :])
    end = rest.find(b"\r\n.\r\n")
    if end < 0:
        return None
    content = rest[: end + 2]
    return [*pieces[:at], b"BDAT %d LAST\r\n" % len(content) + content, rest[end + 5 :]]


def session(case: dict[str, object], newlines: Newlines) -> ServerSession:
    return new_session(newlines, offers={"starttls": case["cls"] == "starttls-injection"})


def inside(address: str) -> bool:
    return address == "postmaster" or address.endswith("@inside.example")


def check(case: dict[str, object], seen: Dialogue) -> None:
    assert len(seen.mails) <= int(str(case.get("max_messages", 1)))
    assert all(code < 600 for code in seen.codes)
    assert not any(octet < 32 and octet not in (10, 13) for octet in seen.replies)
    for mail in seen.mails:
        assert_wire_form(mail.wire)
        assert mail.envelope.reverse_path != case.get("forbidden_envelope_sender")
        assert all(inside(recipient.address) for recipient in mail.envelope.recipients)
    codes = seen.codes
    if case["cls"] == "open-relay":
        assert (codes[2] == 250) is case["local_ok"]
    if case["cls"] == "command-arguments":
        good = {"mail-arg-ipv6-literal"}
        assert (codes[1] == 250) is (str(case["id"]) in good)
        assert 250 not in codes[2:]
    expected = CODES.get(str(case["id"]))
    if expected:
        assert codes[-1] in expected


@pytest.mark.parametrize("newlines", list(Newlines))
@pytest.mark.parametrize("case", CASES, ids=[str(case["id"]) for case in CASES])
def test_session_of_the_collection_behaves_whole_and_in_fifty_cuts(
    case: dict[str, object], newlines: Newlines
) -> None:
    for pieces in filter(None, (pieces_of(case), as_bdat(pieces_of(case)))):
        as_sent = converse(pieces, session(case, newlines), inside)
        check(case, as_sent)
        whole = b"".join(pieces)
        if case["id"] in ("starttls-inject-mail", "pipeline-data-body", "early-talker"):
            check(case, converse([whole], session(case, newlines), inside))
        for seed in range(50):
            # Each command group is cut by itself where the cut decides on purpose (octets behind STARTTLS).
            parts = [part for piece in pieces for part in chunked(piece, seed)]
            if case["id"] == "starttls-inject-mail":
                check(case, converse(parts, session(case, newlines), inside))
                continue
            cut = converse(parts, session(case, newlines), inside)
            assert replace(cut, refused=as_sent.refused) == as_sent, seed
            check(case, converse(chunked(whole, seed), session(case, newlines), inside))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["cls"] == "smtp-smuggling"], ids=lambda case: case["id"]
)
def test_smuggling_case_is_one_mail_when_normalised_by_data_and_by_bdat(case: dict[str, object]) -> None:
    for pieces in (pieces_of(case), as_bdat(pieces_of(case))):
        assert pieces is not None
        seen = converse(pieces, session(case, Newlines.NORMALISE), inside)
        assert len(seen.mails) == 1
        assert seen.mails[0].envelope.reverse_path == "a@sender.example"


if not CASES:  # nothing to collect: an empty parameter set would show as skipped
    del test_session_of_the_collection_behaves_whole_and_in_fifty_cuts
    del test_smuggling_case_is_one_mail_when_normalised_by_data_and_by_bdat
