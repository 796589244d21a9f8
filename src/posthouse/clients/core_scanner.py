"""MetaDefender Core as a scanner: `scan_ports.Scanner`.

Standards: OpenAPI of MetaDefender Core 4.18; `/readyz` since 5.0; design sections 2.8, 2.9 and 3.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from posthouse.client_tls import TlsSettingsError
from posthouse.clients import core_requests
from posthouse.clients.core_batch import CoreBatch
from posthouse.clients.http_client import HttpRequest, NoAnswer, NoConnection, TlsFailed
from posthouse.clients.http_clients import HttpClients
from posthouse.clients.http_key import api_key
from posthouse.clients.metadefender import core_key_field
from posthouse.clients.way import no_key
from posthouse.core.core_answer import ServerFault
from posthouse.core.http_ladder import core_ready, core_version
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure
from posthouse.ports import SecretUnreadable, Unseal
from posthouse.scan_ports import Asked, ScanAnswer, Scanned, ScanOrder

_FAREWELL_SECONDS = 5.0
"""For closing or cancelling a batch, which no mail waits for."""
_FAREWELLS = 200
"""Under way at once; further batches are left to Core, which ends them by itself."""


class CoreScanner:
    """Speaks to the servers of profiles of type metadefender-core."""

    def __init__(self, clients: HttpClients, unseal: Unseal = no_key, folder: str | None = None) -> None:
        """`folder`: where sanitized files are, without a name, as long as somebody needs them."""
        self._clients, self._unseal, self._folder = clients, unseal, folder
        self._farewells: set[asyncio.Task[None]] = set()

    async def scan(
        self, profile: ServerProfile, server: str, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ScanAnswer:
        """scan_ports.Scanner.scan: all items as one batch."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        results: dict[int, Scanned] = {}
        batch = ""
        fault: ServerFault | None
        try:
            key = self._key(profile)
            async with self._clients.use(profile, server) as client:
                under_way = CoreBatch(client, key, order, seconds, self._folder)
                try:
                    fault = await under_way.run(items, results)
                finally:
                    batch = under_way.id
                    if batch:
                        done = core_requests.close_batch if under_way.whole else core_requests.cancel_batch
                        self._say_farewell(profile, server, done(key, batch))
        except (TlsSettingsError, SecretUnreadable) as error:
            fault = ServerFault(str(error), Failure.CONFIGURATION)
        why, failure = (fault.why, fault.failure) if fault is not None else ("", None)
        return ScanAnswer(results, why, failure, batch, loop.time() - began)

    async def probe(self, profile: ServerProfile, server: str, seconds: float) -> str:
        """scan_ports.Scanner.probe: its version, and whether it is ready, where it can tell."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            async with self._clients.use(profile, server) as client:
                fault = core_version(await client.get("/version", {}, seconds))[1]
                if fault:
                    return fault
                ready = await client.get("/readyz?verbose=true", {}, max(0.0, end - loop.time()))
        except (NoAnswer, NoConnection, TlsFailed, TlsSettingsError) as error:
            return str(error)
        return "" if 400 <= ready.status < 500 else core_ready(ready)[1]

    async def close(self) -> None:
        """Waits for the last words to the servers, a few seconds at most; the HTTP clients are their owner's."""
        await asyncio.gather(*self._farewells)

    def _key(self, profile: ServerProfile) -> Mapping[str, str]:
        """Raises SecretUnreadable."""
        key = api_key(profile, self._unseal)
        return dict([core_key_field(key)]) if key else {}

    def _say_farewell(self, profile: ServerProfile, server: str, requests: Sequence[HttpRequest]) -> None:
        if len(self._farewells) >= _FAREWELLS:
            return
        task = asyncio.get_running_loop().create_task(self._farewell(profile, server, requests))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _farewell(self, profile: ServerProfile, server: str, requests: Sequence[HttpRequest]) -> None:
        """The first that the server knows."""
        with suppress(NoAnswer, NoConnection, TlsFailed, TlsSettingsError):
            async with self._clients.use(profile, server) as client:
                for request in requests:
                    if (await client.send(request, _FAREWELL_SECONDS)).status not in (404, 405):
                        return
