"""Control groups of the pool on this machine, by whatever the kernel offers here: v2, v1, or nothing.

A group is named springtide/<pool>/<job>/<replica>. Begin with `find`; what is limited and what is not, and what that
means, is `Groups.sentence`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from springtide.engines.local import cgroups_v2
from springtide.engines.local.cgroups_v1 import SplitGroup
from springtide.engines.local.cgroups_v2 import UnifiedGroup
from springtide.engines.local.gauges import Gauge
from springtide.engines.local.hierarchies import CONTROLLERS, Ground, ground, hierarchies, read
from springtide.engines.local.limits import Limits, pool_weight

__all__ = ["FIRST", "Group", "Groups", "Limits", "find", "opened", "reachable", "sentence"]

FIRST = "springtide"  # the group in which those of all pools of this machine are
_MEANS = {
    "cpu": "a job can use cores beyond its share",
    "memory": "a job's memory is bounded for each process by rlimits only, not for all together",
    "pids": "a fork bomb is not stopped",
    "io": "one job can keep the disk busy",
}
_NO_DEVICE = "the folder lies on no disk of its own"
_WORDS = {"cpu": "cores", "memory": "memory", "pids": "processes", "io": "disk bandwidth"}


class Group(Protocol):
    """A named set of processes with limits. Where groups are not available every method does nothing and says 0."""

    def make(self, limits: Limits) -> None:
        """The group is there with these limits; it may have been there. Raises OSError where it cannot be made."""

    def set(self, limits: Limits) -> None:
        """Other limits from now on."""

    def enter_here(self) -> None:
        """The calling process, and what it starts, is in the group from now on. Raises OSError."""

    def add(self, pid: int) -> None:
        """That process is in the group. Raises OSError."""

    def pids(self) -> list[int]:
        """Processes in it and below."""

    def kill(self) -> None:
        """SIGKILL to all in it and below; it does not wait for their end."""

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for lack of memory."""

    def watch_memory(self) -> int | None:
        """A descriptor of the caller's that is readable once memory ran out; None: the kernel ends all by itself."""

    def gauge(self) -> Gauge:
        """What it uses: `cpu_s()`, `memory_bytes()`, `disk_bytes()`, `identity()`."""

    def unified_folder(self) -> Path | None:
        """Its folder in the tree of v2, where that is mounted."""

    def remove(self) -> bool:
        """The group and those below it are gone, and the pool's when empty; False: some process is still in one."""


@dataclass(frozen=True, slots=True)
class Unlimited:
    """A group where there are none."""

    def make(self, limits: Limits) -> None:
        return

    def set(self, limits: Limits) -> None:
        return

    def enter_here(self) -> None:
        return

    def add(self, pid: int) -> None:
        return

    def pids(self) -> list[int]:
        return []

    def kill(self) -> None:
        return

    def oom_kills(self) -> int:
        return 0

    def watch_memory(self) -> int | None:
        return None

    def gauge(self) -> Gauge:
        return Gauge()

    def unified_folder(self) -> Path | None:
        return None

    def remove(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups of one pool. `limits` names what they can limit, of cpu, memory, pids, io."""

    pool: str
    ground: Ground = field(default_factory=Ground)
    device: str | None = None  # of the disk whose bandwidth may be limited

    @property
    def version(self) -> int | None:
        """1, 2, or None where there are none."""
        return self.ground.version

    @property
    def limits(self) -> frozenset[str]:
        return self.ground.offered - (frozenset() if self.device else {"io"})

    @property
    def sentence(self) -> str:
        """What is limited here, what is not, why, and what that means."""
        return sentence(self.ground, self.limits)

    def group(self, *names: str) -> Group:
        """The group springtide/<pool>/<names>; it need not be there yet."""
        match self.ground.version:
            case 1:
                bases, path = self.ground.bases, Path(FIRST, self.pool, *names)
                return SplitGroup(bases, path, self.ground.unified, self.device)
            case 2:
                base = self.ground.bases[""]
                return UnifiedGroup(base, base.joinpath(FIRST, self.pool, *names), self.ground.offered, self.device)
            case _:
                return Unlimited()

    def names(self) -> list[str]:
        """Of the groups just below the pool's: jobs."""
        folders = [folder for folder in self._folders() if folder.is_dir()]
        return sorted({at.name for folder in folders for at in folder.iterdir() if at.is_dir()})

    def _folders(self) -> list[Path]:
        match self.group():
            case SplitGroup() as group:
                return group.folders()
            case UnifiedGroup() as group:
                return [group.folder]
            case _:
                return []

    def sweep(self, keep: Collection[str] = ()) -> None:
        """Groups of jobs that are empty, and not among `keep`, are gone; and the pool's own where nothing is kept."""
        for name in self.names():
            if name not in keep:
                self.group(name).remove()
        if not keep:
            self.group().remove()


def reachable(pool: str = "") -> Ground:
    """What could be used here; nothing is made or changed. Who is in a group of `pool` himself is seen outside it."""
    return ground(hierarchies(), (FIRST, pool))


def find(pool: str, home: Path | None = None) -> Groups:
    """The groups of a pool; `home` lies on the disk whose bandwidth is limited. Never raises."""
    where = reachable(pool)
    if where.version == 2:
        where = opened(where)
    groups = Groups(pool, where, _disk(home) if home else None)
    if where.version:
        try:
            groups.group().make(Limits(weight=pool_weight(), whole=False))
        except OSError as error:
            return Groups(
                pool, Ground(why_not=dict.fromkeys(CONTROLLERS, f"the kernel refused a group ({error.strerror})"))
            )
    return groups


def opened(where: Ground) -> Ground:
    """v2: controllers are handed on by the base, which first has to be empty of processes unless it is the root."""
    base = where.bases[""]
    cgroups_v2.hand_on(base, where.offered)
    handed = where.offered & set(read(base / "cgroup.subtree_control").split())
    if handed != where.offered and read(base / "cgroup.procs"):
        cgroups_v2.clear(base)
        cgroups_v2.hand_on(base, where.offered)
        handed = where.offered & set(read(base / "cgroup.subtree_control").split())
    refused = dict.fromkeys(where.offered - handed, f"{base} may not hand it on")
    why_not = {**where.why_not, **refused}
    return Ground(2, where.bases, None, frozenset(handed), why_not) if handed else Ground(why_not=why_not)


def sentence(where: Ground, limits: frozenset[str]) -> str:
    """What control groups can limit here, and what the lack of the others means."""
    missing = [name for name in CONTROLLERS if name not in limits]
    done = _listed([_WORDS[name] for name in CONTROLLERS if name in limits])
    lacks = "; ".join(
        f"{_WORDS[name]} cannot be limited ({where.why_not.get(name, _NO_DEVICE)}): {_MEANS[name]}" for name in missing
    )
    if not limits:
        why = next(iter(where.why_not.values()), "no control groups are mounted")
        return (
            f"jobs are kept apart by rlimits and niceness only ({why}): a job can use cores, memory and processes "
            "beyond its share; start the pool as root, or by `systemd-run --user --scope -p Delegate=yes tide up`"
        )
    return f"{done} of each replica are limited by control groups (v{where.version})" + (f"; {lacks}" if lacks else "")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def _disk(folder: Path) -> str | None:
    """The device under a folder, as "254:0"; a partition's whole disk. None: no device (a network, an overlay)."""
    existing = next((at for at in (folder, *folder.parents) if at.exists()), Path("/"))
    number = existing.stat().st_dev
    at = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not at.exists():
        return None
    whole = at.resolve().parent if (at / "partition").exists() else at
    return read(whole / "dev").strip() or None
