"""What TLS costs and saves at a server, and the certificate it showed last: for its live row."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.histogram import quantile
from posthouse.core.limits import Limits
from support.servers import LOOPS, Peer, profile, run, scripted, transaction
from support.tls_servers import EXPIRED_ON, NAME, ServerKind, TlsServer, client_digital_id, tls_server


def verified(server: TlsServer) -> dict[str, Any]:
    return {"tls": "starttls-required", "tls_name": NAME, "tls_ca": server.ca}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def facts(loop: str, server: TlsServer, folder: Path, mails: int, **settings: Any) -> dict[str, Any]:
    """Of the server, after so many mails one after the other and a probe."""
    by = profile(server.specification, **settings)

    async def go() -> dict[str, Any]:
        relay = SmtpRelay("mx1.example", Limits(), digital_id=lambda: client_digital_id(folder))
        for _ in range(mails):
            await relay.send(by, server.specification, transaction("b@ours.example"), lambda: True)
        await relay.probe(by, server.specification, whole=True, login=False)
        found = relay.pools.facts(by.name, server.specification)
        relay.close()
        await relay.closed(10)
        return found

    return run(loop, go())


def timed(found: Mapping[str, Any]) -> dict[str, int]:
    return {name: sum(counts.values()) for name, counts in found["times"].items()}


def test_handshakes_that_kept_connections_save_are_counted_apart(loop: str, tmp_path: Path) -> None:
    with tls_server(ServerKind.GOOD) as server:
        found = facts(loop, server, tmp_path, 4, pool={"enabled": True}, **verified(server))
    pool = found["pool"]
    assert (pool["opened"], pool["reused"], pool["tls"], pool["tls_saved"]) == (2, 3, 2, 3)
    assert timed(found) == {"connect": 2, "tls": 2, "transaction": 4}
    assert NAME in found["certificate"]["names"]
    assert found["certificate"]["expires_at"] > (datetime.now(UTC) + timedelta(days=1)).timestamp()


def test_in_clear_text_there_is_no_handshake_to_save(loop: str, tmp_path: Path) -> None:
    with tls_server(ServerKind.GOOD) as server:
        found = facts(loop, server, tmp_path, 3, pool={"enabled": True}, tls="none")
    assert (found["pool"]["reused"], found["pool"]["tls"], found["pool"]["tls_saved"]) == (2, 0, 0)
    assert found["certificate"] is None


def test_a_certificate_that_is_refused_has_been_seen_too(loop: str, tmp_path: Path) -> None:
    with tls_server(ServerKind.EXPIRED) as server:
        found = facts(loop, server, tmp_path, 1, **verified(server))
    assert found["certificate"]["expires_at"] == EXPIRED_ON.replace(tzinfo=UTC).timestamp()
    assert timed(found) == {"connect": 2, "tls": 0, "transaction": 0}
    assert found["pool"]["tls"] == 0


def test_a_slow_opening_is_no_part_of_the_transaction(loop: str) -> None:
    async def slow(peer: Peer) -> None:
        await asyncio.sleep(0.5)  # what it does before its greeting
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say("250 taken")

    async def go() -> float | None:
        async with scripted(slow) as server:
            by, relay = profile(server.server), SmtpRelay("mx1.example", Limits())
            await relay.send(by, server.server, transaction("b@ours.example"), lambda: True)
            counts = relay.pools.use(by.name, server.server).transactions.counts(monotonic())
            relay.close()
            return quantile(counts, 1.0)

    found = run(loop, go())
    assert found is not None
    assert found < 0.4
