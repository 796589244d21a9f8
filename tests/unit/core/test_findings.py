"""One finding for each item: the strictest of what any scanner said and any filter of the rule matched."""

import itertools
from collections.abc import Mapping, Sequence

import pytest

from posthouse.core.disposition import Finding
from posthouse.core.examination import Examination, Item, ItemKind, PartFacts, Place
from posthouse.core.findings import findings_of
from posthouse.core.part_filter import PartFilter, parse_filter
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.scan_section import OnFailed, ScanSection

CLEAN = Found(Verdict.CLEAN)
RULE = ScanSection(("core", "clam"))


def item(
    path: str = "",
    names: tuple[str, ...] = (),
    types: tuple[str, ...] = (),
    kind: ItemKind | None = None,
    part: str | None = None,
) -> Item:
    kind = kind or (ItemKind.PART if path else ItemKind.MAIL)
    return Item(kind, path, path if part is None else part, names, types, Place(False, 0, 1), "00" * 32)


MAIL = item()


def examined(*items: Item, parts: Sequence[PartFacts] = (), ambiguous: tuple[str, ...] = ()) -> Examination:
    return Examination((MAIL, *items), tuple(parts), ambiguous)


def found(
    examination: Examination, *told: Mapping[int, Found], section: ScanSection | None = RULE
) -> list[tuple[str, Verdict, str]]:
    return [(each.part, each.verdict, each.why) for each in findings_of(examination, section, told)]


def everything_clean(examination: Examination) -> dict[int, Found]:
    return dict.fromkeys(range(len(examination.items)), CLEAN)


def filters(*texts: str) -> tuple[PartFilter, ...]:
    parsed = [parse_filter(text) for text in texts]
    assert all(isinstance(each, PartFilter) for each in parsed)
    return tuple([each for each in parsed if isinstance(each, PartFilter)])


def test_what_every_scanner_finds_clean_is_clean() -> None:
    mail = examined(item("1"))
    clean = everything_clean(mail)
    assert found(mail, clean, clean) == [("", Verdict.CLEAN, ""), ("1", Verdict.CLEAN, "")]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(Verdict, 2)))
def test_of_two_scanners_the_stricter_holds_whichever_is_asked_first(one: Verdict, other: Verdict) -> None:
    """`Verdict` is in the order of strictness."""
    mail = examined()
    for pair in ((one, other), (other, one)):
        told = [{0: Found(verdict, reason=verdict.value)} for verdict in pair]
        ((_, verdict, why),) = found(mail, *told)
        assert (verdict, why) == (other, other.value)


def test_what_a_scanner_does_not_tell_of_has_failed_and_is_never_clean() -> None:
    mail = examined(item("1"))
    assert [verdict for _, verdict, _ in found(mail, everything_clean(mail), {0: CLEAN})] == [
        Verdict.CLEAN,
        Verdict.FAILED,
    ]
    (_, silent) = findings_of(mail, RULE, [{0: CLEAN}])
    assert silent.failure is Failure.PROCESSING


def test_the_threat_is_told_before_the_reason() -> None:
    mail = examined()
    told = {0: Found(Verdict.BLOCKED, threat="Eicar", reason="Infected")}
    assert found(mail, told) == [("", Verdict.BLOCKED, "Eicar")]
    assert found(mail, {0: Found(Verdict.BLOCKED, reason="Infected")}) == [("", Verdict.BLOCKED, "Infected")]


@pytest.mark.parametrize("first", [True, False])
def test_of_two_failures_the_one_with_the_more_careful_action_holds(first: bool) -> None:
    section = ScanSection(
        ("core", "clam"), on_failed=OnFailed.RETRY, on_errors={Failure.NOT_SCANNED: OnFailed.QUARANTINE}
    )
    told = [
        {0: Found(Verdict.FAILED, reason="gone", failure=Failure.UNREACHABLE)},
        {0: Found(Verdict.FAILED, reason="too large", failure=Failure.NOT_SCANNED)},
    ]
    (finding,) = findings_of(examined(), section, told if first else told[::-1])
    assert finding.failure is Failure.NOT_SCANNED


def test_a_bypass_never_hides_a_failure_that_stops_the_mail() -> None:
    section = ScanSection(("core", "clam"), on_errors={Failure.TIMEOUT: OnFailed.BYPASS})
    told = [{0: Found(Verdict.FAILED, failure=failure)} for failure in (Failure.TIMEOUT, Failure.BUSY)]
    (finding,) = findings_of(examined(), section, told)
    assert finding.failure is Failure.BUSY


