"""Processes seen from outside: who descends from us, how much memory they hold, and how all of them are ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes ours, so that `descendants` never loses one."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def descendants(root: int) -> list[int]:
    """All living descendants of `root`, without it, parents first."""
    parents = _parents()
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Mapped:
    """Proportional set size in bytes: private pages whole, shared ones divided among those that map them."""

    total: int
    shared: int  # the part of it that is shared memory (memfd, tmpfs)


def proportional_bytes(pids: Iterable[int]) -> Mapped:
    """The memory that these processes map."""
    sums = {"Pss:": 0, "Pss_Shmem:": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(" ")
                if name in sums:
                    sums[name] += int(rest.split()[0]) * 1024
    return Mapped(sums["Pss:"], sums["Pss_Shmem:"])


def shared_bytes_of_machine() -> int:
    """All shared memory of the machine (memfd, tmpfs, /dev/shm), mapped or not."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no Shmem")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_descendants(limit_seconds: float = 30) -> None:
    """Kills and reaps everything that descends from us (`adopt_orphans` was called, so orphans do too).

    Repeats until nobody is left, since what is killed last may have started another meanwhile.
    """
    end = time.monotonic() + limit_seconds
    while (victims := descendants(os.getpid())) and time.monotonic() < end:
        for pid in victims:
            kill(pid)
        for pid in victims:
            # Only our own children can be waited for: the others become ours as their parents end.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
