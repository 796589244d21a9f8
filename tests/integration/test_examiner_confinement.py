"""What an examiner has given up, and that none outlives its parent."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from posthouse.scan_ports import ExaminationFailed
from support.examiners import LIMITS, examiners, living, mail, until
from support.waiting import eventually


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_limits_are_in_force_and_nothing_is_inherited() -> None:
    os.environ["POSTHOUSE_CANARY"] = "canary"
    read, write = os.pipe()
    os.set_inheritable(write, True)

    async def go() -> None:
        async with examiners(octets=1 << 28) as examiner:
            with pytest.raises(ExaminationFailed) as failed:
                await examiner.examine(mail("limits"), LIMITS)
            limits = {"AS": 1 << 28, "FSIZE": 1 << 28, "NOFILE": 24, "NPROC": 0, "CORE": 0}
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: all(map(living, examiner.pool.processes)), "the end of the first")
            assert f"{limits} / 0 [0, 1, 2]" in str(failed.value)
            group = os.getpgrp()
            assert {os.getpgid(pid) for pid in examiner.pool.processes} == {group}
            assert not any(b"canary" in environment(pid) for pid in examiner.pool.processes)

    try:
        asyncio.run(go())
    finally:
        del os.environ["POSTHOUSE_CANARY"]
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("read\r\nPath: /etc/passwd", "PermissionError: [Errno 13] Permission denied: '/etc/passwd'"),
        ("read\r\nPath: /proc/1/status", "PermissionError: [Errno 13] Permission denied: '/proc/1/status'"),
        (f"read\r\nPath: {os.__file__}", "ValueError: read 1"),
        ("end-parent", "PermissionError: [Errno 1] Operation not permitted"),
    ],
)
def test_no_file_but_those_of_python_can_be_opened_and_nobody_be_signalled(subject: str, why: str) -> None:
    needed = 6 if subject == "end-parent" else 1
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < needed:
        pytest.skip("this kernel's Landlock cannot do it")

    async def go() -> None:
        async with examiners() as examiner:
            with pytest.raises(ExaminationFailed) as failed:
                await examiner.examine(mail(subject), LIMITS)
            assert str(failed.value) == f"the examiner failed ({why}) over this mail"

    asyncio.run(go())


def test_nobody_can_be_connected_to() -> None:
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 4:
        pytest.skip("this kernel's Landlock cannot do it")
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def go() -> None:
            async with examiners() as examiner:
                with pytest.raises(ExaminationFailed, match="Permission denied"):
                    await examiner.examine(mail(f"connect\r\nPort: {server.getsockname()[1]}"), LIMITS)

        asyncio.run(go())


PARENT = """
import asyncio, sys
sys.path[:0] = {path!r}
from support.examiners import LIMITS, examiners, mail, until
async def go():
    async with examiners(count=2, seconds=100) as examiner:
        await examiner.examine(mail("a"), LIMITS)
        working = asyncio.create_task(examiner.examine(mail("loop"), LIMITS))
        await examiner.examine(mail("a"), LIMITS)
        pool = examiner.pool
        await until(lambda: len(pool._idle) == 1 and len(pool.processes) == 2 and not pool._starting, "a busy one")
        print(*pool.processes, flush=True)
        await working
asyncio.run(go())
"""


def test_children_end_with_their_parent_also_those_that_are_busy() -> None:
    code = PARENT.format(path=[path for path in sys.path if path])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        try:
            assert len(children) == 2
            assert all(map(living, children))
            parent.send_signal(signal.SIGKILL)
            eventually(lambda: not any(map(living, children)), "the end of all examiners", 10.0)
        finally:
            parent.kill()
            for pid in filter(living, children):
                os.kill(pid, signal.SIGKILL)
