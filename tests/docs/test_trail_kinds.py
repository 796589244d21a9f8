"""Every kind of trail entry that a source writes is told in TRAIL_KINDS, and no other."""

import re

from posthouse.core.mail import TRAIL_KINDS
from posthouse.storage.acting import KIND_OF
from support.processes import ROOT


def test_the_trail_has_the_kinds_that_are_documented() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    written = set(re.findall(r'TrailEntry\([\w.]+(?:\(\))?, "([a-z-]+)"', sources)) | set(KIND_OF.values())
    for kinds in re.findall(r'\b_entry\(("[a-z-]+"(?: if \w+ else "[a-z-]+")?)', sources):
        written |= set(re.findall(r'"([a-z-]+)"', kinds))
    assert written == set(TRAIL_KINDS)
