"""A control group in the unified tree (v2). Inner groups hold no processes, so that they can hand controllers on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.local.hierarchies import numbers, read, write
from springtide.engines.local.limits import Limits

_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
ROUNDS = 50  # of killing what was forked meanwhile


@dataclass(frozen=True, slots=True)
class UnifiedGroup:
    """`folder` lies below `base`; controllers are handed on from there, one level after the other."""

    base: Path
    folder: Path
    offered: frozenset[str]
    device: str | None = None  # "254:0", whose bandwidth is limited

    def make(self, limits: Limits) -> None:
        """The group is there with these limits; it may have been there. Raises OSError where it cannot be made."""
        below = self.folder.relative_to(self.base).parts
        at = self.base
        for part in below:
            hand_on(at, self.offered)
            at = at / part
            at.mkdir(exist_ok=True)
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """Other limits from now on; of a limit below what is used the kernel takes what it can."""
        quota = "max" if limits.cpu is None else f"{max(_LEAST_QUOTA_US, round(limits.cpu * _PERIOD_US))}"
        write(self.folder / "cpu.max", f"{quota} {_PERIOD_US}")
        write(self.folder / "cpu.weight", f"{min(10_000, max(1, limits.weight))}")
        write(self.folder / "memory.max", _or_max(limits.memory_bytes))
        write(self.folder / "memory.swap.max", "max" if limits.memory_bytes is None else "0")
        write(self.folder / "memory.oom.group", f"{int(limits.whole)}")
        write(self.folder / "pids.max", _or_max(limits.pids))
        if self.device:
            rate = _or_max(None if limits.disk_bytes_per_s is None else max(1, round(limits.disk_bytes_per_s)))
            write(self.folder / "io.max", f"{self.device} rbps={rate} wbps={rate}")

    def enter_here(self) -> None:
        """The calling process is in the group from now on. Raises OSError."""
        self.add(os.getpid())

    def add(self, pid: int) -> None:
        """Raises OSError: the process or the group is gone, or the group has groups below it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """Processes in it and below."""
        return [int(line) for file in _all(self.folder, "cgroup.procs") for line in read(file).split()]

    def kill(self) -> None:
        """SIGKILL to all in it and below, also to what they are forking."""
        if write(self.folder / "cgroup.kill", "1"):
            return
        write(self.folder / "cgroup.freeze", "1")
        kill_all(self.pids, rounds=1)
        write(self.folder / "cgroup.freeze", "0")

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for lack of memory."""
        return numbers(read(self.folder / "memory.events")).get("oom_kill", 0)

    def cpu_s(self) -> float:
        """Of it, of groups below, and of those that were below."""
        return numbers(read(self.folder / "cpu.stat")).get("usage_usec", 0) / 1e6

    def memory_bytes(self) -> int:
        """What it holds, without file contents that the kernel can drop."""
        held = read(self.folder / "memory.current").strip()
        dropped = numbers(read(self.folder / "memory.stat")).get("inactive_file", 0)
        return max(0, int(held) - dropped) if held.isdigit() else 0

    def disk_bytes(self) -> int:
        """Read from and written to devices."""
        words = read(self.folder / "io.stat").split()
        return sum(int(word[7:]) for word in words if word.startswith(("rbytes=", "wbytes=")))

    def identity(self) -> int:
        """Another number when the group was removed and made anew; 0: it is not there."""
        return identity(self.folder)

    def remove(self) -> bool:
        """The group and those below it are gone; False: some process is still in one."""
        return remove(self.folder)


def hand_on(group: Path, offered: frozenset[str]) -> None:
    """Groups below `group` may be limited; one after the other, since the kernel takes all of a line or nothing."""
    missing = offered - set(read(group / "cgroup.subtree_control").split())
    for name in sorted(missing):
        write(group / "cgroup.subtree_control", f"+{name}")


def identity(folder: Path) -> int:
    """The inode of a group's folder; 0: it is not there."""
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def remove(folder: Path) -> bool:
    """Remove a group and those below it, from the leaves on."""
    done = True
    try:
        for child in folder.iterdir():
            if child.is_dir():
                done = remove(child) and done
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return done


def remove_empty(folder: Path) -> None:
    """Remove a group that has neither processes nor groups below it; leave any other."""
    try:
        folder.rmdir()
    except OSError:
        return


def kill_all(pids: Callable[[], list[int]], rounds: int) -> None:
    """SIGKILL to all that `pids()` names, so many times at most: what forks may be ahead of one round."""
    for _ in range(rounds):
        found = pids()
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _all(folder: Path, name: str) -> list[Path]:
    return [folder / name, *folder.glob(f"**/*/{name}")]


def _or_max(value: int | None) -> str:
    return "max" if value is None else str(value)


def clear(group: Path) -> None:
    """The processes of a group go into one below it, so that it can hand controllers on."""
    beside = group / "springtide-beside"
    try:
        beside.mkdir(exist_ok=True)
    except OSError:
        return
    for pid in read(group / "cgroup.procs").split():
        write(beside / "cgroup.procs", pid)
