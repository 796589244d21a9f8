"""The drill of a next hop that is gone every two seconds, with all its connections: all mail arrives, no DSN is made.

Mails are sent one after the other at a steady rate all the while. A mail may arrive twice only where the connection
was lost after its final dot. What waits for the schedule at the end is made due by an operator, as people would.
"""

import argparse
import sys
import time
from pathlib import Path

from support.backlog_drill import send
from support.drill_record import run
from support.limited_server import LimitedServer, flapping
from support.processes import Node, inventory_for
from support.server_drill import events
from support.waiting import eventually


def drill(folder: Path, seconds: float, rate: float) -> dict[str, float]:
    """The figures of one run."""
    server = LimitedServer(1000)
    with flapping(server, up=2, down=2, seconds=seconds) as port:
        node = Node(folder, inventory_for(port))
        node.start()
        try:
            sent, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                send(node.port, "you@ours.example", max(1, round(rate)), sessions=1)
                sent += max(1, round(rate))
                time.sleep(1)

            def all_out() -> bool:
                node.api("POST", "queue/retry", {"all": True})
                return node.queued() == 0

            eventually(all_out, "an empty queue", 120)
            relayed = {line["id"] for line in events(node, "relayed")}
            assert len(relayed) == sent, f"{len(relayed)} of {sent} were relayed"
            assert not list(events(node, "failed"))
            mails = node.get("mails?limit=200")["items"]
            assert isinstance(mails, list)
            assert not [one for one in mails if one["own"]], "a DSN was made"
            opened = len(list(events(node, "circuit opened")))
        finally:
            node.stop()
    return {"mails": sent, "taken by the next hop": server.taken, "circuits opened": opened, "seconds": seconds}


def main() -> int:
    """`scripts/drills flapping`."""
    parser = argparse.ArgumentParser(prog="scripts/drills flapping", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=20, help="mails a second, roughly")
    return run("flapping", parser, lambda folder, given: drill(folder, given.seconds, given.rate))


if __name__ == "__main__":
    sys.exit(main())
