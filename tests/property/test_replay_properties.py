"""An inventory replayed against itself differs in nothing; rules that change places differ where both match, only."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.inventory import Inventory, build_inventory
from posthouse.core.mail import MailId
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.core.replay import Differs, OwnRoute, Replay, Replayed

PATTERNS = ["*@x.example", "*@*.x.example", "a@x.example", "b@y.example", "*@y.example", "postmaster"]
ADDRESSES = ["a@x.example", "b@x.example", "a@z.x.example", "b@y.example", "postmaster", "postmaster@x.example"]
CLIENTS = ["10.0.0.1", "192.0.2.1", "2001:db8::1"]
PROFILES = [
    {"name": "one", "type": "smtp", "servers": ["10.0.0.1"]},
    {"name": "two", "type": "smtp", "servers": ["10.0.0.2", "10.0.0.3"], "preference": "round-robin"},
]
SOME_RULES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
        st.sampled_from([None, ["10.0.0.0/8"]]),
        st.sampled_from(["one", "two"]),
        st.booleans(),
    ),
    max_size=5,
).map(
    lambda parts: [
        {
            "name": f"rule {number}",
            "enabled": enabled,
            "match": {"recipients": recipients, "clients": clients},
            "relay": {"profile": profile},
        }
        for number, (recipients, clients, profile, enabled) in enumerate(parts)
    ]
)
MAILS = st.lists(
    st.builds(
        lambda client, to, rule: PastMail(
            MailId("m"), 0.0, client, "s@t.example", tuple(PastRecipient(address, rule, "one") for address in to)
        ),
        st.sampled_from(CLIENTS),
        st.lists(st.sampled_from(ADDRESSES), max_size=3),
        st.sampled_from(["", "rule 0"]),
    ),
    max_size=8,
)
OWN = st.sampled_from([None, OwnRoute("two", "a@x.example"), OwnRoute("one", "admin@else.example")])


def _inventory(rules: list[dict[str, object]]) -> Inventory:
    return build_inventory(1, [(profile, 1) for profile in PROFILES], rules)


def _replay(before: Inventory, after: Inventory, own: OwnRoute | None, mails: list[PastMail]) -> Replayed:
    replay = Replay(before, after, own, most=1000)
    for mail in mails:
        replay.take(mail)
    return replay.told()


@given(SOME_RULES, OWN, MAILS)
def test_an_inventory_replayed_against_itself_differs_in_nothing(
    rules: list[dict[str, object]], own: OwnRoute | None, mails: list[PastMail]
) -> None:
    told = _replay(_inventory(rules), _inventory(rules), own, mails)
    assert (told.count, told.mails_differ, told.items, told.by) == (0, 0, (), ())
    assert (told.mails, told.recipients) == (len(mails), sum(len(mail.recipients) for mail in mails))


@given(SOME_RULES, MAILS, st.data())
def test_neighbours_that_change_places_differ_exactly_where_both_match_and_none_before(
    rules: list[dict[str, object]], mails: list[PastMail], data: st.DataObject
) -> None:
    if len(rules) < 2:
        return
    at = data.draw(st.integers(0, len(rules) - 2))
    swapped = [*rules[:at], rules[at + 1], rules[at], *rules[at + 2 :]]
    told = _replay(_inventory(rules), _inventory(swapped), None, mails)

    def alone(rule: dict[str, object], mail: PastMail, address: str) -> bool:
        return _inventory([rule]).policy.decide(mail.client, mail.reverse_path, address).rule is not None

    expected = [
        (mail, recipient.address)
        for mail in mails
        for recipient in mail.recipients
        if alone(rules[at], mail, recipient.address)
        and alone(rules[at + 1], mail, recipient.address)
        and not any(alone(rule, mail, recipient.address) for rule in rules[:at])
    ]
    assert [(one.mail, one.address) for one in told.items] == expected
    assert told.count == len(expected)
    for one in told.items:
        assert (one.change.before.rule, one.change.after.rule) == (rules[at]["name"], rules[at + 1]["name"])
        assert one.change.differs[0] is Differs.RULE


@given(SOME_RULES, SOME_RULES, OWN, MAILS)
def test_there_and_back_again_differs_in_the_same_recipients(
    rules: list[dict[str, object]], others: list[dict[str, object]], own: OwnRoute | None, mails: list[PastMail]
) -> None:
    there = _replay(_inventory(rules), _inventory(others), own, mails)
    back = _replay(_inventory(others), _inventory(rules), own, mails)
    assert [(o.mail, o.address, o.change.before, o.change.after) for o in there.items] == [
        (o.mail, o.address, o.change.after, o.change.before) for o in back.items
    ]
    assert sum(count for _, count in there.changes) == there.count == len(there.items)
    assert all(one.change.sentence for one in (*there.items, *back.items))
