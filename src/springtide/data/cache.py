"""Parts of far files on this machine's disk: shared by all its processes, bounded, and never trusted unread.

An entry is a file named after what it holds (which bytes of which version of which file), so it never changes. It is
written aside and renamed. Whoever fetches one holds a lock on the file that it writes, which dies with its holder; so
does the lock under which entries are counted and the least recently used ones removed. Each 16 KiB of an entry carry a
checksum that is verified at every read: an entry that is damaged is removed, and counts as not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from springtide.spec import UserError, quantities

LIMIT = "TIDE_DATA_CACHE"  # the environment variable: "20GB", "10%" of the free disk, or "0" for no cache
SHARE = 0.2  # of the free disk, where nothing is said
PART_BYTES = 16 << 10
_KEPT = 0.9  # of the limit, after a removal: the next one is far
_TOUCHED_S = 1.0  # uses closer together than that count as one
_WAIT_S = 30.0  # for another process that fetches the same; it may have been stopped
_MAGIC = b"tide-1\r\n"
_HEADER = struct.Struct("<8s16sQ")  # magic, name, length; then a checksum for each part, and one of all these
_CRC_BYTES = 4
_FIRST_BYTES = 4096
_COUNT = struct.Struct("<q")


def name_of(*parts: object) -> bytes:
    """The name of an entry, sixteen bytes: a pure function of what it is."""
    text = "\0".join(str(part) for part in parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


@dataclass(frozen=True)
class Limit:
    """How much disk the entries may take: so many bytes, or a share of what is free and what they take already."""

    limit_bytes: int | None = None
    share: float = SHARE

    @classmethod
    def of(cls, given_bytes: int | None) -> Limit:
        """As the caller says, else the environment, else the default. Raises `UserError`."""
        if given_bytes is not None:
            if given_bytes < 0:
                raise UserError(f"disk_cache_bytes={given_bytes} is negative; give a size, or 0 for no cache on disk")
            return cls(int(given_bytes))
        text = os.environ.get(LIMIT, "").strip()
        if not text:
            return cls()
        if text.endswith("%"):
            return cls(share=quantities.share(text, LIMIT))
        return cls(quantities.size(text, LIMIT))

    def now(self, folder: Path, held_bytes: int) -> int:
        """In bytes, where the entries in `folder` take `held_bytes`."""
        if self.limit_bytes is not None:
            return self.limit_bytes
        return int(self.share * (shutil.disk_usage(folder).free + held_bytes))


class Cache:
    """The entries below one folder, used by any number of processes and threads.

    Nothing here fails a reader: where the disk is full or the folder cannot be written, entries are not kept.
    """

    def __init__(self, limit: Limit, folder: Path) -> None:
        self.folder, self._limit = folder, limit
        self._aside, self._lock = self.folder / "aside", self.folder / "lock"
        self.on = limit.limit_bytes != 0
        if self.on:
            try:
                self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError:
                self.on = False

    # --- reading

    def read(self, name: bytes, start: int = 0, end: int | None = None) -> bytes | None:
        """The bytes from `start` to `end` (or the last) of an entry; None where it is not there or is damaged."""
        if not self.on:
            return None
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            found = _verified(descriptor, name, start, end)
            if found is not None and time.time() - os.fstat(descriptor).st_mtime > _TOUCHED_S:
                with suppress(OSError):
                    os.utime(descriptor)
        except OSError:  # the disk cannot read it back
            found = None
        finally:
            os.close(descriptor)
        if found is None:
            path.unlink(missing_ok=True)
        return found

    # --- writing

    @contextmanager
    def claim(self, name: bytes, wait_s: float = _WAIT_S) -> Iterator[Claim | None]:
        """The right to make an entry, for one process at a time; None where it is not to be had.

        Another may have made the entry meanwhile: look again before the work. With `wait_s=0` nobody is waited for.
        """
        descriptor = self._claimed(name, time.monotonic() + wait_s) if self.on else None
        if descriptor is None:
            yield None
            return
        claim = Claim(self, name, descriptor)
        try:
            yield claim
        finally:
            if not claim.kept:
                (self._aside / name.hex()).unlink(missing_ok=True)
            os.close(descriptor)

    def _claimed(self, name: bytes, until: float) -> int | None:
        path = self._aside / name.hex()
        while not self._path(name).exists():
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return None
            locked = _locked(descriptor, until)
            # Who held it may have put it into its place, or given it up: then the lock is on no name that counts.
            if locked and _is_at(descriptor, path):
                return descriptor
            os.close(descriptor)
            if not locked:
                return None
        return None

    def keep(self, name: bytes, descriptor: int, content: bytes) -> bool:
        """Write an entry that is claimed, and make room for it. False where that cannot be."""
        try:
            size_bytes = _write(descriptor, name, content)
            path = self._path(name)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            with self._counting() as lock:
                if lock is None or not self._room(lock, size_bytes):
                    return False
                (self._aside / name.hex()).rename(path)
                return True
        except OSError:
            return False

    def _room(self, lock: int, size_bytes: int) -> bool:
        """Counts `size_bytes` more, after removing what was not used for longest. The count never falls short.

        It is written before the entry is in its place, and set right whenever all entries are looked at.
        """
        said = os.pread(lock, _COUNT.size, 0)
        held_bytes = _COUNT.unpack(said)[0] if len(said) == _COUNT.size else None
        if held_bytes is None or held_bytes + size_bytes > self._limit.now(self.folder, held_bytes):
            self._sweep()
            entries = self._entries()
            held_bytes = sum(size for _, size, _ in entries)
            limit_bytes = self._limit.now(self.folder, held_bytes)
            if size_bytes > limit_bytes:
                return False
            if held_bytes + size_bytes > limit_bytes:
                for _, size, path in sorted(entries):
                    if held_bytes + size_bytes <= _KEPT * limit_bytes:
                        break
                    Path(path).unlink(missing_ok=True)
                    held_bytes -= size
        os.pwrite(lock, _COUNT.pack(held_bytes + size_bytes), 0)
        return True

    def _entries(self) -> list[tuple[int, int, str]]:
        """Last use in nanoseconds, size in bytes, and path of each."""
        found = []
        for shard in self.folder.iterdir():
            if len(shard.name) != 2:
                continue
            with os.scandir(shard) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        about = entry.stat()
                        found.append((about.st_mtime_ns, about.st_size, entry.path))
        return found

    def _sweep(self) -> None:
        """Removes what those who died left half written: nobody holds its lock."""
        for path in self._aside.iterdir():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _locked(descriptor, 0) and _is_at(descriptor, path):
                        path.unlink()
                finally:
                    os.close(descriptor)

    @contextmanager
    def _counting(self) -> Iterator[int | None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor if _locked(descriptor, time.monotonic() + _WAIT_S) else None
        finally:
            os.close(descriptor)

    def _path(self, name: bytes) -> Path:
        text = name.hex()
        return self.folder / text[:2] / text[2:]


class Claim:
    """The right to make one entry."""

    def __init__(self, cache: Cache, name: bytes, descriptor: int) -> None:
        self._cache, self._name, self._descriptor = cache, name, descriptor
        self.kept = False

    def keep(self, content: bytes) -> None:
        """Make the entry, if there is room for it."""
        self.kept = self._cache.keep(self._name, self._descriptor, content)


def _locked(descriptor: int, until: float) -> bool:
    """Take the lock of a file. It is asked for again and again: a wait in the kernel would have no limit."""
    pause_s = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() + pause_s > until:
                return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write(descriptor: int, name: bytes, content: bytes) -> int:
    view = memoryview(content)
    sums = [zlib.crc32(view[at : at + PART_BYTES]) for at in range(0, len(content), PART_BYTES)]
    head = _HEADER.pack(_MAGIC, name, len(content)) + struct.pack(f"<{len(sums)}I", *sums)
    os.ftruncate(descriptor, 0)
    at = 0
    for piece in (head + struct.pack("<I", zlib.crc32(head)), view):
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(descriptor, rest, at)
            at, rest = at + written, rest[written:]
    return at


def _verified(descriptor: int, name: bytes, start: int, end: int | None) -> bytes | None:
    """Bytes of an entry, or None where a checksum of theirs, or the entry's name, is not right."""
    head = os.pread(descriptor, _FIRST_BYTES, 0)
    if len(head) < _HEADER.size:
        return None
    magic, said, length = _HEADER.unpack_from(head)
    if magic != _MAGIC or said != name:
        return None
    parts = -(-length // PART_BYTES)
    table_end = _HEADER.size + parts * _CRC_BYTES
    payload = table_end + _CRC_BYTES
    if payload > os.fstat(descriptor).st_size:
        return None
    if payload > len(head):
        head = os.pread(descriptor, payload, 0)
    if zlib.crc32(memoryview(head)[:table_end]) != struct.unpack_from("<I", head, table_end)[0]:
        return None
    end = length if end is None else min(end, length)
    if start >= end:
        return b""
    first, last = start // PART_BYTES, -(-end // PART_BYTES)
    low, high = first * PART_BYTES, min(last * PART_BYTES, length)
    data = os.pread(descriptor, high - low, payload + low)
    if len(data) != high - low:
        return None
    sums = struct.unpack_from(f"<{last - first}I", head, _HEADER.size + first * _CRC_BYTES)
    view = memoryview(data)
    for number, wanted in enumerate(sums):
        if zlib.crc32(view[number * PART_BYTES : (number + 1) * PART_BYTES]) != wanted:
            return None
    return data[start - low : end - low]
