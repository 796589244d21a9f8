"""Takes due mail, groups it by next hop, makes attempts, records each.

One coroutine per delivery attempt; the SMTP dialogue itself runs in callbacks. What an attempt changed goes to
the spool in one commit together with the DSNs it calls for; until that commit is durable the parcel is kept and
the commit is tried again, so that a mail the next hop has taken is not sent twice.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

from posthouse.core import preference
from posthouse.core.circuit import SPREAD_SECONDS
from posthouse.core.inventory import Inventory
from posthouse.core.mail import (
    Mail,
    MailId,
    MailRecipient,
    RecipientState,
    Stage,
    TrailEntry,
)
from posthouse.core.outcome import RecipientResult, Result
from posthouse.core.profile import Preference, ServerProfile
from posthouse.mailflow.active import ActiveQueue, NextHop, Parcel, parcels
from posthouse.mailflow.addressing import Settled, Walk, Walked
from posthouse.mailflow.early import CommitUnderWay
from posthouse.mailflow.notices import Generated, Notices
from posthouse.mailflow.recording import record
from posthouse.mailflow.servers import Servers, Wake
from posthouse.mailflow.settling import ends_and_deferrals, settled
from posthouse.ports import UNLOCK_LOGIN, Acted, Age, Outcome, QueueCommand, Tools
from posthouse.settings import NodeSettings
from posthouse.telemetry import DeliveryLog, logger

log = logger("delivery")

# The longest a deferred mail oversleeps; the schedule's steps are minutes.
TICK_SECONDS = 1.0
TAKE_BACK_TICKS = 10
# A refill is one read of the database; a larger one would hold the writer up.
REFILL_MAILS = 500
OLD_TICKS = 60
OLD_OCTETS = 16 * 1024 * 1024


RENAMED = "rename of the server profile"
"""Who reroutes then, in the trail."""


class Delivery:
    """One worker's deliveries; `inventory` and `settings` are swapped whole on reload."""

    def __init__(
        self, tools: Tools, settings: NodeSettings, inventory: Inventory, per_server: int, results: DeliveryLog
    ) -> None:
        """`per_server`: this worker's share of `transactions_per_server`."""
        self._tools = tools
        self.settings = settings
        self.inventory = inventory
        self.per_server = per_server
        self._results = results
        self._queue = ActiveQueue(settings.limits.memory_mails, settings.limits.memory_octets)
        self._rotations: dict[str, preference.Rotation] = {}
        self.servers = Servers(tools.relay, tools.clock, tools.random, per_server)
        self._take_servers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refilling: set[str] = set()
        self._to_wake: list[Wake] = []
        self._early: dict[MailId, tuple[CommitUnderWay, asyncio.Task[None]]] = {}
        """Attempts of mails whose commit is under way."""
        self._waking = False
        self._stopping = False
        self.relayed = 0

    def reload(self, settings: NodeSettings, per_server: int) -> None:
        """New settings hold for what comes next; what is in memory stays there."""
        self.settings = settings
        self.per_server = per_server
        self.servers.reload(per_server)
        self._queue.mails, self._queue.octets = settings.limits.memory_mails, settings.limits.memory_octets

    def take_inventory(self, fresh: Inventory) -> None:
        """The inventory in force from now on. Whoever edits a profile mends it: mail that its servers' faults put off
        is woken, without waiting for the schedule."""
        before = self.inventory.next_hop
        hops = fresh.next_hops()
        names = {p.name: p for p in hops} | {name: p for name in fresh.former if (p := fresh.next_hop(name))}
        edited = {name for name, p in names.items() if (was := before(name)) is None or was.revision != p.revision}
        self.inventory = fresh
        self._take_servers()
        if edited:
            self._to_wake.append(Wake(frozenset(edited), first=False))

    def _take_servers(self) -> None:
        self.servers.keep_only(self.inventory.next_hops())
        self.servers.drain(self.inventory.drains)

    @property
    def in_memory(self) -> int:
        """Parcels in this worker's memory."""
        return self._queue.held

    # --- from the pipeline: new mail --------------------------------------------------------------------

    def admit(self, mail: Mail) -> Mail:
        """Before the commit: recipients for which memory has room stay ACTIVE, the others become QUEUED."""
        refused = [
            parcel
            for parcel in parcels(mail, _active(mail))
            if not self._queue.reserve(parcel.profile, parcel.octets)
        ]
        if not refused:
            return mail
        put_off = {recipient.seq for parcel in refused for recipient in parcel.recipients}
        return replace(
            mail,
            recipients=tuple(
                replace(r, state=RecipientState.QUEUED) if r.seq in put_off else r for r in mail.recipients
            ),
        )

    def begin_early(self, mail: Mail) -> None:
        """The commit is under way, and nothing else is: the next hop hears of the mail meanwhile. The final dot waits
        for the commit; should that fail, the attempt is cut off and has never been (`withdraw`)."""
        ways = parcels(mail, _active(mail))
        if len(ways) != 1 or self._stopping:
            return
        (parcel,) = ways
        hop = self._queue.hop(parcel.profile)
        if not (hop.running or hop.waiting or hop.paused):
            commit = CommitUnderWay()
            self._early[mail.id] = commit, self._attempting(parcel, hop, commit)

    def withdraw(self, mail: Mail) -> None:
        """The commit failed: gives back what `admit` took."""
        if early := self._early.pop(mail.id, None):
            early[1].cancel()
        for parcel in parcels(mail, _active(mail)):
            self._queue.free(parcel.profile, parcel.octets)

    def enqueue(self, mail: Mail) -> None:
        """The commit is durable: the mail goes straight on, in memory."""
        commit, attempt = self._early.pop(mail.id, (None, None))
        if commit is not None and attempt is not None and not attempt.done():
            commit.end(self._may_finish)
            return
        for parcel in parcels(mail, _active(mail)):
            self._queue.put(parcel)
            self._start(parcel.profile)

    # --- the loop ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for due mail until cancelled; now and then for mail of dead workers and for old failed emails."""
        turn = 0
        while True:
            try:
                self.look_at_servers()
            except Exception:
                log.exception("servers not looked at")
            await self.look()
            await asyncio.sleep(TICK_SECONDS)
            turn += 1
            if turn % TAKE_BACK_TICKS == 0:
                await self._keep_house()
            if turn % OLD_TICKS == 0:
                await self._look_for_old()

    def look_at_servers(self) -> None:
        """Starts probes that are due; lets next hops go on that have a server again, and wakes their mail."""
        self.servers.look()
        hops = self.inventory.next_hops()
        if probe_seconds := self.settings.limits.probe_seconds:
            self.servers.look_at_unused(hops, probe_seconds)
        for name in self._queue.paused():
            profile = self.inventory.next_hop(name)
            if profile is None or self.servers.admits(profile):
                self._queue.hop(name).paused = False
                self._start(name)
        found = [replace(wake, profiles=self._with_former(wake.profiles)) for wake in self.servers.to_wake(hops)]
        self._to_wake = list(dict.fromkeys([*self._to_wake, *found]))
        if self._to_wake and not self._waking and not self._stopping:
            self._waking = True
            waking = asyncio.get_running_loop().create_task(self._wake())
            self._tasks.add(waking)
            waking.add_done_callback(self._tasks.discard)

    def _with_former(self, names: frozenset[str]) -> frozenset[str]:
        """Mail that was under way when a profile was renamed waits by the name that it had."""
        return names | {name for name, now in self.inventory.former.items() if now in names}

    async def _wake(self) -> None:
        """Mail put off because of the server's fault goes on; what cannot be woken now is at the next look."""
        try:
            while self._to_wake:
                wake = self._to_wake.pop(0)
                now, seconds, most = self._tools.clock.now(), SPREAD_SECONDS, None
                if wake.first:
                    seconds, most = 0, 1
                try:
                    woken = await self._tools.spool.wake(wake.profiles, now, seconds, most)
                except Exception:
                    self._to_wake.append(wake)
                    raise
                if woken:
                    log.info("deferred mail woken", next_hops=sorted(wake.profiles), recipients=woken)
        except Exception as error:
            log.error("deferred mail not woken", error=repr(error))
        finally:
            self._waking = False

    async def _look_for_old(self) -> None:
        """Mail of a paused next hop is not looked at otherwise; senders are owed the delay DSN all the same, and the
        failure DSN when the lifetime is over."""
        now, limits = self._tools.clock.now(), self.settings.limits
        age = Age(untold_before=now - limits.delay_seconds, before=now - limits.lifetime_seconds)
        for name in self._queue.paused():
            old = self._queue.take_out(partial(_is_old, name, age))
            try:
                for mail in await self._tools.spool.take_due(name, now, REFILL_MAILS, OLD_OCTETS, age):
                    old += parcels(mail, mail.recipients, retry=True)
            except Exception as error:
                log.error("queue not read", next_hop=name, error=repr(error))
            for parcel in old:
                waits = RecipientResult(Result.WAITS, "no server may be addressed", "4.3.2")
                try:
                    await self._settle(parcel, Walked({r.seq: Settled(waits, "") for r in parcel.recipients}, ()))
                except Exception:
                    # As in `_attempt`: the mail stays durable and ACTIVE, and the others get their turn.
                    log.exception("old mail not settled", id=parcel.mail.id)

    async def _keep_house(self) -> None:
        now = self._tools.clock.now()
        try:
            taken = await self._tools.spool.take_back(now)
            if taken:
                log.info("took over mail of a dead worker", mails=taken)
            await self._tools.spool.purge(now, self.settings.limits.failed_days * 86400.0)
        except Exception as error:
            log.error("queue not kept", error=repr(error))

    async def look(self) -> None:
        """Takes what is due now of every next hop that has room."""
        try:
            now = self._tools.clock.now()
            for profile, due_at in (await self._tools.spool.next_due()).items():
                if due_at <= now:
                    await self._refill(profile)
        except Exception as error:
            log.error("queue not read", error=repr(error))

    async def _refill(self, profile: str) -> None:
        """Takes due mail of one next hop from the database into memory."""
        mails, octets = self._queue.room(profile)
        hop = self._queue.hop(profile)
        if self._stopping or hop.paused or mails == 0 or octets == 0 or profile in self._refilling:
            return
        self._refilling.add(profile)
        try:
            asked = min(mails, REFILL_MAILS)
            taken = await self._tools.spool.take_due(profile, self._tools.clock.now(), asked, octets)
            hop.backlog = len(taken) == asked
            for mail in taken:
                for parcel in parcels(mail, mail.recipients, retry=True):
                    self._queue.force(parcel.profile, parcel.octets)
                    self._queue.put(parcel)
        except Exception as error:
            log.error("queue not read", next_hop=profile, error=repr(error))
        finally:
            self._refilling.discard(profile)
        self._start(profile)

    def _limit(self, profile: str) -> int:
        """How many transactions may be open for a next hop. With failover all go to one server."""
        found = self.inventory.next_hop(profile)
        if found is None or found.preference is Preference.FAILOVER:
            return self.per_server
        return self.per_server * len(found.servers)

    def _start(self, profile: str) -> None:
        hop = self._queue.hop(profile)
        while hop.running < self._limit(profile) and not self._stopping and not hop.paused:
            parcel = self._queue.pop(profile)
            if parcel is None:
                break
            self._attempting(parcel, hop)
        if (
            hop.backlog
            and hop.waiting < self._limit(profile)
            and profile not in self._refilling
            and not self._stopping
            and not hop.paused
        ):
            refill = asyncio.get_running_loop().create_task(self._refill(profile))
            self._tasks.add(refill)
            refill.add_done_callback(self._tasks.discard)

    async def stop(self, seconds: float) -> None:
        """Lets attempts under way end for at most `seconds`; the rest is taken up again at the next start."""
        self._stopping = True
        await self.servers.stop()
        running = [task for task in self._tasks if not task.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- one attempt -------------------------------------------------------------------------------------

    def _attempting(self, parcel: Parcel, hop: NextHop, commit: CommitUnderWay | None = None) -> asyncio.Task[None]:
        hop.running += 1
        task = asyncio.get_running_loop().create_task(self._attempt(parcel, hop, commit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attempt(self, parcel: Parcel, hop: NextHop, commit: CommitUnderWay | None) -> None:
        """`commit`: that of the mail, if it is under way still."""
        profile = self.inventory.next_hop(parcel.profile)
        order = self._order(parcel, profile) if profile is not None else ()
        put_back = False
        try:
            may_finish = self._may_finish if commit is None else partial(commit.may_finish, self._may_finish)
            walked = await Walk(
                self._tools.relay, self._tools.clock, parcel, self.servers, profile, order, may_finish
            ).run()
            if commit is not None:
                await commit.ended
            if walked.nowhere:
                put_back = hop.paused = True
                self._queue.put_back(parcel)
                return
            if walked.served_by:
                self._served(parcel.profile, walked.served_by)
            await self._settle(parcel, walked)
        except Exception:
            # A bug of ours: the mail stays durable and ACTIVE; it is tried again at the next start.
            log.exception("attempt failed", id=parcel.mail.id)
        finally:
            hop.running -= 1
            if not put_back and (commit is None or commit.has_ended):
                self._queue.free(parcel.profile, parcel.octets)
                if hop.paused and profile is not None and self.servers.admits(profile):
                    hop.paused = False
            self._start(parcel.profile)

    def _order(self, parcel: Parcel, profile: ServerProfile) -> tuple[str, ...]:
        return preference.order(
            profile.preference,
            profile.server_texts,
            self._rotations.get(parcel.profile, preference.Rotation()),
            self._tools.random(),
            parcel.recipients[0].uncertain_at,
        )

    def _served(self, name: str, server: str) -> None:
        profile = self.inventory.next_hop(name)
        if profile is not None:
            rotation = self._rotations.get(name, preference.Rotation())
            self._rotations[name] = preference.served(rotation, profile.server_texts, server)

    def _may_finish(self) -> bool | Awaitable[bool]:
        """The lease is looked at just before the final dot (design section 3, Uncertain)."""
        return True if self._tools.spool.lease_fresh() else self._tools.spool.renew()

    # --- what an attempt changes -------------------------------------------------------------------------

    async def _settle(self, parcel: Parcel, walked: Walked) -> None:
        """From results to rows: new states, DSNs, one commit, one log line per result."""
        now = self._tools.clock.now()
        mail = parcel.mail
        limits = self.settings.limits
        changed = tuple([settled(mail, r, walked.settled[r.seq], now, limits) for r in parcel.recipients])
        self.relayed += sum([r.state is RecipientState.RELAYED for r in changed])
        self._log(mail, changed, walked, now)
        trail: list[TrailEntry] = []
        generated: list[Generated] = []
        if any(r.state is not RecipientState.RELAYED or "SUCCESS" in r.notify for r in changed):
            trail += ends_and_deferrals(changed, now)
            notices = Notices(self.settings, self._tools)
            generated, changed, told = notices.called_for(mail, changed, walked.settled, now)
            trail += told
        if walked.passed_over:
            passed = [{"server": server, "why": why} for server, why in walked.passed_over]
            trail.append(TrailEntry(now, "passed-over", {"servers": passed}))
        generated = [(self.admit(own), entries) for own, entries in generated]
        await record(
            self._tools.spool,
            Outcome(mail, changed, walked.attempts, tuple(trail), tuple([(m, tuple(t)) for m, t in generated])),
        )
        for own, _ in generated:
            self.enqueue(own)

    def _log(self, mail: Mail, changed: tuple[MailRecipient, ...], walked: Walked, now: float) -> None:
        for recipient in changed:
            found = walked.settled[recipient.seq]
            event = "deferred" if recipient.state is RecipientState.QUEUED else recipient.state.value
            self._results.result(
                now,
                mail.id,
                mail.reverse_path,
                recipient.address,
                found.server or "none",
                event,
                found.result.status,
                now - mail.received_at,
                found.result.reply,
            )

    # --- operators' commands -----------------------------------------------------------------------------

    async def command(self, command: QueueCommand) -> Acted:
        """Carries out retry, hold, release, reroute or delete on this worker's mails, or `unlock-login`."""
        now = self._tools.clock.now()
        if command.kind == UNLOCK_LOGIN:
            profile = self.inventory.next_hop(command.profile)
            unlocked = self.servers.unlock_login(profile) if profile is not None else 0
            if unlocked:
                self.look_at_servers()
            return Acted(unlocked)
        if command.kind in ("hold", "reroute", "delete"):
            for parcel in self._queue.take_out(lambda parcel: _concerns(command, parcel)):
                back = tuple([replace(r, state=RecipientState.QUEUED, due_at=now) for r in parcel.recipients])
                await record(self._tools.spool, Outcome(parcel.mail, back))
        acted = await self._tools.spool.act(command, now)
        if command.kind in ("retry", "release", "reroute"):
            if command.kind == "retry" and not command.mails:
                self.servers.probe_all()
            await self.look()
        return acted

    async def follow_renames(self) -> None:
        """Waiting mail names its profile, too: it takes the new name, unless another profile has the former one by
        now. What is under way finds its profile by the former name, and follows at the next call."""
        profiles = self.inventory.profiles
        for former, name in self.inventory.former.items():
            if former not in profiles and name in profiles:
                await self.command(QueueCommand(0, "reroute", RENAMED, profile=former, target=name))


def _concerns(command: QueueCommand, parcel: Parcel) -> bool:
    meant = parcel.mail.id in command.mails if command.mails else parcel.mail.received_at <= command.at
    return meant and command.profile in ("", parcel.profile)


def _is_old(profile: str, age: Age, parcel: Parcel) -> bool:
    received_at, untold = parcel.mail.received_at, any(not r.delay_told for r in parcel.recipients)
    return parcel.profile == profile and (received_at < age.before or (untold and received_at < age.untold_before))


def _active(mail: Mail) -> tuple[MailRecipient, ...]:
    """Those that are to be relayed now; what is to be scanned is none of this module's business."""
    return tuple([r for r in mail.recipients if r.state is RecipientState.ACTIVE and r.stage is Stage.RELAY])
