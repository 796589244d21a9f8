"""The drill of many servers: a profile of 20, of which 10 swallow connections, 8 refuse them and 2 serve.

Round robin, so that every mail would begin somewhere else. Mail is sent until the circuits of the 18 are open; then
the delay of each further mail, from receipt to the next hop's 250, is read from the log; two sessions send them,
slower than the servers can take them. Asserted: every mail arrives once, none of those mails was tried at one of the
18 (probes are no mail), and no circuit of the two opened.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from support.backlog_drill import send
from support.drill_record import run
from support.processes import Node
from support.recording import Recorder, recording_sink
from support.servers import closed_port, deaf_port

CONFIG = 'hostname = "mx.test"\n[limits]\nconnect_seconds = 2\n'
INVENTORY = """
[[server_profiles]]
name = "many"
type = "smtp"
servers = {servers}
preference = "round-robin"

[[rules]]
name = "inbound"
match = {{ recipients = ["*@ours.example"] }}
relay = {{ profile = "many" }}
"""


def events(node: Node, event: str) -> Iterator[dict[str, object]]:
    """Lines of the log about `event`."""
    for line in node.log.read_text("utf-8").splitlines():
        if f'"event": "{event}"' in line:
            yield json.loads(line)


def drill(folder: Path, mails: int) -> dict[str, float]:
    """The figures of one run."""
    with ExitStack() as stack:
        deaf = [stack.enter_context(deaf_port()) for _ in range(10)]
        refusing = [stack.enter_context(closed_port()) for _ in range(8)]
        sinks = [stack.enter_context(recording_sink(Recorder())) for _ in range(2)]
        good = [f"smtp://127.0.0.1:{sink.port}" for sink in sinks]
        ports = [*deaf[:5], *refusing[:4], sinks[0].port, *deaf[5:], *refusing[4:], sinks[1].port]
        node = Node(folder, INVENTORY.format(servers=json.dumps([f"127.0.0.1:{port}" for port in ports])), CONFIG)
        node.start()
        try:
            sent = 0
            while len({str(line["server"]) for line in events(node, "circuit opened")}) < 18:
                send(node.port, "you@ours.example", 60)
                sent += 60
                node.wait_empty()
                assert sent < 6000, "the circuits do not open"
            before = len(list(events(node, "relayed")))
            send(node.port, "you@ours.example", mails, sessions=2)
            node.wait_empty()
            relayed = list(events(node, "relayed"))[before:]
            assert len(relayed) == mails
            taken = sum(len(sink.taken) for sink in sinks)
            assert taken == sent + mails, f"{taken} of {sent + mails} arrived"
            opened = {f"smtp://{line['server']}" for line in events(node, "circuit opened")}
            assert not opened & set(good), "the circuit of a server that serves has opened"
            for line in relayed[:: max(1, mails // 100)]:
                attempts = node.get(f"mails/{line['id']}")["attempts"]
                assert isinstance(attempts, list)
                assert {attempt["server"] for attempt in attempts} <= set(good), attempts
            delays = sorted(float(str(line["delay"])) for line in relayed)
        finally:
            node.stop()
    return {
        "mails": mails,
        "mails until 18 circuits were open": sent,
        "p50 s": statistics.median(delays),
        "p99 s": delays[int(len(delays) * 0.99)],
        "longest s": delays[-1],
    }


def main() -> int:
    """`scripts/drills servers`."""
    parser = argparse.ArgumentParser(prog="scripts/drills servers", description=__doc__)
    parser.add_argument("--mails", type=int, default=1000)
    return run("servers", parser, lambda folder, given: drill(folder, given.mails))


if __name__ == "__main__":
    sys.exit(main())
