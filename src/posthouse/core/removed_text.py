"""The text that stands where a part was taken out. Pure; what comes from others is one line, cut."""

from posthouse.core.disposition import Finding
from posthouse.core.examination import NAME_LENGTH, ReplacePart
from posthouse.core.mime_text import one_line
from posthouse.core.scan import Verdict

_REASONS = {
    Verdict.BLOCKED: "a threat was found in it",
    Verdict.POLICY: "it is not allowed here",
    Verdict.ENCRYPTED: "it is encrypted, so that nobody could look into it",
    Verdict.AMBIGUOUS: "mail readers may differ in what they make of it",
}
_SHOWN = 200


def replaced(finding: Finding, hostname: str, mail_id: str) -> ReplacePart:
    """A text in the place of the part, which keeps its path."""
    name = one_line(finding.name)[:NAME_LENGTH]
    what = f'The attachment "{name}"' if name else "A part of this mail"
    reason = _REASONS.get(finding.verdict, "it could not be scanned")
    detail = f" ({one_line(finding.why)[:_SHOWN]})" if finding.why else ""
    text = (
        f"{what} was removed: {reason}{detail}.\n\n"
        f"Removed by {hostname}. If you need it, ask your administrator and name the mail id {mail_id}.\n"
    )
    return ReplacePart(finding.part, text.encode(), "text/plain; charset=utf-8", "removed.txt")
