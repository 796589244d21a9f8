"""Which attachments go to a vault: the setting, and what it chooses."""

import pytest

from posthouse.core.examination import PartFacts
from posthouse.core.faults import Fault
from posthouse.core.scan import Verdict
from posthouse.core.vault_choice import Attachments, Which, chosen, parse_attachments

MIB = 1024 * 1024


def part(
    path: str, size: int = 10, *, attachment: bool = True, inline: bool = False, sha256: str = "00"
) -> PartFacts:
    return PartFacts(path, "application/pdf", (), (), size, attachment, inline, sha256=sha256)


TEXT = part("1.1", attachment=False)
IMAGE = part("1.2", 99 * MIB, inline=True)
SMALL = part("2")
LARGE = part("3", 11 * MIB)
PARTS = (part("1", 0, attachment=False, sha256=""), TEXT, IMAGE, SMALL, LARGE)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("all", Attachments(Which.ALL)),
        ("blocked", Attachments(Which.BLOCKED)),
        ("sanitized", Attachments(Which.SANITIZED)),
        ("larger-than 10MiB", Attachments(Which.LARGER, 10 * MIB)),
        ("larger-than 10 KiB", Attachments(Which.LARGER, 10240)),
        (" larger-than  4096 ", Attachments(Which.LARGER, 4096)),
        ("larger-than 0", Attachments(Which.LARGER, 0)),
    ],
)
def test_a_setting_is_read_and_written_back(text: str, setting: Attachments) -> None:
    assert parse_attachments(text, "v") == setting
    assert parse_attachments(str(setting), "v") == setting


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "such as larger-than 10MiB"),
        ("ALL", "Did you mean all?"),
        ("bloked", "Did you mean blocked?"),
        ("none", "such as larger-than 10MiB"),
        ("all 10MiB", "such as larger-than 10MiB"),
        ("larger-than", "such as larger-than 10MiB"),
        ("larger-than -1", "such as larger-than 10MiB"),
        ("larger-than 10MB", "such as larger-than 10MiB"),
        ("larger-than 10MiB 5", "such as larger-than 10MiB"),
        ("larger than 10MiB", "such as larger-than 10MiB"),
        ("10MiB", "such as larger-than 10MiB"),
    ],
)
def test_another_setting_is_a_fault_with_its_remedy(text: str, remedy: str) -> None:
    fault = parse_attachments(text, "rules[0].vault.attachments")
    assert isinstance(fault, Fault)
    assert (fault.field, fault.value, remedy in fault.remedy) == ("rules[0].vault.attachments", text, True)


def choose(text: str, *parts: PartFacts, **verdicts: Verdict) -> tuple[str, ...]:
    setting = parse_attachments(text, "v")
    assert isinstance(setting, Attachments)
    return chosen(setting, parts or PARTS, {path.lstrip("p"): verdict for path, verdict in verdicts.items()})


def test_texts_and_inline_images_always_stay() -> None:
    assert choose("all") == ("2", "3")
    assert choose("larger-than 0") == ("2", "3")
    every = {f"p{each.path}": Verdict.BLOCKED for each in PARTS}
    assert choose("blocked", **every) == ("2", "3")
    assert choose("sanitized", **dict.fromkeys(every, Verdict.SANITIZED)) == ("2", "3")


def test_larger_means_more_octets_than_told() -> None:
    assert choose("larger-than 10MiB") == ("3",)
    assert choose("larger-than 11MiB") == ()
    assert choose("larger-than 11534335") == ("3",)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_makes_an_attachment_one_that_is_chosen(verdict: Verdict) -> None:
    stopped = verdict not in (Verdict.CLEAN, Verdict.SANITIZED, Verdict.FAILED)
    assert choose("blocked", p2=verdict) == (("2",) if stopped else ())
    assert choose("sanitized", p2=verdict) == (("2",) if verdict is Verdict.SANITIZED else ())
    assert choose("all", p2=verdict) == ("2", "3")


def test_no_link_to_a_blocked_attachment_because_of_its_size() -> None:
    assert choose("larger-than 10MiB", p3=Verdict.BLOCKED) == ()
    assert choose("larger-than 10MiB", p3=Verdict.SANITIZED) == ("3",)


def test_of_attachments_in_each_other_the_outermost() -> None:
    message = (part("1", attachment=False), part("2"), part("2.1"), part("2.1.1"), part("21"), part("3.1"))
    assert choose("all", *message) == ("2", "21", "3.1")
    assert choose("blocked", *message, **{"p2.1": Verdict.BLOCKED, "p2.1.1": Verdict.BLOCKED}) == ("2.1",)


def test_of_an_attached_multipart_its_parts() -> None:
    assert choose("all", part("2", 0, sha256=""), part("2.1"), part("2.2", attachment=False)) == ("2.1",)


def test_what_is_uploaded_of_a_sanitized_attachment() -> None:
    assert [Attachments(which).originals for which in Which] == [False, True, True, False]
