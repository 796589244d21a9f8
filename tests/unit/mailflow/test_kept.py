"""Operators' acts on kept mail: what leaves, what is told, and that each is done once."""

import asyncio
from dataclasses import replace

import pytest

from posthouse.core.examination import Item
from posthouse.core.kept_act import KeptAct, KeptOptions, options_of, options_text
from posthouse.core.mail import Content, MailId, QuarantineRow, RecipientState, Stage
from posthouse.core.scan import Found
from posthouse.core.wire_form import plain_form
from posthouse.ports import Acted, Kept, QueueCommand
from posthouse.scan_ports import Scanned
from support.scan_flow import BAD, CLEAN, ScanFlow, finds_bad, octets_of, scan_flow, to_scan, with_attachment

YOU, HER = "you@ours.example", "her@ours.example"


def quarantined(made: ScanFlow, content: bytes) -> MailId:
    one = to_scan(content, YOU, HER)
    rows = tuple([replace(r, state=RecipientState.QUARANTINED) for r in one.recipients])
    sealed = replace(one.contents[0], sealed=True)
    one = replace(one, recipients=rows, contents=(sealed,))
    row = QuarantineRow(1.0, "blocked", "Test.Bad", "inbound", 2.0)
    made.spool.kept[one.id] = Kept(one, row, (), ())
    return one.id


def acted(
    made: ScanFlow, act: KeptAct, mail_id: MailId, options: KeptOptions = KeptOptions(), number: int = 1
) -> Acted:
    async def go() -> Acted:
        command = QueueCommand(number, act.value, "ann (key)", (mail_id,), target=options_text(options))
        done = await made.kept.command(command)
        await made.settle()
        return done

    return asyncio.run(go())


def test_options_survive_their_way_through_the_database() -> None:
    options = KeptOptions(True, ("a@b.example",), ("secret",), True, "because")
    assert options_of(options_text(options)) == options
    assert options_of("") == KeptOptions()


def test_a_release_goes_to_its_own_recipients_as_a_mail_of_its_own() -> None:
    made = scan_flow({})
    mail_id = quarantined(made, with_attachment(BAD))
    assert acted(made, KeptAct.RELEASE, mail_id, KeptOptions(reason="false alarm")).mails == (mail_id,)
    outcome = made.spool.outcomes[0]
    ((released, trail),) = outcome.generated
    assert [(r.address, r.profile, r.stage) for r in released.recipients] == [
        (YOU, "exchange", Stage.RELAY),
        (HER, "exchange", Stage.RELAY),
    ]
    assert (released.own, released.reverse_path) == (True, "sender@outside.example")
    assert plain_form(octets_of(released.contents[0])) == with_attachment(BAD)
    assert trail[0].detail["kind"] == "release"
    assert outcome.trail[0].kind == "quarantine-released"
    assert outcome.trail[0].detail["reason"] == "false alarm"
    assert [to for _, to in made.flow.relay.sent] == [(YOU, HER)]


def test_a_release_may_be_for_some_of_its_recipients() -> None:
    made = scan_flow({})
    acted(made, KeptAct.RELEASE, quarantined(made, with_attachment(BAD)), KeptOptions(to=(HER,)))
    assert [to for _, to in made.flow.relay.sent] == [(HER,)]


def test_a_release_picks_no_other_recipient() -> None:
    made = scan_flow({})
    acted(made, KeptAct.RELEASE, quarantined(made, with_attachment(BAD)), KeptOptions(to=("x@evil.example",)))
    assert made.flow.relay.sent == []
    assert made.spool.outcomes[0].trail[0].kind == "refused"


def test_a_cleaned_release_is_less_its_bad_parts() -> None:
    made = scan_flow({})
    acted(made, KeptAct.RELEASE, quarantined(made, with_attachment(BAD)), KeptOptions(cleaned=True))
    ((released, _),) = made.spool.outcomes[0].generated
    content = plain_form(octets_of(released.contents[0]))
    assert BAD not in content
    assert b"Hello.\r\n" in content


def test_what_cannot_be_cleaned_is_not_released() -> None:
    def whole(profile: str, item: Item, octets: bytes) -> Found | Scanned:
        return finds_bad(profile, item, octets) if item.path == "" else CLEAN

    made = scan_flow({}, told=whole)
    done = acted(made, KeptAct.RELEASE, quarantined(made, with_attachment(BAD)), KeptOptions(cleaned=True))
    assert done.mails == ()
    assert made.flow.relay.sent == []
    assert "cannot be cleaned" in str(made.spool.outcomes[0].trail[0].detail["why"])


