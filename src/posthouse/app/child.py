"""What worker and console have in common: the boot message, the wire to the supervisor."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable

from posthouse import node
from posthouse.settings import NodeSettings


def read_boot() -> node.Boot:
    boot = node.read_message(0)
    if not isinstance(boot, node.Boot):
        raise SystemExit("posthouse.app is started by `posthouse serve` only")
    return boot


def listen_to_supervisor(
    settings: NodeSettings, on_settings: Callable[[NodeSettings], None], on_end: Callable[[], None]
) -> None:
    """A thread that waits for new settings, or for the end of the supervisor."""

    def wait() -> None:
        drain = settings.limits.drain_seconds
        while (message := node.read_message(0)) is not None:
            if isinstance(message, NodeSettings):
                drain = message.limits.drain_seconds
                on_settings(message)
        on_end()
        # The supervisor's net under a process that hangs is gone with it, and the next start waits for this one.
        time.sleep(drain + node.END_SECONDS)
        os._exit(1)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *given: object) -> None:
    """From another thread; a loop that has ended hears nothing more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *given)


def say_ready() -> None:
    """To the supervisor; if that is gone, the end of standard input says so."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"ready\n")
