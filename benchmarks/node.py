"""posthouse as the benchmarks run it: pool on, all mail to one next hop."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import Node, serving

_TLS_TO_NEXT_HOP = 'tls = "starttls-required"\ntls_verify = "none"\n'
_SCANNER = '[[server_profiles]]\nname = "clam"\ntype = "clamav"\nservers = ["{}"]\n'
_SCAN = 'scan = { profiles = ["clam"] }\n'


@contextmanager
def posthouse(next_hop: int, workers: int, *, tls: bool = False, clamd: str = "") -> Iterator[Node]:
    """`tls`: STARTTLS is offered to clients and demanded of the next hop, whose certificate is not verified. `clamd`:
    its server specification; every mail is scanned by it."""
    listener = "starttls-optional" if tls else "none"
    config = f'hostname = "bench.invalid"\n\n[[listeners]]\nlisten = "127.0.0.1:0"\ntls = "{listener}"\n'
    inventory = f"""[[server_profiles]]
name = "next"
type = "smtp"
servers = ["127.0.0.1:{next_hop}"]
pool = {{ enabled = true }}
{_TLS_TO_NEXT_HOP if tls else ""}
{_SCANNER.format(clamd) if clamd else ""}
[[rules]]
name = "all"
match = {{ recipients = ["*@bench.invalid"] }}
{_SCAN if clamd else ""}relay = {{ profile = "next" }}
"""
    with (
        tempfile.TemporaryDirectory(prefix="posthouse-bench-") as folder,
        serving(Path(folder), inventory, config=config, workers=workers) as node,
    ):
        yield node


def leader(node: Node) -> int:
    """Its parent process."""
    assert node.process is not None
    return node.process.pid