def test_a_command_is_carried_out_once() -> None:
    made = scan_flow({})
    mail_id = quarantined(made, with_attachment(BAD))
    for _ in range(2):
        acted(made, KeptAct.RELEASE, mail_id)
    assert len(made.flow.relay.sent) == 1
    acted(made, KeptAct.RELEASE, mail_id, number=2)
    assert len(made.flow.relay.sent) == 2


def test_a_forward_leaves_as_own_mail_for_others() -> None:
    made = scan_flow({})
    acted(made, KeptAct.FORWARD, quarantined(made, with_attachment(BAD)), KeptOptions(to=("boss@ours.example",)))
    ((sent, _),) = made.spool.outcomes[0].generated
    assert (sent.reverse_path, sent.recipients[0].address, sent.recipients[0].profile) == (
        "postmaster@ours.example",
        "boss@ours.example",
        "exchange",
    )


def test_a_forward_without_own_mail_is_refused_in_words() -> None:
    made = scan_flow({})
    made.kept.settings = replace(made.kept.settings, own_mail=None)
    acted(made, KeptAct.FORWARD, quarantined(made, with_attachment(BAD)), KeptOptions(to=("boss@ours.example",)))
    assert "own_mail" in str(made.spool.outcomes[0].trail[0].detail["why"])


def test_a_rescan_tells_what_is_found_now_and_releases_only_what_is_clean() -> None:
    made = scan_flow({})
    mail_id = quarantined(made, with_attachment(BAD))
    options = KeptOptions(passwords=("secret",), release_if_clean=True)
    acted(made, KeptAct.RESCAN, mail_id, options)
    assert made.spool.outcomes[0].trail[-1].detail["verdict"] == "blocked"
    assert made.flow.relay.sent == []
    assert made.scanners.orders[0].passwords == ("secret",)
    made.scanners.told = lambda *_: CLEAN
    acted(made, KeptAct.RESCAN, mail_id, options, number=2)
    assert [to for _, to in made.flow.relay.sent] == [(YOU, HER)]


def test_a_rescan_without_the_wish_releases_nothing() -> None:
    made = scan_flow({}, told=lambda *_: CLEAN)
    acted(made, KeptAct.RESCAN, quarantined(made, with_attachment()))
    assert made.flow.relay.sent == []
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert findings.scans
    assert findings.quarantine is None


@pytest.mark.parametrize(("act", "pinned"), [(KeptAct.PIN, True), (KeptAct.UNPIN, False)])
def test_a_pin_keeps_it_for_good(act: KeptAct, pinned: bool) -> None:
    made = scan_flow({})
    acted(made, act, quarantined(made, with_attachment()))
    findings = made.spool.outcomes[0].findings
    assert findings is not None
    assert findings.quarantine is not None
    assert findings.quarantine.pinned is pinned


def test_a_deletion_leaves_its_history() -> None:
    made = scan_flow({})
    acted(made, KeptAct.DELETE, quarantined(made, with_attachment()))
    assert made.spool.outcomes[0].forget
    assert made.spool.outcomes[0].trail[0].kind == "forgotten"


def test_a_profile_that_is_gone_is_replaced_by_that_of_own_mail_or_said() -> None:
    made = scan_flow({})
    mail_id = quarantined(made, with_attachment())
    kept = made.spool.kept[mail_id]
    rows = tuple([replace(r, profile="gone") for r in kept.mail.recipients])
    made.spool.kept[mail_id] = replace(kept, mail=replace(kept.mail, recipients=rows))
    acted(made, KeptAct.RELEASE, mail_id)
    assert made.spool.outcomes[0].generated[0][0].recipients[0].profile == "exchange"
    made.kept.settings = replace(made.kept.settings, own_mail=None)
    acted(made, KeptAct.RELEASE, mail_id, number=2)
    assert "gone" in str(made.spool.outcomes[-1].trail[0].detail["why"])


def test_what_nothing_claims_is_given_up() -> None:
    made = scan_flow({})
    acted(made, KeptAct.RESCAN, quarantined(made, with_attachment(BAD)))
    assert len(made.spool.discarded) == 1
    assert isinstance(made.spool.discarded[0], Content)
