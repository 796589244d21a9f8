"""Mail that is scanned: what goes on, what does not, and that nothing goes on which no scanner was shown."""

import asyncio
from dataclasses import replace

import pytest

from posthouse.core.disposition import Action
from posthouse.core.examination import Item
from posthouse.core.mail import Mail, RecipientState, Stage
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.scan_section import OnVerdict
from posthouse.core.wire_form import plain_form
from posthouse.scan_ports import Scanned, UploadFailed
from support.scan_flow import (
    BAD,
    BUSY,
    CLEAN,
    ScanFlow,
    finds_bad,
    octets_of,
    recipients,
    scan_flow,
    to_scan,
    with_attachment,
)

YOU, HER = "you@ours.example", "her@ours.example"


def scanned(made: ScanFlow, *mails: Mail) -> ScanFlow:
    async def go() -> None:
        await made.scan(*mails)

    asyncio.run(go())
    return made


def kinds(made: ScanFlow, outcome: int = 0) -> list[str]:
    return [entry.kind for entry in made.spool.outcomes[outcome].trail]


def state(made: ScanFlow, address: str = YOU, outcome: int = 0) -> RecipientState:
    return recipients(made, outcome)[address].state


def sent(made: ScanFlow) -> list[tuple[str, tuple[str, ...]]]:
    return made.flow.relay.sent


def new_content(made: ScanFlow, outcome: int = 0) -> bytes:
    ((_, content),) = made.spool.outcomes[outcome].contents
    return plain_form(octets_of(content))


class Octets:
    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._octets = octets

    def pieces(self):  # type: ignore[no-untyped-def]
        yield self._octets


def test_a_clean_mail_is_relayed_as_it_came() -> None:
    made = scanned(scan_flow({}), to_scan(with_attachment()))
    assert [to for _, to in sent(made)] == [(YOU,)]
    first = made.spool.outcomes[0]
    assert first.contents == ()
    assert first.findings is not None
    assert first.findings.quarantine is None
    assert {row.verdict for row in first.findings.scans} == {"clean"}
    assert kinds(made)[:2] == ["scanned", "decided"]
    assert made.spool.outcomes[-1].recipients[0].state is RecipientState.RELAYED


def test_the_scanner_is_shown_the_mail_and_each_part() -> None:
    content = with_attachment(b"octets of the attachment")
    made = scanned(scan_flow({}), to_scan(content))
    shown = [octets for _, _, octets in made.scanners.shown]
    assert content in shown
    assert b"octets of the attachment" in shown
    assert b"Hello.\r\n" in shown


def test_every_scan_profile_is_asked_and_the_strictest_verdict_holds() -> None:
    def only_clam(profile: str, item: Item, octets: bytes) -> Found | Scanned:
        return finds_bad(profile, item, octets) if profile == "clam" else CLEAN

    made = scanned(scan_flow({"profiles": ["core", "clam"]}, told=only_clam), to_scan(with_attachment(BAD)))
    assert {profile for profile, _, _ in made.scanners.shown} == {"core", "clam"}
    assert state(made) is RecipientState.QUARANTINED
    assert sent(made) == []


def test_a_blocked_mail_is_quarantined_with_its_original_sealed() -> None:
    content = with_attachment(BAD)
    made = scanned(scan_flow({}), to_scan(content))
    outcome = made.spool.outcomes[0]
    assert outcome.findings is not None
    assert outcome.findings.quarantine is not None
    assert (outcome.findings.quarantine.cause, outcome.findings.quarantine.rule) == ("blocked", "inbound")
    ((version, sealed),) = outcome.contents
    assert (version, sealed.sealed) == (1, True)
    assert octets_of(sealed) == octets_of(outcome.mail.contents[0])
    assert kinds(made) == ["scanned", "decided", "quarantined"]
    assert outcome.generated == (), "no DSN because of a verdict"
    assert made.flow.delivery.in_memory == 0


@pytest.mark.parametrize(("action", "expected"), [("discard", RecipientState.DISCARDED)])
def test_a_discarded_mail_ends_without_dsn(action: str, expected: RecipientState) -> None:
    made = scanned(scan_flow({"on_blocked": action}), to_scan(with_attachment(BAD)))
    assert state(made) is expected
    assert made.spool.outcomes[0].generated == ()
    assert sent(made) == []


