"""The backlog drill: many mails wait for a next hop that is dead while another next hop keeps its rate.

The dead one is a socket that accepts connections and never greets, the costliest kind. Measured before and during
the backlog, in the same run: mails a second to the living next hop, and the workers' memory. Asserted: every mail
for the living next hop arrives, the whole backlog is in the queue, and memory stays under its bound.
"""

import argparse
import asyncio
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.drill_record import run
from support.processes import Node, inventory_for
from support.recording import Recorder, recording_sink
from support.waiting import eventually

MEMORY_MIB = 400
_OCTETS = 1024


@contextmanager
def deaf() -> Iterator[int]:
    """A port where connections are accepted by the kernel and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        yield listening.getsockname()[1]


async def _sender(port: int, to: str, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def reply() -> bytes:
        while True:
            line = await reader.readline()
            assert line[:1] in (b"2", b"3"), line
            if line[3:4] == b" ":
                return line

    await reply()
    writer.write(b"EHLO drill.test\r\n")
    await reply()
    content = b"Subject: backlog\r\n\r\n" + b"x" * 62 + b"\r\n" * 1
    content += (b"y" * 62 + b"\r\n") * (_OCTETS // 64) + b".\r\n"
    for _ in range(count):
        writer.write(b"MAIL FROM:<a@drill.test>\r\nRCPT TO:<%b>\r\nDATA\r\n" % to.encode())
        for _ in range(3):
            await reply()
        writer.write(content)
        await reply()
    writer.write(b"QUIT\r\n")
    await reply()
    writer.close()
    await writer.wait_closed()


def send(port: int, to: str, count: int, sessions: int = 20) -> None:
    """Sends `count` mails over kept sessions; returns when all are acknowledged."""

    async def all_of_them() -> None:
        each = [count // sessions + (number < count % sessions) for number in range(sessions)]
        await asyncio.gather(*(_sender(port, to, share) for share in each if share))

    asyncio.run(all_of_them())


def memory_mib(node: Node) -> float:
    """The largest peak of resident memory among the node's processes."""
    peaks = [0]
    for pid in node.children():
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
        peaks.append(int(found.group(1)) if found else 0)
    return max(peaks) / 1024


def rate(node: Node, recorder: Recorder, count: int) -> float:
    """Mails a second from the first octet sent until the living next hop has the last."""
    before, started = len(recorder.taken), time.monotonic()
    send(node.port, "you@ours.example", count)
    eventually(lambda: len(recorder.taken) >= before + count, "all mails at the living next hop", 300)
    return count / (time.monotonic() - started)


def drill(folder: Path, mails: int, probes: int) -> dict[str, float]:
    """The figures of one run. AssertionError if a mail is missing or memory grows past its bound."""
    with deaf() as dead, recording_sink(Recorder()) as recorder:
        extra = inventory_for(dead, recipients="*@dead.example", profile="dead").replace('"inbound"', '"to the dead"')
        node = Node(folder, inventory_for(recorder.port, extra=extra))
        node.start()
        try:
            free = rate(node, recorder, probes)
            send(node.port, "you@dead.example", mails)
            busy = rate(node, recorder, probes)
            queued = node.queued()
            assert queued == mails, f"{queued} of {mails} wait for the dead next hop"
            memory = memory_mib(node)
            assert memory < MEMORY_MIB, f"{memory:.0f} MiB"
        finally:
            node.stop()
    return {"mails": mails, "rate before": free, "rate during": busy, "ratio": busy / free, "peak MiB": memory}


def main() -> int:
    """`scripts/drills backlog`."""
    parser = argparse.ArgumentParser(prog="scripts/drills backlog", description=__doc__)
    parser.add_argument("--mails", type=int, default=200_000)
    parser.add_argument("--probes", type=int, default=3000)
    return run("backlog", parser, lambda folder, given: drill(folder, given.mails, given.probes))


if __name__ == "__main__":
    sys.exit(main())
