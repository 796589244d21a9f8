"""Scanning before the reply to the final dot: one reply for all recipients, a deadline, and nothing lost."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from posthouse.core.envelope import Envelope, Recipient
from posthouse.core.mail import RecipientState, Stage
from posthouse.core.smtp_reply import Reply
from posthouse.core.wire_form import plain_form, wire_form
from posthouse.ports import ReceivedContent
from support.flow import mail
from support.scan_flow import BAD, BUSY, ScanFlow, octets_of, scan_flow, with_attachment

YOU, HER = "you@ours.example", "her@other.example"
EARLY: Mapping[str, object] = {"when": "before-accept"}


def offer(made: ScanFlow, content: bytes, *addresses: str) -> list[Reply]:
    one = mail(*addresses, octets=wire_form(content))
    said: list[Reply] = []
    made.pipeline.accept(
        one.session,
        Envelope(one.reverse_path, tuple([Recipient(a, "", "") for a in addresses]), one.body, False, "", ""),
        ReceivedContent(one.contents[0], len(content), content.partition(b"\r\n\r\n")[0] + b"\r\n"),
        said.append,
    )
    return said


def offered(made: ScanFlow, content: bytes, *addresses: str) -> list[Reply]:
    async def go() -> list[Reply]:
        said = offer(made, content, *(addresses or (YOU,)))
        while made.pipeline._before._tasks:
            await asyncio.wait(made.pipeline._before._tasks)
        await made.settle()
        return said

    return asyncio.run(go())


def two_rules(*actions: str) -> Sequence[Mapping[str, object]]:
    """`ours.example` and `other.example`, before acceptance; no scan where the action is empty."""
    domains = ("ours.example", "other.example")
    return [
        {
            "name": domain,
            "match": {"recipients": [f"*@{domain}"]},
            "relay": {"profile": "exchange"},
            **({"scan": {"profiles": ["core"], **EARLY, "on_blocked": action}} if action else {}),
        }
        for domain, action in zip(domains, actions, strict=True)
    ]


def states(made: ScanFlow) -> dict[str, RecipientState]:
    (stored, _) = made.spool.accepted[0]
    return {r.address: r.state for r in stored.recipients}


def test_a_clean_mail_is_scanned_before_its_250_and_relayed() -> None:
    made = scan_flow(EARLY)
    (reply,) = offered(made, with_attachment())
    assert reply.code == 250
    assert made.scanners.shown
    (stored, trail) = made.spool.accepted[0]
    assert stored.recipients[0].stage is Stage.RELAY
    assert [entry.kind for entry in trail] == ["received", "matched", "scanned", "decided"]
    assert [to for _, to in made.flow.relay.sent] == [(YOU,)]


def test_a_mail_that_is_rejected_for_everybody_gets_550_and_history_knows_it() -> None:
    made = scan_flow({**EARLY, "on_blocked": "reject"})
    (reply,) = offered(made, with_attachment(BAD))
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert "Test.Bad" in reply.lines[0]
    assert states(made) == {YOU: RecipientState.REJECTED}
    (_, trail) = made.spool.accepted[0]
    assert str(trail[0].detail["reply"]).startswith("550 5.7.1")
    assert made.spool.found[0][1].quarantine is None
    assert made.flow.relay.sent == []


def test_one_reply_for_many_recipients_rejected_copies_are_quarantined() -> None:
    made = scan_flow(rules=two_rules("reject", "strip"))
    (reply,) = offered(made, with_attachment(BAD), YOU, HER)
    assert reply.code == 250
    assert states(made)[YOU] is RecipientState.QUARANTINED
    assert [to for _, to in made.flow.relay.sent] == [(HER,)]
    (stored, _) = made.spool.accepted[0]
    assert any(content.sealed for content in stored.contents)


def test_all_rejected_by_different_rules_is_550() -> None:
    made = scan_flow(rules=two_rules("reject", "reject"))
    (reply,) = offered(made, with_attachment(BAD), YOU, HER)
    assert reply.code == 550


def test_a_recipient_whose_rule_scans_nothing_counts_as_accepted() -> None:
    made = scan_flow(rules=two_rules("reject", ""))
    (reply,) = offered(made, with_attachment(BAD), YOU, HER)
    assert reply.code == 250
    assert states(made)[YOU] is RecipientState.QUARANTINED
    assert [to for _, to in made.flow.relay.sent] == [(HER,)]


def test_past_the_deadline_it_is_accepted_and_scanned_afterwards() -> None:
    made = scan_flow({**EARLY, "deadline_seconds": 1})

    async def go() -> None:
        made.scanners.gate = asyncio.Event()
        said = offer(made, with_attachment(BAD), YOU)
        while not said:
            await asyncio.wait(made.pipeline._before._tasks)
        assert said[0].code == 250
        (stored, _) = made.spool.accepted[0]
        assert (stored.recipients[0].stage, made.flow.relay.sent) == (Stage.SCAN, [])
        made.scanners.gate.set()
        await made.settle()

    asyncio.run(go())
    assert made.spool.outcomes[-1].recipients[0].state is RecipientState.QUARANTINED


@pytest.mark.parametrize("on_failed", ["retry", "fail"])
def test_what_cannot_be_scanned_now_is_accepted_and_waits(on_failed: str) -> None:
    made = scan_flow({**EARLY, "on_failed": on_failed}, told=lambda *_: BUSY)
    (reply,) = offered(made, with_attachment())
    assert reply.code == 250
    (stored, _) = made.spool.accepted[0]
    assert stored.recipients[0].stage is Stage.SCAN
    assert (YOU,) not in [to for _, to in made.flow.relay.sent]


def test_an_examiner_that_ends_over_it_does_not_keep_the_sender_waiting() -> None:
    made = scan_flow(EARLY)
    made.examiner.poison.add(b"poison")
    (reply,) = offered(made, with_attachment(b"poison"))
    assert reply.code == 250
    assert made.spool.accepted[0][0].recipients[0].stage is Stage.SCAN


def test_a_modified_mail_is_stored_with_its_new_version() -> None:
    made = scan_flow({**EARLY, "on_blocked": "strip"})
    offered(made, with_attachment(BAD))
    (stored, _) = made.spool.accepted[0]
    assert stored.recipients[0].version == 1
    assert BAD not in plain_form(octets_of(stored.contents[1]))


def test_a_refused_commit_is_a_451_and_nothing_is_relayed() -> None:
    made = scan_flow(EARLY)
    made.spool.errors = [OSError(5, "io")]
    (reply,) = offered(made, with_attachment())
    assert reply.code == 451
    assert made.flow.relay.sent == []
    assert made.flow.delivery.in_memory == 0


def test_a_rule_that_scans_later_is_not_scanned_early() -> None:
    later = {**two_rules("", "")[0], "scan": {"profiles": ["core"]}}
    made = scan_flow(rules=[later, two_rules("", "reject")[1]])

    async def go() -> None:
        made.scanners.closed = {"core"}
        offer(made, with_attachment(), YOU, HER)
        await asyncio.wait(made.pipeline._before._tasks)
        await asyncio.sleep(0)

    asyncio.run(go())
    (stored, _) = made.spool.accepted[0]
    assert {r.address: r.stage for r in stored.recipients} == {YOU: Stage.SCAN, HER: Stage.RELAY}


def test_notices_of_an_early_scan_are_stored_after_the_mail() -> None:
    notice = {"to": ["administrators"], "subject": "S", "text": "T"}
    made = scan_flow({**EARLY, "notices": [notice]})
    offered(made, with_attachment(BAD))
    first, own = [mail for mail, _ in made.spool.accepted]
    assert not first.own
    assert own.own
    assert [to for _, to in made.flow.relay.sent] == [("admin@ours.example",)]
