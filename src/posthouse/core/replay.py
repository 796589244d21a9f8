"""Replay: how another inventory would treat mails of the history, told apart from the one in force, per recipient.

Both inventories are asked the same question, so what an inventory says of itself is never a difference. Recipients
that were refused left no mail, so nobody can replay them. A postmaster that was rewritten is asked for by the address
that it was rewritten to, for the other one is not kept.
Source: issue 5, replay.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.inventory import Inventory
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.core.profile_aspect import Aspect, changed_aspects

NOT_SEEN = (
    "Recipients that were refused are not in the history, so a replay cannot tell which of them would be accepted. "
    "Mail that posthouse itself generates is left out."
)


CHANGES_TOLD = 100


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """`own_mail` as far as it decides on incoming mail."""

    profile: str
    postmaster: str


class Differs(StrEnum):
    """What is different; the first two stand alone."""

    REFUSED = "refused"
    """Accepted by the policy in force, refused by the other."""
    ACCEPTED = "accepted"
    """The other way round."""
    RULE = "rule"
    PROFILE = "profile"
    """Another name; what it holds may be the same."""
    SERVERS = "servers"
    PREFERENCE = "preference"
    TLS = "tls"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What an inventory does with one recipient."""

    rule: str = ""
    profile: str = ""
    """Empty: refused. With a profile and no rule it goes by `own_mail`."""
    servers: tuple[str, ...] = ()
    """As listed in the profile; empty where there is no SMTP profile of this name."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the other inventory would do instead; the same for many recipients."""

    before: Treatment
    """By the inventory in force."""
    after: Treatment
    differs: tuple[Differs, ...]

    @property
    def sentence(self) -> str:
        """From the view of the other inventory."""
        before, after = self.before, self.after
        if Differs.REFUSED in self.differs:
            return "no rule matches any more: refused"
        if Differs.ACCEPTED in self.differs:
            return f"refused now, would be relayed by {after.profile}"
        parts = []
        if Differs.RULE in self.differs:
            parts.append(f"{_by(after)} decides instead of {_by(before)}")
        changed = [d.value for d in self.differs if d not in (Differs.RULE, Differs.PROFILE)]
        if Differs.PROFILE in self.differs:
            other = f", with other {_joined(changed)}" if changed else ", which leads to the same servers"
            parts.append(f"relayed by {after.profile} instead of {before.profile}{other}")
        elif changed:
            parts.append(
                f"relayed by {after.profile}, whose {_joined(changed)} {'change' if _plural(changed) else 'changes'}"
            )
        if not after.servers:
            parts.append(f"there is no SMTP server profile {after.profile}, so it would wait")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class OtherTreatment:
    """One recipient whom the other inventory treats differently."""

    mail: PastMail
    address: str
    change: Change


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it."""

    mails: int
    recipients: int
    mails_differ: int
    """Mails with at least one recipient that would be treated differently."""
    count: int
    """Recipients that would be treated differently."""
    by: tuple[tuple[Differs, int], ...]
    """How many of them differ in what, those with none left out; one may differ in several."""
    changes: tuple[tuple[Change, int], ...]
    """Each with its recipients, most of them first; up to `CHANGES_TOLD`."""
    items: tuple[OtherTreatment, ...]
    """In the order taken, up to the most that were asked for."""
    decided_otherwise: int
    """Recipients for whom the inventory in force decides otherwise than was decided then."""


class Replay:
    """Takes mails one by one. `own`: None where `own_mail` is not set; `most`: how many differences are kept."""

    def __init__(self, in_force: Inventory, other: Inventory, own: OwnRoute | None, most: int) -> None:
        self._in_force, self._other, self._own, self._most = in_force, other, own, most
        self._mails = self._recipients = self._mails_differ = self._count = self._otherwise = 0
        self._by: Counter[Differs] = Counter()
        self._changes: Counter[Change] = Counter()
        self._items: list[OtherTreatment] = []
        self._aspects: dict[tuple[str, str], tuple[Aspect, ...]] = {}
        """By the names of both profiles: compared once."""

    def take(self, mail: PastMail) -> None:
        """The next mail."""
        for _ in self.taking(mail):
            pass

    def taking(self, mail: PastMail) -> Iterator[None]:
        """The next mail, a recipient at a time: each costs as much as there are rules. Given up before its end,
        nothing of it counts."""
        found: list[tuple[str, Change]] = []
        otherwise = 0
        for recipient in mail.recipients:
            yield
            before = self._treatment(self._in_force, mail, recipient)
            after = self._treatment(self._other, mail, recipient)
            otherwise += (recipient.rule, recipient.profile) != (before.rule, before.profile)
            differs = self._compare(before, after)
            if differs:
                found.append((recipient.address, Change(before, after, differs)))
        self._mails += 1
        self._recipients += len(mail.recipients)
        self._otherwise += otherwise
        self._mails_differ += bool(found)
        self._count += len(found)
        for address, change in found:
            self._by.update(change.differs)
            self._changes[change] += 1
            if len(self._items) < self._most:
                self._items.append(OtherTreatment(mail, address, change))

    def told(self) -> Replayed:
        """What has come of it so far."""
        return Replayed(
            mails=self._mails,
            recipients=self._recipients,
            mails_differ=self._mails_differ,
            count=self._count,
            by=tuple([(differs, self._by[differs]) for differs in Differs if self._by[differs]]),
            changes=tuple(self._changes.most_common(CHANGES_TOLD)),
            items=tuple(self._items),
            decided_otherwise=self._otherwise,
        )

    def _treatment(self, inventory: Inventory, mail: PastMail, recipient: PastRecipient) -> Treatment:
        own, policy = self._own, inventory.policy
        if recipient.rule:
            decision = policy.resolve(
                mail.client, mail.reverse_path, recipient.address, own.postmaster if own is not None else None
            )
            by_own_mail = decision.own_postmaster
        else:
            # It was a postmaster's and is rewritten: another look would not find out any more that it was.
            decision = policy.decide(mail.client, mail.reverse_path, recipient.address)
            by_own_mail = decision.rule is None
        if decision.rule is not None:
            rule, name = decision.rule.name, decision.rule.relay_profile
        elif by_own_mail and own is not None:
            rule, name = "", own.profile
        else:
            return Treatment()
        profile = inventory.next_hop(name)
        return Treatment(rule, name, profile.server_texts if profile is not None else ())

    def _compare(self, before: Treatment, after: Treatment) -> tuple[Differs, ...]:
        if not before.profile or not after.profile:
            if before.profile == after.profile:
                return ()
            return (Differs.ACCEPTED,) if after.profile else (Differs.REFUSED,)
        names = ((Differs.RULE, before.rule, after.rule), (Differs.PROFILE, before.profile, after.profile))
        changed = [differs for differs, one, other in names if one != other]
        return (*changed, *[Differs(aspect.value) for aspect in self._profile_aspects(before, after)])

    def _profile_aspects(self, before: Treatment, after: Treatment) -> tuple[Aspect, ...]:
        key = (before.profile, after.profile)
        found = self._aspects.get(key)
        if found is None:
            one, other = self._in_force.next_hop(before.profile), self._other.next_hop(after.profile)
            if one is not None and other is not None:
                found = changed_aspects(one, other)
            else:
                found = () if one is other else (Aspect.SERVERS,)
            self._aspects[key] = found
        return found


def replayed_sentence(told: Replayed, asked: int, complete: bool = True) -> str:
    """The answer in one sentence. `asked`: how many mails were asked for; `complete`: False if time was up before."""
    if not complete:
        return (
            f"Time was up: only the last {told.mails:,} of up to {asked:,} mails were looked at; "
            f"of these this file would treat {told.mails_differ:,} differently."
        )
    if not told.mails:
        return "The history has no mails to replay."
    mails = f"{told.mails:,} mail{'s' if told.mails != 1 else ''}"
    begin = f"Of the last {mails}" if told.mails >= asked else f"Of all {mails} in the history"
    return f"{begin} this file would treat {told.mails_differ:,} differently."


def otherwise_sentence(told: Replayed) -> str:
    """What has changed since those mails came; empty if nothing has."""
    count = told.decided_otherwise
    if not count:
        return ""
    who = "1 recipient" if count == 1 else f"{count:,} recipients"
    return (
        f"For {who} the policy in force decides otherwise than was decided then: rules were edited meanwhile, or an "
        "operator rerouted the mail. The file is compared with the policy in force."
    )


def _by(treatment: Treatment) -> str:
    return f"rule {treatment.rule}" if treatment.rule else "own_mail"


_WORDS = {"tls": "TLS settings", "login": "login"}


def _joined(aspects: list[str]) -> str:
    words = [_WORDS.get(aspect, aspect) for aspect in aspects]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _plural(aspects: list[str]) -> bool:
    return len(aspects) > 1 or aspects[0] in (Aspect.SERVERS, Aspect.TLS)