def test_a_bad_part_is_taken_out_and_the_rest_shown_again_and_relayed() -> None:
    made = scanned(scan_flow({"on_blocked": "strip"}), to_scan(with_attachment(BAD + b"..", "bad.exe")))
    content = new_content(made)
    assert BAD not in content
    assert b"Hello.\r\n" in content
    assert b"bad.exe" in content, "the notice names it"
    assert [to for _, to in sent(made)] == [(YOU,)]
    assert recipients(made, 0)[YOU].version == 1
    whole = [octets for _, path, octets in made.scanners.shown if path == ""]
    assert whole == [with_attachment(BAD + b"..", "bad.exe"), content]
    decided = next(entry for entry in made.spool.outcomes[0].trail if entry.kind == "decided")
    assert decided.detail["version"] == 1


def test_what_is_bad_outside_all_parts_is_quarantined_instead_of_stripped() -> None:
    def only_whole(profile: str, item: Item, octets: bytes) -> Found | Scanned:
        return Found(Verdict.BLOCKED, "Test.Whole") if item.path == "" else CLEAN

    made = scanned(scan_flow({"on_blocked": "strip"}, told=only_whole), to_scan(with_attachment()))
    assert state(made) is RecipientState.QUARANTINED


def test_a_stripped_mail_that_is_still_bad_is_quarantined() -> None:
    def whole_too(profile: str, item: Item, octets: bytes) -> Found | Scanned:
        return Found(Verdict.BLOCKED, "Test.Still") if item.path == "" else finds_bad(profile, item, octets)

    made = scanned(scan_flow({"on_blocked": "strip"}, told=whole_too), to_scan(with_attachment(BAD)))
    assert state(made) is RecipientState.QUARANTINED
    assert "after parts were taken out" in recipients(made, 0)[YOU].detail
    assert sent(made) == []


def test_a_marked_mail_goes_on_with_a_field_that_tells() -> None:
    made = scanned(scan_flow({"on_blocked": "mark"}), to_scan(with_attachment(BAD)))
    content = new_content(made)
    head, _, rest = content.partition(b"\r\nFrom: ")
    assert head.startswith(b"X-Metadefender-Result: blocked: Test.Bad")
    assert b"From: " + rest == with_attachment(BAD)
    assert [to for _, to in sent(made)] == [(YOU,)]


def sanitizes(profile: str, item: Item, octets: bytes) -> Found | Scanned:
    if BAD in octets and item.part and item.kind == "part":
        return Scanned(Found(Verdict.SANITIZED, data_id="d"), Octets(b"made harmless"), "a-sanitized.txt")
    return CLEAN


def test_a_sanitized_part_takes_the_place_and_the_original_is_kept() -> None:
    made = scanned(scan_flow({"sanitize": True}, told=sanitizes), to_scan(with_attachment(BAD)))
    outcome = made.spool.outcomes[0]
    assert len(outcome.contents) == 2, "the sanitized version and the sealed original"
    content = plain_form(octets_of(outcome.contents[0][1]))
    assert BAD not in content
    assert b"bWFkZSBoYXJtbGVzcw==" in content or b"made harmless" in content
    assert outcome.findings is not None
    assert outcome.findings.quarantine is not None
    assert outcome.findings.quarantine.cause == "sanitized"
    assert outcome.contents[1][1].sealed
    assert [to for _, to in sent(made)] == [(YOU,)]
    assert made.scanners.orders[0].sanitize


def test_the_original_of_a_sanitized_mail_is_not_kept_where_the_rule_says_so() -> None:
    made = scan_flow({"sanitize": True, "quarantine_sanitized": False}, told=sanitizes)
    scanned(made, to_scan(with_attachment(BAD)))
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert findings.quarantine is None


def test_a_mail_that_nobody_could_scan_waits_and_uses_up_no_try() -> None:
    made = scanned(scan_flow({}, told=lambda *_: BUSY), to_scan(with_attachment()))
    row = recipients(made, 0)[YOU]
    assert (row.state, row.stage, row.tries, row.waits) == (RecipientState.QUEUED, Stage.SCAN, 0, 1)
    assert row.due_at > made.flow.clock.at
    assert sent(made) == []


def test_a_mail_that_nobody_could_scan_for_its_lifetime_fails_with_a_dsn() -> None:
    made = scan_flow({}, told=lambda *_: BUSY)
    one = to_scan(with_attachment())
    made.flow.clock.at += made.flow.settings.limits.lifetime_seconds + 1
    scanned(made, one)
    assert state(made) is RecipientState.FAILED
    ((dsn, _),) = made.spool.outcomes[0].generated
    assert dsn.recipients[0].address == one.reverse_path