def test_a_name_filter_makes_a_clean_part_policy_and_never_a_blocked_one_milder() -> None:
    section = ScanSection(("core",), block_names=filters("*.exe"))
    mail = examined(item("1", ("a.txt",)), item("2", ("a.exe",)))
    why = "The name a.exe is filtered by *.exe."
    assert found(mail, everything_clean(mail), section=section) == [
        ("", Verdict.CLEAN, ""),
        ("1", Verdict.CLEAN, ""),
        ("2", Verdict.POLICY, why),
    ]
    blocked = {**everything_clean(mail), 2: Found(Verdict.BLOCKED, "Eicar")}
    assert found(mail, blocked, section=section)[2] == ("2", Verdict.BLOCKED, "Eicar")


def test_a_type_filter_sees_the_declared_type_and_that_of_the_content() -> None:
    section = ScanSection(("core",), block_types=filters("application/x-dosexec"))
    mail = examined(item("1", ("a.txt",), ("text/plain", "application/x-dosexec")))
    assert found(mail, everything_clean(mail), section=section)[1][1] is Verdict.POLICY


def test_the_name_of_a_member_counts_against_the_part_that_has_it() -> None:
    section = ScanSection(("core",), block_names=filters("*.exe"))
    member = item("1/a.zip/b.exe", ("b.exe",), kind=ItemKind.MEMBER, part="1")
    mail = examined(item("1", ("a.zip",)), member)
    finding = findings_of(mail, section, [everything_clean(mail)])[2]
    assert (finding.part, finding.verdict, finding.name) == ("1", Verdict.POLICY, "a.zip/b.exe")


def test_a_filter_never_means_the_mail_as_a_whole() -> None:
    section = ScanSection(("core",), block_types=filters("message/rfc822"), block_names=filters("*"))
    mail = Examination((item("", ("x.eml",), ("message/rfc822",)),), ())
    assert found(mail, {0: CLEAN}, section=section) == [("", Verdict.CLEAN, "")]


def encrypted(path: str = "1", *names: str) -> PartFacts:
    return PartFacts(path, "application/zip", (), names, 10, True, encrypted="zip")


def test_what_is_seen_to_be_encrypted_is_so_though_scanners_find_it_clean() -> None:
    mail = examined(item("1", ("a.zip",)), parts=[encrypted("1", "a.zip")])
    *_, last = findings_of(mail, RULE, [everything_clean(mail)] * 2)
    assert last == Finding("1", Verdict.ENCRYPTED, "encrypted (zip)", name="a.zip")


CORE_CLEAN = Found(Verdict.CLEAN, data_id="d1")
OPENED = {0: CLEAN, 1: CORE_CLEAN}


@pytest.mark.parametrize(
    ("passwords", "told", "opened"),
    [
        (("infected",), OPENED, True),
        (("infected",), {0: CLEAN, 1: Found(Verdict.SANITIZED, data_id="d1")}, True),
        ((), OPENED, False),
        (("infected",), {0: CLEAN, 1: CLEAN}, False),
        (("infected",), {0: CORE_CLEAN, 1: Found(Verdict.ENCRYPTED, data_id="d1")}, False),
        (("infected",), {0: CLEAN}, False),
    ],
    ids=[
        *("opened", "sanitized", "no passwords given", "by a scanner that takes none"),
        *("none of them fits", "the scanner told nothing"),
    ],
)
def test_only_a_scanner_that_had_passwords_makes_an_encrypted_part_clean(
    passwords: tuple[str, ...], told: dict[int, Found], opened: bool
) -> None:
    section = ScanSection(("core",), passwords=passwords)
    mail = examined(item("1"), parts=[encrypted()])
    kinds = [verdict for _, verdict, why in found(mail, told, section=section) if why == "encrypted (zip)"]
    assert kinds == ([] if opened else [Verdict.ENCRYPTED])


def test_what_is_ambiguous_is_a_finding_for_each_reason_beside_a_clean_mail() -> None:
    mail = examined(ambiguous=("Two boundaries.", "Part of a longer mail."))
    assert found(mail, {0: CLEAN}) == [
        ("", Verdict.CLEAN, ""),
        ("", Verdict.AMBIGUOUS, "Two boundaries."),
        ("", Verdict.AMBIGUOUS, "Part of a longer mail."),
    ]


def test_without_a_scan_section_nothing_is_asked_and_nothing_found() -> None:
    mail = examined(item("1", ("a.exe",)), parts=[encrypted()])
    assert {verdict for _, verdict, _ in found(mail, section=None)} == {Verdict.CLEAN}
