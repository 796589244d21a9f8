"""A worker process: a whole gateway, joined."""

import asyncio
import gc
import os
import random
import signal
import socket
import ssl
from collections.abc import Callable, Mapping

from posthouse import node, telemetry, tls
from posthouse.app.child import listen_to_supervisor, post, say_ready
from posthouse.app.scanning_parts import scanning_parts
from posthouse.app.stores import load_inventory
from posthouse.client_tls import trust_besides
from posthouse.clients.smtp import SmtpRelay
from posthouse.core.inventory import Inventory
from posthouse.core.kept_act import KeptAct
from posthouse.core.mail_id import MailIds
from posthouse.core.profile import ServerProfile
from posthouse.core.service_type import ServiceType
from posthouse.digital_id.authorities import Authorities
from posthouse.inbound.listener import Listeners
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.live import LiveRows
from posthouse.mailflow.pipeline import Pipeline
from posthouse.ports import Acted, QueueCommand, SecretUnreadable, SystemClock, Tools, WorkerState
from posthouse.settings import ListenerTls, NodeSettings
from posthouse.storage import open as storage

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
FOLLOW_SECONDS = 5.0
"""How long mail that was under way at a rename may wait by the former name."""


class Worker:
    """One worker process: a whole gateway."""

    def __init__(self, boot: node.Boot) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._stop = asyncio.Event()
        self._log = telemetry.logger("worker")
        self._acts: asyncio.Queue[QueueCommand] = asyncio.Queue()
        self._taken: set[int] = set()
        """Acts under way."""

    async def run(self) -> None:
        """Until SIGTERM or the end of the supervisor."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        settings, boot, clock = self._settings, self._boot, SystemClock()
        # First of all: a worker that hangs as it starts ends too. New settings find all parts made, for what comes
        # here is carried out at the first wait below.
        listen_to_supervisor(
            settings,
            lambda fresh: post(loop, self._reload_settings, fresh),
            lambda: post(loop, self._stop.set),
        )
        trust_besides(Authorities(settings.data_dir).path)
        self._shared = storage.open_shared(settings.data_dir, settings.database)
        spool = storage.open_spool(settings.data_dir, settings.database, boot.owner, clock, loop)
        unseal = self._shared.keyring.unseal
        relay = self._relay = SmtpRelay(settings.hostname, settings.limits, self._share, self._digital_id, unseal)
        tools = Tools(clock, spool, relay, MailIds(clock.now, os.urandom).new, random.random)
        inventory = self._load_inventory()
        results = telemetry.DeliveryLog(f"worker-{boot.index}")
        self._delivery = Delivery(tools, settings, inventory, self._transactions(settings), results)
        self._scans = scanning_parts(tools, settings, inventory, self._delivery, self._digital_id, unseal, results)
        self._pipeline = Pipeline(tools, settings, inventory, self._delivery, self._scans.scanning)
        contexts = self._tls_contexts()
        sockets = [socket.socket(fileno=descriptor) for descriptor in boot.descriptors]
        self._listeners = Listeners(
            sockets=sockets,
            settings=settings,
            reception=self._pipeline,
            tls_contexts=contexts,
            clock=clock,
        )
        taken = await spool.take_back(clock.now())
        if taken:
            self._log.info("took back mail", mails=taken)
        await self._listeners.start()
        tasks = [
            loop.create_task(self._delivery.run()),
            loop.create_task(self._scans.scanning.run()),
            loop.create_task(self._look_at_scanners()),
            loop.create_task(self._obey_acts(clock)),
            loop.create_task(self._poll(clock)),
        ]
        # Mails die by reference counts; what is here now stays. So the collector has next to nothing to find.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Together: what is still accepted stays in the spool and goes on at the next start.
        drain = self._settings.limits.drain_seconds
        await asyncio.gather(
            self._listeners.drain(drain), self._scans.scanning.stop(drain), self._delivery.stop(drain)
        )
        await self._scans.close()
        relay.close()
        await relay.closed()
        await spool.close()
        self._shared.close()

    def _load_inventory(self) -> Inventory:
        """The snapshot. A stored secret that cannot be read is told now, not only when mail waits for it."""
        inventory = load_inventory(self._shared.inventory)
        for profile in inventory.profiles.values():
            for secret in (profile.password, profile.api_key):
                try:
                    if secret is not None and secret.source == "stored":
                        self._shared.keyring.unseal(secret.token)
                except SecretUnreadable as error:
                    self._log.error("stored secret cannot be read", profile=profile.name, error=str(error))
        return inventory

    def _share(self, number: int) -> int:
        """This worker's part of a per-node number: n//N + (k < n%N)."""
        return number // self._settings.workers + (self._boot.index < number % self._settings.workers)

    def _transactions(self, settings: NodeSettings) -> int:
        return max(1, self._share(settings.limits.transactions_per_server))

    def _digital_id(self) -> tuple[str, str]:
        return tls.ensure_digital_id(self._settings.data_dir, self._settings.hostname)

    def _tls_contexts(self) -> list[ssl.SSLContext | None]:
        wanted = [listener.tls is not ListenerTls.NONE for listener in self._settings.listeners]
        context = tls.renewing_context(self._digital_id, self._settings.hostname) if any(wanted) else None
        return [context if each else None for each in wanted]

    def _reload_settings(self, fresh: NodeSettings) -> None:
        """Limits, trusted clients, own mail and hostname change at once; listeners need a restart."""
        self._settings = fresh
        self._delivery.reload(fresh, self._transactions(fresh))
        self._scans.reload(fresh)
        self._relay.reload(fresh.hostname, fresh.limits)
        self._pipeline.settings = fresh
        self._listeners.reload(fresh)

    async def _look_at_scanners(self) -> None:
        """Probes that are due, drains that end."""
        while True:
            try:
                self._scans.scanners.servers.look()
            except Exception as error:
                self._log.error("scanners not looked at", error=repr(error))
            await asyncio.sleep(1.0)

    async def _obey_acts(self, clock: SystemClock) -> None:
        """Acts on kept mail, one after the other: a rescan takes its time, and the poll must not wait for it."""
        loop = asyncio.get_running_loop()
        while True:
            command = await self._acts.get()
            acted = Acted(0)
            try:
                acted = await self._scans.kept.command(command)
            except Exception as error:
                self._log.error("act not carried out", act=command.kind, error=repr(error))
            try:
                report = self._shared.commands.report
                await loop.run_in_executor(None, report, self._boot.owner, command.id, acted, clock.now())
            except Exception as error:
                self._log.error("act not reported", act=command.kind, error=repr(error))
            self._taken.discard(command.id)

    async def _poll(self, clock: SystemClock) -> None:
        """Looks for a new inventory revision and for commands; writes the live rows, and once the first is there says
        `ready`: a node whose workers are all ready is one whose /readyz counts them all."""
        loop = asyncio.get_running_loop()
        worker, since = self._boot.owner, clock.now() - 60
        live = LiveRows(worker, self._server_facts, clock)
        last: dict[str, object] = {}
        written, followed = 0.0, 0.0
        while True:
            try:
                now = clock.now()
                if abs(now - written) >= 1:
                    facts, rows = self._facts(), live.look(self._delivery.inventory.profiles.values())
                    news = facts != last or rows.rows or rows.all
                    if news or abs(now - written) >= HEARTBEAT_SECONDS:
                        state = WorkerState(worker, now, facts)
                        await loop.run_in_executor(None, self._shared.commands.heartbeat, state, rows)
                        live.written(rows)
                        if not written:
                            say_ready()
                        last, written = facts, now
                revision = await loop.run_in_executor(None, self._shared.inventory.revision)
                if revision != self._pipeline.inventory.revision:
                    fresh = await loop.run_in_executor(None, self._load_inventory)
                    self._pipeline.inventory = fresh
                    self._delivery.take_inventory(fresh)
                    self._scans.take_inventory(fresh)
                    self._relay.pools.retire(fresh.profiles)
                    self._log.info("inventory in force", revision=fresh.revision)
                    followed = 0.0
                self._relay.pools.leave(self._delivery.servers.drained)
                if abs(now - followed) >= FOLLOW_SECONDS:
                    await self._delivery.follow_renames()
                    followed = now
                for command in await loop.run_in_executor(None, self._shared.commands.pending, worker, since):
                    if command.kind in list(KeptAct):
                        self._take_act(command)
                        continue
                    await self._scans.scanning.give_back(command)
                    acted = await self._delivery.command(command)
                    await loop.run_in_executor(
                        None, self._shared.commands.report, worker, command.id, acted, clock.now()
                    )
            except Exception as error:
                self._log.error("shared database not reached", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)

    def _take_act(self, command: QueueCommand) -> None:
        """It is pending until it is reported."""
        if command.id not in self._taken:
            self._taken.add(command.id)
            self._acts.put_nowait(command)

    def _server_facts(
        self, profile: ServerProfile, server: str, epoch: Callable[[float], float | None]
    ) -> Mapping[str, object] | None:
        """None for a type whose servers have no live state."""
        if profile.type is ServiceType.SMTP:
            connections = self._relay.pools.facts(profile.name, server)
            return {**self._delivery.servers.facts(profile, server, epoch), **connections}
        if profile.type is ServiceType.METADEFENDER_VAULT:
            return None
        return self._scans.scanners.servers.facts(profile, server, epoch)

    def _facts(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "sessions": self._listeners.sessions_open,
            "accepted_sessions": self._listeners.sessions_accepted,
            "memory_mails": self._delivery.in_memory,
            "received": self._pipeline.received,
            "relayed": self._delivery.relayed,
            "scanned": self._scans.scanning.scanned,
            "found_bad": self._scans.scanning.bad,
            "inventory_revision": self._pipeline.inventory.revision,
        }


def run_worker(boot: node.Boot) -> None:
    """The worker process; uvloop, or plain asyncio when POSTHOUSE_LOOP=asyncio."""
    telemetry.configure(f"worker-{boot.index}")
    if os.environ.get("POSTHOUSE_LOOP") == "asyncio":
        asyncio.run(Worker(boot).run())
    else:
        import uvloop

        uvloop.run(Worker(boot).run())
