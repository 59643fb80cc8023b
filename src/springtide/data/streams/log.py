"""The embedded log: a folder with one folder for each partition, for many processes of one machine at once."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from springtide.data.streams import marks, settings
from springtide.data.streams.marks import Marks, Word
from springtide.data.streams.partition import Partition, sync_folder
from springtide.data.streams.reading import Reader
from springtide.data.streams.stream import Bounds, Record, partition_of
from springtide.spec.errors import UserError


class LogStream:
    """A `Stream` below `folder`. For any number of threads."""

    def __init__(self, folder: str, *, create: bool = False, partitions: int = 1, sync: str = "10ms") -> None:
        self.url = f"log://{folder}"
        self.folder = _checked(folder, self.url)
        if create:
            _make(self.folder, partitions, sync, self.url)
        found = settings.load(self.folder)
        if found is None:
            raise UserError(f"{self.url}: there is no log; `tide stream append {self.url} FILE.jsonl` makes one")
        self.settings = found
        self._marks = _marks(self.folder, self.url)
        self._lock = threading.RLock()
        self._partitions: dict[int, Partition] = {}
        self._readers: dict[int, Reader] = {}
        self._turn = itertools.count(os.getpid())
        self.partitions()  # after a restart of the machine, words are found again before anybody looks at them

    def partitions(self) -> list[Partition]:
        """All there are now."""
        return [self._partition(number) for number in range(self._marks.partitions)]

    def bounds(self) -> dict[int, Bounds]:
        return {number: self._looked(number).bounds() for number in range(self._marks.partitions)}

    def append(
        self, values: Sequence[bytes], *, partition: int | None = None, key: bytes | None = None, note: bytes = b""
    ) -> list[tuple[int, int]]:
        """As any stream does. `note`, a JSON object, says how far producers have come: kept with the records or not."""
        if not values and not note:
            return []
        count = self._marks.partitions
        if partition is None:
            partition = partition_of(key, count) if key is not None else next(self._turn) % count
        first = self._partition(partition).append(values, key, note)
        return [(partition, first + at) for at in range(len(values))]

    def read(self, partition: int, offset: int, *, limit: int = 1000) -> list[Record]:
        with self._lock:
            return self._looked(partition).read(offset, limit)

    def wait(self, beyond: Mapping[int, int], timeout_s: float) -> bool:
        limit_s = time.monotonic() + timeout_s
        sealed: set[int] | None = None
        while True:
            rung, due_s = self._marks.rung, timeout_s
            found = {number: self._reader(number).bounds() for number in range(self._marks.partitions)}
            sealed = {number for number, one in found.items() if one.sealed} if sealed is None else sealed
            for number, one in found.items():
                if one.end > beyond.get(number, -1) or (one.sealed and number not in sealed):
                    return True
                if self._unsynced(number):
                    due_s = min(due_s, 2 * max(0.0, self._partition(number).due_s()))
            left_s = limit_s - time.monotonic()
            if due_s <= 0:
                self._sync_overdue()
            elif left_s <= 0:
                return False
            else:
                self._marks.sleep(rung, min(left_s, due_s))

    def _sync_overdue(self) -> None:
        """What its writer should have synced, but did not live to."""
        for partition in self.partitions():
            if self._unsynced(partition.number):
                partition.keep()

    def _unsynced(self, number: int) -> bool:
        """Whether there are records that were acknowledged, and are not seen before they are on the disk."""
        row = self._marks.rows[number]
        return bool(self.settings.sync_s and row[Word.WRITTEN] > row[Word.DURABLE] and not row[Word.FAILED])

    def _looked(self, number: int) -> Reader:
        """The reader of a partition, which sees all that was acknowledged."""
        reader = self._reader(number)
        if self._unsynced(number):
            self._partition(number).keep()
        return reader

    def positions(self) -> dict[int, dict[str, int]]:
        """By partition, how far the producers have come that append with a note."""
        return {partition.number: partition.positions() for partition in self.partitions()}

    def seal(self) -> None:
        for partition in self.partitions():
            partition.seal()

    def close(self) -> None:
        with self._lock:
            for partition in self._partitions.values():
                partition.close()
            for reader in self._readers.values():
                reader.close()
            self._partitions.clear()
            self._readers.clear()

    def _partition(self, number: int) -> Partition:
        with self._lock:
            self._check(number)
            if number not in self._partitions:
                folder = self.folder / str(number)
                self._partitions[number] = Partition(folder, number, self._marks, self.settings, self.url)
            return self._partitions[number]

    def _reader(self, number: int) -> Reader:
        self._partition(number)
        with self._lock:
            if number not in self._readers:
                row, identity = self._marks.rows[number], self.settings.identity
                self._readers[number] = Reader(self.folder / str(number), number, row, identity, self.url)
            return self._readers[number]

    def _check(self, number: int) -> None:
        if not 0 <= number < self._marks.partitions:
            count = self._marks.partitions
            raise UserError(f"{self.url} has no partition {number}: there are {count}, counted from 0")


def _checked(folder: str, url: str) -> Path:
    if not folder.startswith("/") or folder.strip("/") == "":
        raise UserError(f"{url}: a log is named by an absolute path; write log:///srv/streams/requests")
    return Path(folder)


def _make(folder: Path, partitions: int, sync: str, url: str) -> None:
    """Make the log, or give it the partitions that it lacks; whoever does so holds a lock on the folder."""
    if not 1 <= partitions <= settings.MOST_PARTITIONS:
        raise UserError(f"{url}: {partitions} partitions are not possible; write 1 to {settings.MOST_PARTITIONS}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{url}: the folder cannot be made ({error.strerror})") from None
    with _alone(folder):
        for number in range(partitions):
            (folder / str(number)).mkdir(exist_ok=True)
        if settings.load(folder) is None:
            settings.write_new(folder, sync)
        sync_folder(folder)
    found = _marks(folder, url)
    with _alone(folder):
        found.partitions = max(found.partitions, partitions)


def _marks(folder: Path, url: str) -> Marks:
    try:
        if not (folder / marks.NAME).exists():
            with _alone(folder):
                if not (folder / marks.NAME).exists():
                    marks.make(folder)
        found = Marks(folder)
    except OSError as error:
        raise UserError(f"{url}: the log cannot be opened for reading and writing ({error.strerror})") from None
    if not found.partitions:
        found.partitions = sum(1 for entry in folder.iterdir() if entry.name.isdigit())
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
