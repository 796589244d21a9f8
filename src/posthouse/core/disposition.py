"""What is done with a mail by what the scanners and the rule's own filters found in it. Pure.

1. A verdict of `ACTIONS` whose action ends the mail (quarantine, discard, reject): that action; of several such
   verdicts the strictest decides.
2. No verdict (failed) for any item: `on_failed`, or `on_errors` of its cause; of several quarantine comes first,
   then fail, retry, bypass.
3. A verdict whose action is strip: its parts are taken out; where no part has it, quarantine.
4. A verdict whose action is mark: the mail goes on, marked.
5. Sanitized: its parts are replaced.
6. Else the mail goes on as it is.

A threat that is known decides at once, whatever another scanner failed to tell; but nothing goes on, not even less
its bad parts, while a scanner that was asked has not answered. `reject` exists before acceptance only: after it the
mail is quarantined.
Source: design section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.announcements import Case
from posthouse.core.scan import Failure, Verdict, strictest
from posthouse.core.scan_section import OnFailed, OnVerdict, ScanSection


class Action(StrEnum):
    """What becomes of a mail for the recipients of one rule."""

    DELIVER = "deliver"
    """As it is, or modified."""
    QUARANTINE = "quarantine"
    DISCARD = "discard"
    REJECT = "reject"
    RETRY = "retry"
    """It waits, and is scanned again."""
    FAIL = "fail"
    """It becomes a failed email, with its DSN."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one item of the mail in the end: the strictest that any scanner or filter said."""

    part: str
    """Path of the part that has it; empty: the mail as a whole."""
    verdict: Verdict
    why: str
    """Threat or reason, one line; empty if CLEAN."""
    failure: Failure | None = None
    """If FAILED; of several the one whose action is the most careful comes first."""
    name: str = ""
    """Of the item, for people."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """The decision."""

    action: Action
    verdict: Verdict
    """The strictest of all."""
    why: str
    """One line: what decided."""
    strip: Mapping[str, Finding]
    """By path: parts to be taken out; empty unless DELIVER."""
    sanitized: tuple[str, ...]
    """Paths of parts to be replaced; none of `strip`; empty unless DELIVER."""
    marked: bool
    """It goes on though something bad, or something nobody scanned, is in it."""
    cases: frozenset[Case]
    """For headers, disclaimers and notices."""
    failure: Failure | None = None
    """If RETRY or FAIL: why nobody could tell."""


_ENDS = {OnVerdict.QUARANTINE: Action.QUARANTINE, OnVerdict.DISCARD: Action.DISCARD, OnVerdict.REJECT: Action.REJECT}
_FAILED = (
    (OnFailed.QUARANTINE, Action.QUARANTINE),
    (OnFailed.FAIL, Action.FAIL),
    (OnFailed.RETRY, Action.RETRY),
)
_STRICTEST_FIRST = (Verdict.BLOCKED, Verdict.POLICY, Verdict.AMBIGUOUS, Verdict.ENCRYPTED)
_CASES = {
    Verdict.SANITIZED: Case.SANITIZED,
    Verdict.BLOCKED: Case.BLOCKED,
    Verdict.POLICY: Case.POLICY,
    Verdict.ENCRYPTED: Case.ENCRYPTED,
    Verdict.AMBIGUOUS: Case.AMBIGUOUS,
    Verdict.FAILED: Case.FAILED,
}


def dispose(section: ScanSection, findings: Sequence[Finding], *, may_reject: bool) -> Disposition:
    """`findings`: one for each item and each further fact; `may_reject`: the mail is not accepted yet."""
    found = {verdict: [f for f in findings if f.verdict is verdict] for verdict in Verdict}
    verdict = strictest(f.verdict for f in findings)
    cases = frozenset(_CASES[v] for v in Verdict if v in _CASES and found[v]) or frozenset({Case.CLEAN})
    ending = _ending(section, found, may_reject)
    if ending is not None:
        action, why, failure = ending
        return Disposition(action, verdict, why, {}, (), False, cases, failure)
    strip = {f.part: f for v in _STRICTEST_FIRST if section.on[v] is OnVerdict.STRIP for f in reversed(found[v])}
    marked = any(found[v] and section.on[v] is OnVerdict.MARK for v in _STRICTEST_FIRST) or bool(
        found[Verdict.FAILED]
    )
    strip.pop("", None)
    sanitized = dict.fromkeys(f.part for f in found[Verdict.SANITIZED] if f.part and f.part not in strip)
    if strip:
        cases |= {Case.STRIPPED}
    why = _told([f for f in findings if f.verdict is verdict]) if verdict is not Verdict.CLEAN else ""
    return Disposition(Action.DELIVER, verdict, why, strip, tuple(sanitized), marked, cases)


def _ending(
    section: ScanSection, found: Mapping[Verdict, Sequence[Finding]], may_reject: bool
) -> tuple[Action, str, Failure | None] | None:
    """What keeps the mail from going on, and why; None if nothing does."""
    for verdict in _STRICTEST_FIRST:
        if found[verdict] and (action := _ENDS.get(section.on[verdict])) is not None:
            if action is Action.REJECT and not may_reject:
                action = Action.QUARANTINE
            return action, _told(found[verdict]), None
    failed = found[Verdict.FAILED]
    asked = {section.failed_action(f.failure or Failure.PROCESSING): f for f in reversed(failed)}
    for on_failed, action in _FAILED:
        if on_failed in asked:
            return action, _told([asked[on_failed]]), asked[on_failed].failure
    for verdict in _STRICTEST_FIRST:
        if found[verdict] and section.on[verdict] is OnVerdict.STRIP and not any(f.part for f in found[verdict]):
            return Action.QUARANTINE, f"{_told(found[verdict])}: in no part that could be taken out", None
    return None


def _told(findings: Sequence[Finding]) -> str:
    """The first, and how many more; what was found in a part rather than in the mail as a whole."""
    parts = [f for f in findings if f.part] or list(findings)
    first = parts[0]
    where = f" in {first.name}" if first.name else f" in part {first.part}" if first.part else ""
    others = len({f.part for f in parts}) - 1
    more = f" and {others} more" if others else ""
    return f"{first.verdict.value}: {first.why or 'no reason given'}{where}{more}"
