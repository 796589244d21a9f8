"""What clamd answers in a TEST. Pure; of anything that is not clamd nothing is repeated.

Standards: clamd(8), commands PING, VERSION, INSTREAM.
"""

import re

NOT_CLAMD = "the server did not answer as clamd"
NO_SIGNATURES = "clamd has no signatures of ClamAV, and EICAR was not found"
NOT_FOUND = "EICAR was not found"
NO_DATABASE = "none of ClamAV"
"""For `database` of VERSION: signatures of one's own may be there all the same, only EICAR tells."""
_VERSION = re.compile(r"ClamAV ([^/\x00-\x1f]{1,40})(?:/(\d{1,9})/([A-Za-z0-9: ]{1,40}))?")
_FOUND = re.compile(r"stream: ([\w.\-:()/ ]{1,100}) FOUND")
_ERROR = re.compile(r"[\w .:()\-/]{1,150} ERROR")


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
