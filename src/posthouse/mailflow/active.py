"""The mails in a worker's memory: bounded, one line of parcels per next hop (design section 3, "Bounded always").

No next hop holds more than half of the bounds, so that a dead one cannot starve the others; new mail and due
retries alternate. What does not fit stays in the database as QUEUED and is taken when there is room.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.core.mail import InlineOctets, Mail, MailRecipient


@dataclass(frozen=True, slots=True)
class Parcel:
    """The recipients of one mail that go the same way: one profile, one content version."""

    mail: Mail
    profile: str
    version: int
    recipients: tuple[MailRecipient, ...]
    retry: bool = False

    @property
    def octets(self) -> int:
        """What the parcel holds in memory (content in files weighs nothing)."""
        source = self.mail.contents[self.version].source
        return source.size if isinstance(source, InlineOctets) else 0


@dataclass(slots=True)
class NextHop:
    """Parcels of one profile that wait, how many are under way, and what they hold."""

    new: deque[Parcel] = field(default_factory=deque)
    due: deque[Parcel] = field(default_factory=deque)
    running: int = 0
    held: int = 0
    held_octets: int = 0
    turn_of_due: bool = False
    paused: bool = False
    """None of its servers may be addressed: its mail waits where it is."""
    backlog: bool = False
    """More is due in the database than memory took."""

    @property
    def waiting(self) -> int:
        return len(self.new) + len(self.due)


class ActiveQueue:
    """All next hops of a worker."""

    def __init__(self, mails: int, octets: int) -> None:
        self.mails, self.octets = mails, octets
        self.held = 0
        self.held_octets = 0
        self._hops: dict[str, NextHop] = {}

    def hop(self, profile: str) -> NextHop:
        found = self._hops.get(profile)
        if found is None:
            found = self._hops[profile] = NextHop()
        return found

    def room(self, profile: str) -> tuple[int, int]:
        """How many more parcels and octets memory takes for this next hop."""
        hop = self.hop(profile)
        return (
            max(0, min(self.mails - self.held, self.mails // 2 - hop.held)),
            max(0, min(self.octets - self.held_octets, self.octets // 2 - hop.held_octets)),
        )

    def reserve(self, profile: str, octets: int) -> bool:
        """Takes room for one parcel; False (and a backlog) when there is none."""
        parcels, free = self.room(profile)
        hop = self._hops[profile]
        if parcels < 1 or free < octets:
            hop.backlog = True
            return False
        self._hold(hop, 1, octets)
        return True

    def force(self, profile: str, octets: int) -> None:
        """Takes room for a parcel that was already taken from the database within `room`."""
        self._hold(self.hop(profile), 1, octets)

    def free(self, profile: str, octets: int) -> None:
        """Gives room back."""
        self._hold(self.hop(profile), -1, -octets)

    def _hold(self, hop: NextHop, parcels: int, octets: int) -> None:
        hop.held += parcels
        hop.held_octets += octets
        self.held += parcels
        self.held_octets += octets

    def put(self, parcel: Parcel) -> None:
        hop = self.hop(parcel.profile)
        (hop.due if parcel.retry else hop.new).append(parcel)

    def put_back(self, parcel: Parcel) -> None:
        """A parcel to which nothing has happened: it is the next again."""
        hop = self.hop(parcel.profile)
        (hop.due if parcel.retry else hop.new).appendleft(parcel)

    def paused(self) -> list[str]:
        """Profiles whose next hop is paused."""
        return [profile for profile, hop in self._hops.items() if hop.paused]

    def pop(self, profile: str) -> Parcel | None:
        """The next parcel: new mail and due retries alternate."""
        hop = self.hop(profile)
        first, second = (hop.due, hop.new) if hop.turn_of_due else (hop.new, hop.due)
        hop.turn_of_due = not hop.turn_of_due
        if first:
            return first.popleft()
        return second.popleft() if second else None

    def take_out(self, wanted: Callable[[Parcel], bool]) -> list[Parcel]:
        """Removes waiting parcels (never those under way), for hold, reroute and delete."""
        out: list[Parcel] = []
        for hop in self._hops.values():
            for line in (hop.new, hop.due):
                kept = [parcel for parcel in line if not wanted(parcel)]
                if len(kept) < len(line):
                    out += [parcel for parcel in line if wanted(parcel)]
                    line.clear()
                    line.extend(kept)
        for parcel in out:
            self.free(parcel.profile, parcel.octets)
        return out


def parcels(mail: Mail, recipients: tuple[MailRecipient, ...], *, retry: bool = False) -> list[Parcel]:
    """One parcel for each profile and version among `recipients`."""
    first = recipients[0] if recipients else None
    if first is not None and all(r.profile == first.profile and r.version == first.version for r in recipients):
        return [Parcel(mail, first.profile, first.version, recipients, retry)]
    ways: dict[tuple[str, int], list[MailRecipient]] = {}
    for recipient in recipients:
        ways.setdefault((recipient.profile, recipient.version), []).append(recipient)
    return [Parcel(mail, profile, version, tuple(group), retry) for (profile, version), group in ways.items()]
