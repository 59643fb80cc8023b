"""Processes by name (pid, start time), as the kernel tells of them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says: `state` is one letter, times are in clock ticks."""

    state: str
    parent: int
    cpu_ticks: int
    started: int


def stat(pid: int) -> Stat | None:
    """None: there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]))


def started(pid: int) -> int:
    """Start time in clock ticks since boot; 0: there is no such process."""
    found = stat(pid)
    return found.started if found else 0


def alive(pid: int, start: int) -> bool:
    """Whether that very process runs (a zombie does not)."""
    found = stat(pid) if pid > 0 else None
    return found is not None and found.started == start and found.state not in ("Z", "X")


def watch(pid: int) -> int | None:
    """A pidfd, readable once the process is dead; it works for processes that are not children. None: gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def kill(pidfd: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to exactly that process."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def oom_kills() -> int:
    """How often the kernel has killed for memory since it started, in any control group."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def cause_of_death(status: int | None, out_of_memory: bool) -> str:
    """A wait status in words."""
    if out_of_memory:
        return "was killed by the kernel: out of memory"
    if status is None:
        return "died"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"was killed by {name}"
    code = os.waitstatus_to_exitcode(status)
    return "ended" if code == 0 else f"ended with exit code {code}"
