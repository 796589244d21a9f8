"""Replay: what another inventory would do with mails of the history."""

from typing import Any

import pytest

from posthouse.core.inventory import Inventory, apply_document, build_inventory
from posthouse.core.mail import MailId
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.core.replay import (
    Differs,
    OwnRoute,
    Replay,
    Replayed,
    otherwise_sentence,
    replayed_sentence,
)

OWN = OwnRoute("archive", "admin@own.example")
EXCHANGE: dict[str, Any] = {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.2"]}
ARCHIVE: dict[str, Any] = {"name": "archive", "type": "smtp", "servers": ["10.0.0.3"]}


def rule(name: str, profile: str = "exchange", **match: list[str]) -> dict[str, Any]:
    return {"name": name, "match": match, "relay": {"profile": profile}, "open_relay": True}


VIP, INBOUND = rule("vip", recipients=["boss@ours.example"]), rule("inbound", recipients=["*@ours.example"])


def inventory(profiles: list[dict[str, Any]], rules: list[dict[str, Any]]) -> Inventory:
    document = {"server_profiles": profiles, "rules": rules}
    documents, rule_documents, faults = apply_document([], [], document, prune=True)
    assert not faults, faults
    return build_inventory(1, [(each, 1) for each in documents], rule_documents)


def mail(number: int, *to: str, rule: str = "inbound", profile: str = "exchange") -> PastMail:
    recipients = tuple(PastRecipient(address, rule, profile) for address in to)
    return PastMail(MailId(f"m{number}"), 1000.0 + number, "192.0.2.7", "a@out.example", recipients)


def replay(
    before: Inventory, after: Inventory, *mails: PastMail, own: OwnRoute | None = OWN, most: int = 100
) -> Replayed:
    taking = Replay(before, after, own, most)
    for each in mails:
        taking.take(each)
    return taking.told()


NOW = inventory([EXCHANGE, ARCHIVE], [VIP, INBOUND])


def test_the_inventory_in_force_differs_from_itself_in_nothing() -> None:
    told = replay(NOW, NOW, mail(1, "boss@ours.example", rule="vip"), mail(2, "a@ours.example"))
    assert (told.mails, told.recipients, told.mails_differ, told.count) == (2, 2, 0, 0)
    assert (told.by, told.items, told.decided_otherwise) == ((), (), 0)


def test_recipients_and_mails_are_counted_apart() -> None:
    after = inventory([EXCHANGE, ARCHIVE], [VIP, rule("inbound", "archive", recipients=["*@ours.example"])])
    told = replay(NOW, after, mail(1, "a@ours.example", "b@ours.example"), mail(2, "boss@ours.example", rule="vip"))
    assert (told.mails, told.recipients, told.mails_differ, told.count) == (2, 3, 1, 2)
    assert [(one.mail.id, one.address) for one in told.items] == [("m1", "a@ours.example"), ("m1", "b@ours.example")]
    assert told.by == ((Differs.PROFILE, 2), (Differs.SERVERS, 2))
    assert told.changes == ((told.items[0].change, 2),)
    assert told.items[0].change.sentence == "relayed by archive instead of exchange, with other servers"
    assert replayed_sentence(told, 2) == "Of the last 2 mails this file would treat 1 differently."
    assert replayed_sentence(told, 5) == "Of all 2 mails in the history this file would treat 1 differently."


def test_who_would_be_refused_and_who_accepted() -> None:
    only_vip = inventory([EXCHANGE, ARCHIVE], [VIP])
    told = replay(NOW, only_vip, mail(1, "a@ours.example"))
    assert told.by == ((Differs.REFUSED, 1),)
    assert told.items[0].change.after.profile == ""
    assert told.items[0].change.sentence == "no rule matches any more: refused"
    told = replay(only_vip, NOW, mail(1, "a@ours.example"))
    assert told.by == ((Differs.ACCEPTED, 1),)
    assert told.items[0].change.sentence == "refused now, would be relayed by exchange"
    assert told.decided_otherwise == 1


def test_another_rule_with_the_same_profile_is_a_difference() -> None:
    told = replay(NOW, inventory([EXCHANGE], [INBOUND]), mail(1, "boss@ours.example", rule="vip"))
    assert told.by == ((Differs.RULE, 1),)
    assert told.items[0].change.sentence == "rule inbound decides instead of rule vip"


@pytest.mark.parametrize(
    ("changes", "differs", "sentence"),
    [
        ({"servers": ["10.0.0.1", "10.0.0.9"]}, [Differs.SERVERS], "relayed by exchange, whose servers change"),
        ({"servers": ["10.0.0.2", "10.0.0.1"]}, [Differs.SERVERS], "relayed by exchange, whose servers change"),
        ({"preference": "round-robin"}, [Differs.PREFERENCE], "relayed by exchange, whose preference changes"),
        ({"tls": "starttls-required"}, [Differs.TLS], "relayed by exchange, whose TLS settings change"),
        (
            {"tls": "starttls-required", "username": "u", "password": {"env": "P"}, "servers": ["10.0.0.1"]},
            [Differs.SERVERS, Differs.TLS, Differs.LOGIN],
            "relayed by exchange, whose servers, TLS settings and login change",
        ),
        ({"pool": {"enabled": True}}, [], ""),
    ],
)
def test_a_profile_that_is_changed(changes: dict[str, Any], differs: list[Differs], sentence: str) -> None:
    after = inventory([{**EXCHANGE, **changes}, ARCHIVE], [VIP, INBOUND])
    told = replay(NOW, after, mail(1, "a@ours.example"))
    assert [differ for differ, _ in told.by] == differs
    assert [one.change.sentence for one in told.items] == ([sentence] if sentence else [])


def test_a_profile_under_another_name_leads_to_the_same_servers() -> None:
    after = inventory([{**EXCHANGE, "name": "new"}], [VIP, rule("inbound", "new", recipients=["*@ours.example"])][1:])
    told = replay(NOW, after, mail(1, "a@ours.example"))
    assert told.by == ((Differs.PROFILE, 1),)
    assert told.items[0].change.sentence == "relayed by new instead of exchange, which leads to the same servers"


def test_only_so_many_differences_are_kept_and_all_are_counted() -> None:
    told = replay(NOW, inventory([EXCHANGE], []), *(mail(n, "a@ours.example") for n in range(5)), most=2)
    assert (told.count, told.mails_differ, [one.mail.id for one in told.items]) == (5, 5, ["m0", "m1"])


def test_the_changes_are_summed_up_most_recipients_first() -> None:
    after = inventory([EXCHANGE, ARCHIVE], [rule("rest", recipients=["*@ours.example"])])
    mails = [mail(1, "boss@ours.example", "a@ours.example"), mail(2, "b@ours.example")]
    told = replay(NOW, after, *mails, most=0)
    assert told.items == ()
    assert [(change.before.rule, change.after.rule, count) for change, count in told.changes] == [
        ("inbound", "rest", 2),
        ("vip", "rest", 1),
    ]


def test_what_was_decided_otherwise_then_is_counted_apart() -> None:
    told = replay(NOW, NOW, mail(1, "a@ours.example", rule="gone"), mail(2, "a@ours.example", profile="archive"))
    assert (told.count, told.decided_otherwise) == (0, 2)
    assert "For 2 recipients the policy in force decides otherwise" in otherwise_sentence(told)
    assert otherwise_sentence(replay(NOW, NOW)) == ""


def test_a_rewritten_postmaster_without_a_rule_goes_by_own_mail() -> None:
    past = mail(1, "admin@own.example", rule="", profile="archive")
    told = replay(NOW, NOW, past)
    assert (told.count, told.decided_otherwise) == (0, 0)
    moved = inventory([EXCHANGE, {**ARCHIVE, "servers": ["10.0.0.4"]}], [VIP, INBOUND])
    (one,) = replay(NOW, moved, past).items
    assert (one.change.before.rule, one.change.after.servers) == ("", ("smtp://10.0.0.4:25",))
    caught = inventory([EXCHANGE, ARCHIVE], [rule("own", recipients=["*@own.example"])])
    (one,) = replay(NOW, caught, past).items
    assert one.change.sentence.startswith(
        "rule own decides instead of own_mail; relayed by exchange instead of archive"
    )
    without = replay(NOW, NOW, past, own=None)
    assert (without.count, without.decided_otherwise) == (0, 1)


def test_an_own_mail_profile_that_the_file_lacks_is_told() -> None:
    past = mail(1, "admin@own.example", rule="", profile="archive")
    (one,) = replay(NOW, inventory([EXCHANGE], [INBOUND]), past).items
    assert one.change.sentence == (
        "relayed by archive, whose servers change; there is no SMTP server profile archive, so it would wait"
    )


def test_an_empty_history_is_said_to_be_empty() -> None:
    assert replayed_sentence(replay(NOW, NOW), 1000) == "The history has no mails to replay."