@pytest.mark.parametrize(
    ("on_failed", "expected"),
    [("fail", RecipientState.FAILED), ("quarantine", RecipientState.QUARANTINED), ("retry", RecipientState.QUEUED)],
)
def test_a_failed_scan_never_lets_the_mail_through(on_failed: str, expected: RecipientState) -> None:
    made = scanned(scan_flow({"on_failed": on_failed}, told=lambda *_: BUSY), to_scan(with_attachment()))
    assert state(made) is expected
    assert (YOU,) not in [to for _, to in sent(made)]


def test_bypass_lets_it_through_marked() -> None:
    made = scanned(scan_flow({"on_failed": "bypass"}, told=lambda *_: BUSY), to_scan(with_attachment()))
    assert new_content(made).startswith(b"X-Metadefender-Result: failed")
    assert [to for _, to in sent(made)] == [(YOU,)]


def test_names_and_types_are_blocked_by_the_rule_itself() -> None:
    made = scanned(scan_flow({"block_names": ["*.exe"]}), to_scan(with_attachment(name="x.EXE")))
    assert state(made) is RecipientState.QUARANTINED
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert findings.quarantine is not None
    assert findings.quarantine.cause == "policy"


def test_a_mail_that_ends_its_examiner_is_tried_thrice_and_becomes_a_failed_email() -> None:
    made = scan_flow({})
    made.examiner.poison.add(b"poison")
    one = to_scan(with_attachment(b"poison"))
    other = to_scan(with_attachment(b"fine"))
    scanned(made, one, other)
    by_mail = {outcome.mail.id: outcome for outcome in made.spool.outcomes}
    assert by_mail[other.id].recipients[0].state is RecipientState.RELAYED, "the flow goes on"
    first = by_mail[one.id].recipients[0]
    assert (first.state, first.stage, first.tries) == (RecipientState.QUEUED, Stage.SCAN, 1)
    for tries in (1, 2):
        again = replace(one, recipients=(replace(one.recipients[0], tries=tries),))
        scanned(made, again)
    last = [outcome for outcome in made.spool.outcomes if outcome.mail.id == one.id][-1].recipients[0]
    assert (last.state, last.stage) == (RecipientState.FAILED, Stage.SCAN)


def test_a_bug_of_ours_is_never_taken_for_clean() -> None:
    def breaks(*_: object) -> Found:
        raise RuntimeError("bug")

    made = scanned(scan_flow({}, told=breaks), to_scan(with_attachment()))
    row = recipients(made, 0)[YOU]
    assert (row.state, row.stage) == (RecipientState.QUEUED, Stage.SCAN)
    assert sent(made) == []


def test_a_mail_whose_rule_is_gone_is_quarantined() -> None:
    made = scanned(scan_flow({}), to_scan(with_attachment(), rule="gone"))
    assert state(made) is RecipientState.QUARANTINED
    assert sent(made) == []


def test_recipients_of_different_rules_go_different_ways() -> None:
    rules = [
        {
            "name": name,
            "match": {"recipients": [f"*@{name}.example"]},
            "relay": {"profile": "exchange"},
            "scan": {"profiles": ["core"], "on_blocked": action},
        }
        for name, action in (("keeps", "quarantine"), ("strips", "strip"))
    ]
    made = scan_flow(rules=rules)
    one = to_scan(with_attachment(BAD), "a@keeps.example", "b@strips.example")
    rows = (replace(one.recipients[0], rule="keeps"), replace(one.recipients[1], rule="strips"))
    scanned(made, replace(one, recipients=rows))
    found = recipients(made, 0)
    assert found["a@keeps.example"].state is RecipientState.QUARANTINED
    assert found["b@strips.example"].version == 1
    assert [to for _, to in sent(made)] == [("b@strips.example",)]
    assert made.examiner.seen == 2, "once for both rules, once for the stripped version"


def test_external_quarantine_sends_the_original_with_its_field() -> None:
    made = scanned(scan_flow({"quarantine": "external"}), to_scan(with_attachment(BAD)))
    content = new_content(made)
    assert content == b"X-Metadefender-To-Quarantine: True\r\n" + with_attachment(BAD)
    assert [to for _, to in sent(made)] == [(YOU,)]


def test_texts_and_fields_are_added_for_their_cases_only() -> None:
    section = {
        "headers": [{"on": ["clean"], "name": "X-Scanned", "value": "%[]scan_verdicts[]%"}],
        "disclaimers": [{"on": ["blocked"], "text": "not for clean mail"}],
    }
    made = scanned(scan_flow(section), to_scan(with_attachment()))
    assert new_content(made) == b"X-Scanned: clean\r\n" + with_attachment()


