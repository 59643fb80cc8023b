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
from springtide.data.streams.marks import Marks
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
        return {number: self._reader(number).bounds() for number in range(self._marks.partitions)}

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
            return self._reader(partition).read(offset, limit)

    def wait(self, beyond: Mapping[int, int], timeout_s: float) -> bool:
        sealed = {number for number, bounds in self.bounds().items() if bounds.sealed}
        limit_s = time.monotonic() + timeout_s
        while True:
            rung = self._marks.rung
            for number, bounds in self.bounds().items():
                if bounds.end > beyond.get(number, -1) or (bounds.sealed and number not in sealed):
                    return True
            left_s = limit_s - time.monotonic()
            if left_s <= 0:
                return False
            self._marks.sleep(rung, left_s)

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
