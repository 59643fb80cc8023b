"""How much of the disk replicas hold in their scratch folders, and who holds too much.

There is no quota of the file system to be had for everybody, so the folders are walked, the rarer the longer it takes.
Between two walks somebody may still fill the disk: then who grew most since the last one is named.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from springtide.spec.amounts import memory_text
from springtide.spec.quantities import bytes_text

USUAL_BYTES = 10 * 2**30  # where a job does not say
_LEAST_PAUSE_S = 0.1
_PAUSE_PER_WALK = 20.0  # so that walking takes at most a twentieth of one core
_STIR_BYTES = 16e6  # by which the disk's free space changes when there is something to be found
_LONGEST_S = 60.0  # without a walk, however still the disk
_GLANCE_S = 0.1  # between two looks at how full the disk is: a hundred megabytes may be written meanwhile
_FULL_SHARE = 0.02
_FULL_BYTES = 500e6


@dataclass(frozen=True, slots=True)
class Watched:
    """One replica: what counts as its scratch, and how much that may hold."""

    job: str
    replica: str
    folders: tuple[Path, ...]
    most_bytes: float = USUAL_BYTES


@dataclass(frozen=True, slots=True)
class Offence:
    """Whose replica is to be killed, and the cause: what it did, to stand behind its name."""

    job: str
    replica: str
    cause: str


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system on which the folders are."""

    total_bytes: float
    free_bytes: float

    @property
    def full(self) -> bool:
        """Nearly: below a fiftieth or half a gigabyte free, but never so on a disk that is small throughout."""
        return self.free_bytes < min(max(_FULL_SHARE * self.total_bytes, _FULL_BYTES), self.total_bytes / 10)


def pause_s(walk_s: float) -> float:
    """How long nobody looks after a walk that took so long."""
    return max(_LEAST_PAUSE_S, _PAUSE_PER_WALK * walk_s)


def stirred(free_bytes: float, then_bytes: float, quotas: Iterable[float]) -> bool:
    """Whether the disk's free space has changed since a walk by as much as matters to the smallest quota."""
    return abs(free_bytes - then_bytes) >= min([_STIR_BYTES, *(quota / 10 for quota in quotas)])


def offences(
    watched: Iterable[Watched], held: Mapping[Watched, int], before: Mapping[Watched, int], disk: Disk
) -> list[Offence]:
    """Who holds more than it may; and where the disk is nearly full for other reasons, the one that grew most."""
    watched = [each for each in watched if each in held]
    found = [
        Offence(each.job, each.replica, f"held {_size(held[each])} of scratch, more than its {_size(each.most_bytes)}")
        for each in watched
        if held[each] > each.most_bytes
    ]
    if found or not disk.full or not watched:
        return found
    grown = {each: held[each] - before.get(each, 0) for each in watched}
    most = max(watched, key=lambda each: grown[each])
    if grown[most] <= 0:
        return []
    left = f"{bytes_text(disk.free_bytes)} of {bytes_text(disk.total_bytes)} left"
    cause = f"filled the disk ({left}): its scratch grew most of late, to {_size(held[most])}"
    return [Offence(most.job, most.replica, cause)]


def holds(folders: Iterable[Path]) -> int:
    """Bytes on disk below some folders; a file with several names counts once, links and other disks do not."""
    seen: set[int] = set()
    return sum(_below(str(folder), seen) for folder in folders)


def _below(folder: str, seen: set[int]) -> int:
    try:
        device = os.stat(folder, follow_symlinks=False).st_dev  # noqa: PTH116
    except OSError:
        return 0
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += _one(entry, device, seen, waiting)
        except OSError:
            continue  # it was removed meanwhile
    return total


def _one(entry: os.DirEntry[str], device: int, seen: set[int], waiting: list[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
        is_folder = entry.is_dir(follow_symlinks=False)
    except OSError:
        return 0
    if found.st_dev != device:
        return 0
    if is_folder:
        waiting.append(entry.path)
    elif found.st_nlink > 1:
        if found.st_ino in seen:
            return 0
        seen.add(found.st_ino)
    return found.st_blocks * 512


class Guard:
    """A thread of its own walks the folders; `tell` is called, in it, when somebody was found. Begin with `watch`."""

    def __init__(self, home: Path, tell: Callable[[], None]) -> None:
        self._home, self._tell = home, tell
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._watched: frozenset[Watched] = frozenset()
        self._found: list[Offence] = []
        self._named: set[tuple[str, str]] = set()
        self._before: dict[Watched, int] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, watched: Iterable[Watched]) -> None:
        """From now on these, and no others."""
        with self._lock:
            self._watched = frozenset(watched)
            self._named &= {(each.job, each.replica) for each in self._watched}
            if self._watched and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scratch", daemon=True)
                self._thread.start()

    def offences(self) -> list[Offence]:
        """Found since the last call; each replica is named once."""
        with self._lock:
            found, self._found = self._found, []
        return found

    def close(self) -> None:
        """The thread has ended."""
        self._ending.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        walked_s, next_s, then, walked = -math.inf, 0.0, Disk(0.0, 0.0), frozenset[Watched]()
        while not self._ending.wait(_GLANCE_S if walked else 0):
            disk, now_s, watched = self._disk(), time.monotonic(), self._watched
            moved = stirred(disk.free_bytes, then.free_bytes, (each.most_bytes for each in watched))
            due = now_s >= next_s and (moved or watched != walked or now_s >= walked_s + _LONGEST_S)
            # A disk that fills up is walked at once, and then as rarely as ever: walking does not empty it.
            if due or (disk.full and not then.full):
                self._walk(watched, disk)
                walked_s, then, walked = time.monotonic(), disk, watched
                next_s = walked_s + pause_s(walked_s - now_s)

    def _walk(self, watched: Iterable[Watched], disk: Disk) -> None:
        held = {}
        for each in watched:
            if self._ending.is_set():
                return
            held[each] = holds(each.folders)
        # Who grew is not known at the first walk: what lies there may be old.
        found = offences(watched, held, held if self._before is None else self._before, disk)
        self._before = held
        with self._lock:
            new = [each for each in found if (each.job, each.replica) not in self._named]
            self._named |= {(each.job, each.replica) for each in new}
            self._found += new
        if new:
            self._tell()

    def _disk(self) -> Disk:
        try:
            found = os.statvfs(self._home)
        except OSError:
            return Disk(1.0, 1.0)
        return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def _size(count: float) -> str:
    """As in job files where that is short, else about: `10Gi`, `12.3 GB`."""
    exact = str(memory_text(count))
    return exact if len(exact) <= 6 and not exact.isdigit() else bytes_text(count)