def test_a_disclaimer_stands_in_the_text() -> None:
    section = {"disclaimers": [{"position": "end", "text": "From %[]email_sender[]%, be careful."}]}
    made = scanned(scan_flow(section), to_scan(with_attachment()))
    assert b"From sender@outside.example, be careful." in new_content(made)


def test_notices_leave_as_own_mail_and_not_without_end() -> None:
    notice = {"on": ["blocked"], "to": ["recipients", "sender", "administrators"], "subject": "S", "text": "T"}
    made = scan_flow({"notices": [notice]})
    scanned(made, to_scan(with_attachment(BAD)))
    own = [mail for mail, _ in made.spool.outcomes[0].generated]
    assert [mail.recipients[0].address for mail in own] == [YOU, "sender@outside.example", "admin@ours.example"]
    assert all(mail.own and mail.reverse_path == "" for mail in own)
    most = made.flow.settings.limits.notices_per_hour
    scanned(made, *[to_scan(with_attachment(BAD)) for _ in range(most + 2)])
    told = [mail.recipients[0].address for outcome in made.spool.outcomes for mail, _ in outcome.generated]
    assert told.count(YOU) == most


def test_the_sender_of_an_automatic_mail_gets_no_notice() -> None:
    notice = {"to": ["sender"], "subject": "S", "text": "T"}
    made = scan_flow({"notices": [notice]})
    scanned(made, to_scan(b"Auto-Submitted: auto-replied\r\n" + with_attachment()))
    assert made.spool.outcomes[0].generated == ()


# --- vault -----------------------------------------------------------------------------------------------


def test_an_attachment_goes_to_the_vault_and_its_link_into_the_mail() -> None:
    made = scan_flow(vault={"attachments": "all", "remove": True})
    scanned(made, to_scan(with_attachment(b"large thing", "plan.pdf")))
    assert made.vault.stored == [("plan.pdf", b"large thing")]
    content = new_content(made)
    assert b"large thing" not in content
    assert b"http://vault.example/file/f0" in content
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert [(row.name, row.state.value, row.url) for row in findings.uploads] == [
        ("plan.pdf", "done", "http://vault.example/file/f0")
    ]
    assert "uploaded" in kinds(made)


@pytest.mark.parametrize(
    ("on_failed", "expected"),
    [("retry", RecipientState.QUEUED), ("fail", RecipientState.FAILED), ("quarantine", RecipientState.QUARANTINED)],
)
def test_a_vault_that_fails_loses_nothing(on_failed: str, expected: RecipientState) -> None:
    made = scan_flow(vault={"attachments": "all", "remove": True, "on_failed": on_failed})
    made.vault.fails = UploadFailed("the vault is down", again=True)
    scanned(made, to_scan(with_attachment(b"large thing")))
    assert state(made) is expected
    assert (YOU,) not in [to for _, to in sent(made)]
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert [row.state.value for row in findings.uploads] == ["failed"]


def test_a_vault_that_fails_may_be_bypassed_with_the_attachment_in_place() -> None:
    made = scan_flow(vault={"attachments": "all", "remove": True, "on_failed": "bypass"})
    made.vault.fails = UploadFailed("the vault is down", again=True)
    scanned(made, to_scan(with_attachment(b"large thing")))
    assert b"large thing" in new_content(made)
    assert [to for _, to in sent(made)] == [(YOU,)]


def test_what_was_taken_out_is_in_the_vault() -> None:
    made = scan_flow({"on_blocked": "strip"}, vault={"attachments": "blocked", "remove": True})
    scanned(made, to_scan(with_attachment(BAD, "bad.bin")))
    assert made.vault.stored == [("bad.bin", BAD)]
    assert BAD not in new_content(made)


# --- waiting ---------------------------------------------------------------------------------------------


def test_mail_of_a_scanner_that_may_not_be_asked_waits_in_memory_and_others_go_on() -> None:
    rules = [
        {
            "name": name,
            "match": {"recipients": [f"*@{name}.example"]},
            "relay": {"profile": "exchange"},
            "scan": {"profiles": [name]},
        }
        for name in ("core", "clam")
    ]
    made = scan_flow(rules=rules)
    made.scanners.closed = {"core"}
    waits = to_scan(with_attachment(), "a@core.example", rule="core")
    goes = to_scan(with_attachment(), "b@clam.example", rule="clam")

    async def go() -> None:
        await made.scan(waits, goes)
        assert [to for _, to in sent(made)] == [("b@clam.example",)]
        assert all(outcome.mail.id == goes.id for outcome in made.spool.outcomes), "nothing is written for the other"
        made.scanners.closed = set()
        made.scanning._start()
        await made.settle()

    asyncio.run(go())
    assert [to for _, to in sent(made)] == [("b@clam.example",), ("a@core.example",)]


