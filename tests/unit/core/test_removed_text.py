"""What stands in the place of a part that was taken out."""

import pytest

from posthouse.core.disposition import Finding
from posthouse.core.removed_text import replaced
from posthouse.core.scan import Verdict


def text_of(finding: Finding) -> str:
    octets = replaced(finding, "mx.ours.example", "01mail").octets
    assert isinstance(octets, bytes)
    return octets.decode()


def test_it_names_the_attachment_the_reason_and_whom_to_ask() -> None:
    finding = Finding("1.2", Verdict.BLOCKED, "Eicar-Test", name="a.exe")
    edit = replaced(finding, "mx.ours.example", "01mail")
    assert (edit.path, edit.type, edit.name) == ("1.2", "text/plain; charset=utf-8", "removed.txt")
    assert text_of(finding) == (
        'The attachment "a.exe" was removed: a threat was found in it (Eicar-Test).\n\n'
        "Removed by mx.ours.example. If you need it, ask your administrator and name the mail id 01mail.\n"
    )


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict.POLICY, "it is not allowed here"),
        (Verdict.ENCRYPTED, "it is encrypted, so that nobody could look into it"),
        (Verdict.AMBIGUOUS, "mail readers may differ in what they make of it"),
        (Verdict.FAILED, "it could not be scanned"),
    ],
)
def test_each_verdict_has_its_reason(verdict: Verdict, reason: str) -> None:
    assert text_of(Finding("1", verdict, "")).startswith(f"A part of this mail was removed: {reason}.\n")


def test_what_others_say_is_one_line_and_short() -> None:
    finding = Finding("1", Verdict.BLOCKED, "x\r\ny" * 500, name='a"\r\n.exe' * 500)
    said = text_of(finding)
    assert said.count("\n") == 3, "no line of somebody else's"
    assert len(said) < 700
