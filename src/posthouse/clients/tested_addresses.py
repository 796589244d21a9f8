"""The first stages of every TEST: a name becomes the addresses that may be connected to, and one of them is."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import ip_address

from posthouse.clients.connecting import FirstConnected, NoConnection, Opened, first_connected, resolve
from posthouse.core.own_address import LINK_LOCAL, OWN_LISTENER, refusal
from posthouse.core.profile_test import StageName, StageResult, failed

Listeners = Collection[tuple[str, int]]
"""Addresses and ports where this node listens."""


async def addresses_to_test(
    host: str, port: int, listeners: Listeners, seconds: float
) -> tuple[StageResult, list[str]]:
    """The stage `resolve`, and the addresses in the order in which they are tried; none where it has failed."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        found = await resolve(host, port, seconds)
    except NoConnection as error:
        return failed(StageName.RESOLVE, loop.time() - began, str(error)), []
    refusals = [refusal(each, port, listeners, local=_is_local(each)) for each in found]
    allowed = [each for each, why in zip(found, refusals, strict=True) if not why]
    took, facts = loop.time() - began, {"addresses": found}
    # One address of ours is enough for a loop; link-local ones are only left out beside others.
    if OWN_LISTENER in refusals or not allowed:
        why = OWN_LISTENER if OWN_LISTENER in refusals else LINK_LOCAL
        return failed(StageName.RESOLVE, took, why, facts), []
    return StageResult(StageName.RESOLVE, True, took, facts), allowed


async def connected_to_test(
    addresses: Sequence[str], open_one: Callable[[str, float], Awaitable[Opened]], seconds: float
) -> tuple[StageResult, FirstConnected[Opened] | None]:
    """The stage `connect`, and the connection; None where it has failed. `open_one` as for `first_connected`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        first = await first_connected(addresses, open_one, seconds)
    except NoConnection as error:
        return failed(StageName.CONNECT, loop.time() - began, str(error), {"tried": list(error.tried)}), None
    facts = {"address": first.address, **({"tried": list(first.tried)} if first.tried else {})}
    return StageResult(StageName.CONNECT, True, loop.time() - began, facts), first


def _is_local(address: str) -> bool:
    """The address is one of this machine: a socket can be bound to it."""
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((address, 0))
    except OSError:
        return False
    return True
