"""Who of several replicas does which partition: by locks in a folder, which the kernel drops when a replica dies.

Each replica holds one seat, so counting the seats that are taken counts the replicas. A replica holds at most its share
of the partitions, gives back what is more, and takes what is free; all without a word to the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from springtide.data.streams.locks import Lock

_SEATS = 1024


def share(partitions: int, replicas: int) -> int:
    """How many partitions a replica holds at most."""
    return -(-partitions // max(1, replicas))


class Leases:
    """Those of one replica of one processor."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._seat = self._sit_down()
        self.held: dict[int, Lock] = {}

    def settle(self, partitions: Iterable[int]) -> tuple[list[int], list[int]]:
        """Partitions gained and given back just now. Whoever gives one back has finished with it."""
        wanted = sorted(partitions)
        most = share(len(wanted), self._replicas())
        given = sorted(self.held)[most:]
        for partition in given:
            self._give(partition)
        gained = []
        for partition in wanted:
            if len(self.held) < most and partition not in self.held:
                lock = Lock(self._folder / f"{partition}.lock")
                if lock.take_if_free():
                    self.held[partition] = lock
                    gained.append(partition)
                else:
                    lock.close()
        return gained, given

    def give_all(self) -> None:
        """Hold nothing, until `settle` is called again."""
        for partition in list(self.held):
            self._give(partition)

    def _give(self, partition: int) -> None:
        lock = self.held.pop(partition)
        lock.release()
        lock.close()

    def _sit_down(self) -> Lock:
        for number in range(_SEATS):
            lock = Lock(self._folder / f"seat-{number}.lock")
            if lock.take_if_free():
                return lock
            lock.close()
        raise AssertionError(f"{self._folder}: all of {_SEATS} seats are taken")

    def _replicas(self) -> int:
        """Seats that are taken, ours too. One who looks takes a free seat for an instant, so one may seem taken."""
        taken = 1
        for path in self._folder.glob("seat-*.lock"):
            if path != self._seat.path:
                lock = Lock(path)
                if lock.take_if_free():
                    lock.release()
                else:
                    taken += 1
                lock.close()
        return taken

    def close(self) -> None:
        """Give back all, and leave."""
        self.give_all()
        self._seat.release()
        self._seat.close()
