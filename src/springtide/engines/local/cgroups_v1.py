"""A control group in the split trees (v1): one folder in each controller's tree, by the same path."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.local import gauges
from springtide.engines.local.cgroups_v2 import POOLS_DEPTH, ROUNDS, again, kill_all, remove
from springtide.engines.local.gauges import Gauge
from springtide.engines.local.hierarchies import number, read, write
from springtide.engines.local.limits import Limits, pool_weight

_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
_SHARES_PER_WEIGHT = 1024 / 100
_FREEZING_S = 0.2  # after which the processes are killed unfrozen


@dataclass(frozen=True, slots=True)
class SplitGroup:
    """`bases` by the kernel's name of a controller; `path` lies below each. `unified`: a v2 group that only kills."""

    bases: Mapping[str, Path]
    path: Path
    unified: Path | None = None
    device: str | None = None  # "254:0", whose bandwidth is limited

    def make(self, limits: Limits) -> None:
        """The group is there with these limits; it may have been there. Raises OSError where it cannot be made."""
        again(self._make_folders)
        if len(self.path.parts) > POOLS_DEPTH:
            SplitGroup(self.bases, Path(*self.path.parts[:POOLS_DEPTH])).weigh(pool_weight())
        self.set(limits)

    def _make_folders(self) -> None:
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True)

    def weigh(self, weight: int) -> None:
        """How much it counts where cores are short."""
        self._write("cpu", "cpu.shares", min(262_144, max(2, round(weight * _SHARES_PER_WEIGHT))))

    def set(self, limits: Limits) -> None:
        """Other limits from now on; of a limit below what is used the kernel takes what it can."""
        quota = -1 if limits.cpu is None else max(_LEAST_QUOTA_US, round(limits.cpu * _PERIOD_US))
        self._write("cpu", "cpu.cfs_period_us", _PERIOD_US)
        self._write("cpu", "cpu.cfs_quota_us", quota)
        self.weigh(limits.weight)
        memory = -1 if limits.memory_bytes is None else limits.memory_bytes
        # The limit with swap may never be below the one without: which goes first depends on the direction.
        for _ in range(2):
            self._write("memory", "memory.limit_in_bytes", memory)
            self._write("memory", "memory.memsw.limit_in_bytes", memory)
        self._write("pids", "pids.max", "max" if limits.pids is None else limits.pids)
        if self.device:
            rate = 0 if limits.disk_bytes_per_s is None else max(1, round(limits.disk_bytes_per_s))
            self._write("blkio", "blkio.throttle.read_bps_device", f"{self.device} {rate}")
            self._write("blkio", "blkio.throttle.write_bps_device", f"{self.device} {rate}")

    def enter_here(self) -> None:
        """The calling process is in the group from now on. Raises OSError."""
        self.add(os.getpid())

    def add(self, pid: int) -> None:
        """Raises OSError: the process or the group is gone."""
        for folder in self.folders():
            (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """Processes in it and below."""
        return gauges.pids(str(self.folders()[0]))

    def kill(self) -> None:
        """SIGKILL to all in it and below, also to what they are forking."""
        if self.unified and write(self.unified / self.path / "cgroup.kill", "1"):
            return
        # Frozen, a fork bomb stands still while its processes are named; the signal takes effect as they thaw.
        self._freeze()
        kill_all(self.pids, rounds=1 if "freezer" in self.bases else ROUNDS)
        self._write("freezer", "freezer.state", "THAWED")

    def _freeze(self) -> None:
        self._write("freezer", "freezer.state", "FROZEN")
        state, until = self._file("freezer", "freezer.state"), time.monotonic() + _FREEZING_S
        while state and read(state).strip() == "FREEZING" and time.monotonic() < until:
            time.sleep(0.001)

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for lack of memory."""
        folder = self._folder("memory")
        return _oom_kills(str(folder)) if folder else 0

    def watch_memory(self) -> int | None:
        """A descriptor that is readable once memory ran out; whoever then finds `oom_kills` grown ends the rest.

        The kernel of v1 ends one process and leaves the others of the group. None: it cannot tell.
        """
        folder = self._folder("memory")
        if folder is None:
            return None
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(event)
            return None
        registered = write(folder / "cgroup.event_control", f"{event} {control}")
        os.close(control)
        if registered:
            return event
        os.close(event)
        return None

    def gauge(self) -> Gauge:
        """What it uses."""
        memory = self._folder("memory")
        return Gauge(
            folder=str(self.folders()[0]),
            cpu=str(self._file("cpuacct", "cpuacct.usage") or ""),
            cpu_per_s=1e9,
            memory=str(memory / "memory.usage_in_bytes") if memory else "",
            memory_table=str(memory / "memory.stat") if memory else "",
            dropped_line="total_inactive_file",
        )

    def unified_folder(self) -> Path | None:
        """Where programs of the kernel can be attached; None: v2 is not mounted beside v1."""
        return self.unified / self.path if self.unified else None

    def remove(self) -> bool:
        """The group and those below it are gone; False: some process is still in one."""
        gone = [remove(base / self.path, base) for base in self._trees()]
        return all(gone)

    def folders(self) -> list[Path]:
        """One in each tree; controllers that are mounted together share one."""
        return [base / self.path for base in self._trees()]

    def _trees(self) -> list[Path]:
        return list(dict.fromkeys([*self.bases.values(), *([self.unified] if self.unified else [])]))

    def _folder(self, controller: str) -> Path | None:
        base = self.bases.get(controller)
        return base / self.path if base else None

    def _file(self, controller: str, name: str) -> Path | None:
        folder = self._folder(controller)
        return folder / name if folder else None

    def _write(self, controller: str, name: str, value: object) -> None:
        if file := self._file(controller, name):
            write(file, str(value))


def _oom_kills(folder: str) -> int:
    # v1 counts a victim in its own group only, not in those above.
    below = sum(_oom_kills(group) for group in gauges.groups_below(folder))
    return number(read(f"{folder}/memory.oom_control"), "oom_kill") + below
