"""The loop over the addresses of a server, which relay and every TEST share."""

import asyncio
from collections.abc import Mapping

import pytest

from posthouse.clients.connecting import NoConnection, first_connected


async def attempt(
    addresses: list[str], faults: Mapping[str, str], seconds: float = 9.0
) -> tuple[str, tuple[str, ...], list[float]]:
    shares: list[float] = []

    async def open_one(address: str, share: float) -> str:
        shares.append(share)
        if address in faults:
            raise NoConnection(faults[address])
        return f"connection to {address}"

    first = await first_connected(addresses, open_one, seconds)
    assert first.connection == f"connection to {first.address}"
    return first.address, first.tried, shares


def test_the_first_that_can_be_connected_to_is_taken_and_those_before_are_told() -> None:
    address, tried, shares = asyncio.run(attempt(["a", "b", "c"], {"a": "connection refused"}))
    assert (address, tried) == ("b", ("a: connection refused",))
    assert shares == [pytest.approx(3.0, abs=0.5), pytest.approx(4.5, abs=0.5)]


def test_what_the_last_one_said_is_raised_with_what_all_said() -> None:
    with pytest.raises(NoConnection) as raised:
        asyncio.run(attempt(["a", "b"], {"a": "connection refused", "b": "host unreachable"}))
    assert str(raised.value) == "host unreachable"
    assert raised.value.tried == ("a: connection refused", "b: host unreachable")


def test_without_an_address_there_is_no_connection() -> None:
    with pytest.raises(NoConnection, match="name not found"):
        asyncio.run(attempt([], {}))


def test_no_share_is_below_zero() -> None:
    _, _, shares = asyncio.run(attempt(["a", "b"], {"a": "no"}, -1.0))
    assert shares == [0.0, 0.0]
