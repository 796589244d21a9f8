"""A recording next hop in a thread of this process, for tests that are not asynchronous."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from posthouse.lab.sink import Sink, SinkOptions
from posthouse.lab.sink_rules import parse_rule


@contextmanager
def sink(*rules: str) -> Iterator[str]:
    """Its address, `127.0.0.1:PORT`."""
    started = threading.Event()
    facts: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def run() -> None:
        async with Sink(SinkOptions(rules=tuple(parse_rule(rule) for rule in rules))) as next_hop:
            stop = asyncio.Event()
            facts.append((asyncio.get_running_loop(), stop, next_hop.port))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(20), "the sink did not start"
    loop, stop, port = facts[0]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
