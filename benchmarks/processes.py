"""CPU and memory of processes, as the kernel tells them."""

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Those of children that have ended and were waited for included."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU of each thread of a process; the main thread has the number of the process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def anonymous_mib(pids: Sequence[int]) -> float:
    """Memory that is not of files, of all of them together."""
    return sum(_kib(f"/proc/{pid}/smaps_rollup", "Anonymous") for pid in pids) / 1024


def resident_mib(pid: int) -> float:
    return _kib(f"/proc/{pid}/status", "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The most resident memory the process ever had."""
    return _kib(f"/proc/{pid}/status", "VmHWM") / 1024


def named(pids: Sequence[int], word: str) -> list[int]:
    """Those that have `word` as an argument of their command line."""
    found = []
    for pid in pids:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in arguments:
            found.append(pid)
    return found


def settle(processes: Callable[[], Sequence[int]], seconds: float = 4.0) -> None:
    """Until they use no CPU any more: what is still to be written after the last mail belongs to its cost."""
    end, last = time.monotonic() + seconds, cpu_seconds(processes())
    while time.monotonic() < end:
        time.sleep(0.25)
        now = cpu_seconds(processes())
        if now - last < 1.5 / _TICKS:
            return
        last = now


def _kib(file: str, name: str) -> int:
    """0 for a process that has ended."""
    try:
        text = Path(file).read_text()
    except OSError:
        return 0
    found = re.search(rf"(?m)^{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0