def test_mail_from_the_database_is_scanned_like_new_mail() -> None:
    made = scan_flow({})
    made.spool.unscanned = [to_scan(with_attachment())]

    async def go() -> None:
        await made.scanning._refill()
        await made.settle()

    asyncio.run(go())
    assert [to for _, to in sent(made)] == [(YOU,)]


def test_memory_is_bounded_and_the_rest_waits_in_the_database() -> None:
    made = scan_flow({})
    made.scanners.closed = {"core"}
    made.scanning.settings = replace(made.flow.settings, limits=replace(made.flow.settings.limits, memory_mails=16))
    admitted = []
    for _ in range(6):
        one = made.scanning.admit(to_scan(with_attachment()))
        admitted.append(one.recipients[0].state)
        made.scanning.enqueue(one)
    assert admitted == [RecipientState.ACTIVE] * 2 + [RecipientState.QUEUED] * 4


def test_delivery_has_no_part_in_mail_that_is_to_be_scanned() -> None:
    made = scan_flow({})
    one = to_scan(with_attachment())

    async def go() -> None:
        made.flow.delivery.enqueue(made.flow.delivery.admit(one))
        made.flow.delivery.begin_early(one)
        await made.settle()

    asyncio.run(go())
    assert sent(made) == []


def test_a_mail_that_was_lost_to_another_worker_is_not_relayed() -> None:
    from posthouse.ports import LeaseLost

    made = scan_flow({})
    made.spool.errors = [LeaseLost("x")]
    scanned(made, to_scan(with_attachment()))
    assert sent(made) == []
    assert made.flow.delivery.in_memory == 0


@pytest.mark.parametrize("action", [a for a in OnVerdict if a is not OnVerdict.REJECT])
@pytest.mark.parametrize("failure", [None, *Failure])
def test_no_combination_delivers_bad_content_unmarked(action: OnVerdict, failure: Failure | None) -> None:
    def told(profile: str, item: Item, octets: bytes) -> Found | Scanned:
        if profile == "clam" and failure is not None:
            return Found(Verdict.FAILED, failure=failure)
        return finds_bad(profile, item, octets)

    made = scan_flow({"profiles": ["core", "clam"], "on_blocked": action.value, "on_failed": "bypass"}, told=told)
    scanned(made, to_scan(with_attachment(BAD)))
    for outcome in made.spool.outcomes:
        for row in outcome.recipients:
            if row.state in (RecipientState.ACTIVE, RecipientState.RELAYED):
                content = plain_form(octets_of(outcome.mail.contents[row.version]))
                assert BAD not in content or content.startswith(b"X-Metadefender-Result: "), (action, failure)


def test_judged_actions_are_those_of_the_disposition() -> None:
    assert {action.value for action in Action} == {"deliver", "quarantine", "discard", "reject", "retry", "fail"}


def test_what_may_be_the_mails_fault_is_counted_and_tried_ever_more_seldom() -> None:
    slow = Found(Verdict.FAILED, reason="took too long", failure=Failure.TIMEOUT)
    made = scanned(scan_flow({}, told=lambda *_: slow), to_scan(with_attachment()))
    row = recipients(made, 0)[YOU]
    assert (row.tries, row.waits, row.due_at - made.flow.clock.at) == (1, 0, 60)


def test_a_further_wait_writes_no_further_rows_of_scans() -> None:
    made = scan_flow({}, told=lambda *_: BUSY)
    one = to_scan(with_attachment())
    scanned(made, one, replace(one, recipients=(replace(one.recipients[0], waits=3),)))
    first, second = made.spool.outcomes
    assert first.findings is not None
    assert second.findings is not None
    assert first.findings.scans
    assert not second.findings.scans
    assert [entry.kind for entry in second.trail] == ["deferred"]


def test_nothing_is_taken_from_the_database_while_no_scanner_may_be_asked() -> None:
    made = scan_flow({})
    made.scanners.closed = {"core"}
    made.spool.unscanned = [to_scan(with_attachment())]
    asyncio.run(made.scanning._refill())
    assert made.spool.unscanned
