"""What clamd answers, in a TEST and to a scan. Pure; of anything that is not clamd nothing is repeated.

Standards: clamd(8), commands PING, VERSION, INSTREAM, IDSESSION; clamd.conf(5) for what is told only if it is set.
"""

import re
from dataclasses import dataclass

from posthouse.core.mime_text import one_line
from posthouse.core.scan import Engine, Failure, Found, Verdict

NOT_CLAMD = "the server did not answer as clamd"
NO_SIGNATURES = "clamd has no signatures of ClamAV, and EICAR was not found"
NOT_FOUND = "EICAR was not found"
NO_DATABASE = "none of ClamAV"
"""For `database` of VERSION: signatures of one's own may be there all the same, only EICAR tells."""
_VERSION = re.compile(r"ClamAV ([^/\x00-\x1f]{1,40})(?:/(\d{1,9})/([A-Za-z0-9: ]{1,40}))?")
_FOUND = re.compile(r"stream: ([\w.\-:()/ ]{1,100}) FOUND")
_ERROR = re.compile(r"[\w .:()\-/]{1,150} ERROR")
_NUMBERED = re.compile(r"([1-9][0-9]{0,9}): (.+)", re.DOTALL)
_SHOWN = 200
_ENGINE = "ClamAV"
_STREAM = "stream: "


def pong(reply: str) -> str:
    """Empty if PING was answered, else what is wrong."""
    return "" if reply == "PONG" else NOT_CLAMD


def version_facts(reply: str) -> tuple[dict[str, object], str]:
    """Facts of VERSION (`ClamAV 1.0.7/27411/Mon Oct 14 08:52:40 2024`), and what is wrong.

    Without the database that freshclam fetches, number and date are missing; with no signature at all clamd does not
    start.
    """
    found = _VERSION.fullmatch(reply)
    if found is None:
        return {}, NOT_CLAMD
    version, signatures, dated = found.groups()
    if signatures is None:
        return {"scanner": version, "database": NO_DATABASE}, ""
    return {"scanner": version, "signatures": int(signatures), "signatures_of": dated}, ""


def eicar_facts(reply: str, *, database: bool = True) -> tuple[dict[str, object], str]:
    """What INSTREAM found in the test pattern, and what is wrong. `database`: VERSION has told one."""
    if found := _FOUND.fullmatch(reply):
        return {"found": found[1]}, ""
    if reply == "stream: OK":
        return {}, NOT_FOUND if database else NO_SIGNATURES
    return {}, reply if _ERROR.fullmatch(reply) else NOT_CLAMD


# --- A scan ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerFault:
    """No verdict, but something about the server: another one may be asked."""

    failure: Failure
    """UNREACHABLE, BUSY or TIMEOUT."""
    sentence: str


SIZE_LIMIT = "INSTREAM size limit exceeded."
"""With ` ERROR` what clamd says, and then closes, in the middle of what is larger than its StreamMaxLength."""
GARBAGE = ServerFault(Failure.UNREACHABLE, NOT_CLAMD)
_CLEAN = Found(Verdict.CLEAN, engines=(Engine(_ENGINE, "OK"),))
_READ_TIMED_OUT = "COMMAND READ TIMED OUT"
"""clamd's last word to a client that did not go on for its CommandReadTimeout."""
_BUSY = re.compile(r"\b(?:queue (?:is )?full|busy)\b", re.IGNORECASE)
_TOO_MUCH = re.compile(r"Exceeded max|CL_EMAX|size limit|limit exceeded", re.IGNORECASE)
_TOO_SLOW = re.compile(r"Exceeded time limit|Time limit reached|CL_ETIMEOUT|timed? ?out", re.IGNORECASE)
_ENCRYPTED = "Heuristics.Encrypted."
_LIMITS = "Heuristics.Limits.Exceeded"
_KINDS = ("Heuristics.Broken.", "Heuristics.OLE2.ContainsMacros", "Heuristics.Structured.")


def numbered(reply: str) -> tuple[int, str] | None:
    """Number and text of a reply in a session (`12: stream: OK`); None if it has no number."""
    found = _NUMBERED.fullmatch(reply)
    return (int(found[1]), found[2]) if found else None


def scan_reply(text: str) -> Found | ServerFault:
    """What a reply to INSTREAM means, without its number. What is not known is never clean.

    Most names are threats. These are none, and clamd tells of them only where its administrator has switched it on:
    `Heuristics.Encrypted` (AlertEncrypted) is ENCRYPTED. `Heuristics.Limits.Exceeded` (AlertExceedsMax) is FAILED:
    it was not scanned whole. `Heuristics.Broken` (AlertBrokenExecutables, AlertBrokenMedia), `.OLE2.ContainsMacros`
    (AlertOLE2Macros) and `.Structured` (StructuredDataDetection) are POLICY: a kind of file that the administrator of
    clamd does not want, not a threat that was found in it.
    """
    if text == "stream: OK":
        return _CLEAN
    if text.startswith(_STREAM) and text.endswith(" FOUND") and len(text) > len("stream:  FOUND"):
        return _alert(_shown(text[len(_STREAM) : -len(" FOUND")]))
    if not text.endswith(" ERROR"):
        return GARBAGE
    said = _shown(text.removeprefix(_STREAM).removesuffix(" ERROR"))
    if said == _READ_TIMED_OUT or _BUSY.search(said):
        return ServerFault(Failure.BUSY, f"clamd says: {said}")
    if said == SIZE_LIMIT:
        return _failed(Failure.NOT_SCANNED, said, "It is larger than clamd takes (StreamMaxLength).")
    if _TOO_MUCH.search(said):
        return _failed(Failure.NOT_SCANNED, said, f"clamd did not scan it whole: {said}")
    if _TOO_SLOW.search(said):
        return _failed(Failure.TIMEOUT, said, f"clamd took longer than it may: {said}")
    return _failed(Failure.PROCESSING, said, f"clamd could not scan it: {said}")


def last_words(octets: bytes) -> ServerFault | None:
    """What clamd said without a number before it closed: that it would not wait, or nothing to go by."""
    if octets.strip(b"\0\n").removesuffix(b" ERROR") == _READ_TIMED_OUT.encode():
        return ServerFault(Failure.BUSY, f"clamd says: {_READ_TIMED_OUT}")
    return None


def _alert(name: str) -> Found:
    engines = (Engine(_ENGINE, "FOUND", name),)
    if name.startswith(_ENCRYPTED):
        return Found(Verdict.ENCRYPTED, reason=f"clamd: {name}", engines=engines)
    if name.startswith(_LIMITS):
        why = f"clamd did not scan it whole: {name}"
        return Found(Verdict.FAILED, reason=why, failure=Failure.NOT_SCANNED, engines=engines)
    if name.startswith(_KINDS):
        return Found(Verdict.POLICY, reason=f"clamd: {name}", engines=engines)
    return Found(Verdict.BLOCKED, name, engines=engines)


def _failed(failure: Failure, said: str, reason: str) -> Found:
    return Found(Verdict.FAILED, reason=reason, failure=failure, engines=(Engine(_ENGINE, said),))


def _shown(text: str) -> str:
    """A text of clamd's, one line, cut."""
    return one_line(text[:_SHOWN])
