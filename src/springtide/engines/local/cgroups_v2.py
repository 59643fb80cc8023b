"""A control group in the unified tree (v2). Inner groups hold no processes, so that they can hand controllers on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.local import gauges
from springtide.engines.local.gauges import Gauge
from springtide.engines.local.hierarchies import number, read, write
from springtide.engines.local.limits import Limits, pool_weight

POOLS_DEPTH = 2  # springtide/<pool>
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
        again(self._make_folders)
        if len(below) > POOLS_DEPTH:
            write(self.base.joinpath(*below[:POOLS_DEPTH], "cpu.weight"), str(min(10_000, pool_weight())))
        self.set(limits)

    def _make_folders(self) -> None:
        at = self.base
        for part in self.folder.relative_to(self.base).parts:
            hand_on(at, self.offered)
            at = at / part
            at.mkdir(exist_ok=True)

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
        return gauges.pids(str(self.folder))

    def kill(self) -> None:
        """SIGKILL to all in it and below, also to what they are forking."""
        if write(self.folder / "cgroup.kill", "1"):
            return
        write(self.folder / "cgroup.freeze", "1")
        kill_all(self.pids, rounds=1)
        write(self.folder / "cgroup.freeze", "0")

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for lack of memory."""
        return number(read(self.folder / "memory.events"), "oom_kill")

    def watch_memory(self) -> int | None:
        """None: the kernel ends all of a group by itself (`Limits.whole`)."""
        return None

    def gauge(self) -> Gauge:
        """What it uses."""
        return Gauge(
            folder=str(self.folder),
            cpu=str(self.folder / "cpu.stat"),
            cpu_line="usage_usec",
            memory=str(self.folder / "memory.current"),
            memory_table=str(self.folder / "memory.stat"),
            dropped_line="inactive_file",
            disk=str(self.folder / "io.stat") if "io" in self.offered else "",
        )

    def unified_folder(self) -> Path | None:
        """Where programs of the kernel can be attached."""
        return self.folder

    def remove(self) -> bool:
        """The group and those below it are gone; False: some process is still in one."""
        return remove(self.folder, self.base)


def hand_on(group: Path, offered: frozenset[str]) -> None:
    """Groups below `group` may be limited; one after the other, since the kernel takes all of a line or nothing."""
    missing = offered - set(read(group / "cgroup.subtree_control").split())
    for name in sorted(missing):
        write(group / "cgroup.subtree_control", f"+{name}")


def remove(folder: Path, base: Path) -> bool:
    """Remove a group and those below it, from the leaves on; the pool's, when that leaves it empty, but never a job's:
    it counts what the job has used.
    """
    done = _remove(folder)
    above = folder.parent
    if done and len(above.relative_to(base).parts) <= POOLS_DEPTH:
        while above != base and remove_empty(above):
            above = above.parent
    return done


def _remove(folder: Path) -> bool:
    done = True
    try:
        for child in folder.iterdir():
            if child.is_dir():
                done = _remove(child) and done
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return done


def again(make: Callable[[], object], times: int = 20) -> None:
    """Make folders, also while others remove empty ones above them. Raises OSError."""
    for n in range(times):
        try:
            make()
            return
        except FileNotFoundError:
            if n == times - 1:
                raise


def remove_empty(folder: Path) -> bool:
    """Remove a group that has neither processes nor groups below it; leave any other."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


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
