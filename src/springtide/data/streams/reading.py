"""One partition of the embedded log, as its readers see it: no locks, nothing that is not acknowledged, every checksum.

A reader takes `DURABLE` and reads frames below it, which nobody changes any more. It remembers where the next offset
lies, so that reading on needs no index.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from springtide.data.streams import frames, segments
from springtide.data.streams.frames import Header
from springtide.data.streams.marks import Word
from springtide.data.streams.stream import Bounds, Damaged, Expired, Record

_CHUNK_BYTES = 256 << 10
_CHANGED = "a frame that is not as it was written begins"


class Segment:
    """An open segment, and the part of it that was read last."""

    def __init__(self, folder: Path, base: int, seed: int) -> None:
        self.folder, self.base, self.seed = folder, base, seed
        self.file = segments.path(folder, base)
        self.handle = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        self.data, self._begin = b"", 0

    def header(self, position: int) -> tuple[Header | None, int]:
        """The header at byte `position`, and where in `data` it stands; its whole frame is there if the file has it."""
        at = position - self._begin
        found = frames.header(self.data, at) if 0 <= at < len(self.data) else None
        if found is None or at + found.size_bytes > len(self.data):
            at = self._load(position, _CHUNK_BYTES)
            found = frames.header(self.data)
            if found is not None and found.size_bytes > len(self.data) >= _CHUNK_BYTES:
                self._load(position, found.size_bytes)
        return found, at

    def frame(self, position: int) -> tuple[Header | None, int]:
        """The same, but None unless the frame is as it was written."""
        found, at = self.header(position)
        if found is None or not frames.intact(self.data, at, found, self.seed):
            self._begin, self.data = 0, b""  # perhaps it was read while it was written
            found, at = self.header(position)
        if found is None or not frames.intact(self.data, at, found, self.seed):
            return None, at
        return found, at

    def search(self, position: int, offset: int) -> tuple[int, Header] | None:
        """The first intact frame from byte `position` on that holds `offset` or a later record."""
        data, at = self.file.read_bytes(), position
        while (found_at := frames.next_intact(data, at, self.seed)) is not None:
            found = frames.header(data, found_at)
            if found is not None and found.end > offset:
                return found_at, found
            at = found_at + 1
        return None

    def _load(self, position: int, size_bytes: int) -> int:
        self._begin, self.data = position, os.pread(self.handle, size_bytes, position)
        return 0

    def close(self) -> None:
        os.close(self.handle)


@dataclass(frozen=True, slots=True)
class _Place:
    """The frame that holds `offset`, if there is one, begins at byte `position`."""

    offset: int
    segment: Segment
    position: int


class Reader:
    """Reads one partition; not for several threads at once."""

    def __init__(self, folder: Path, number: int, row: memoryview[int], identity: str, url: str) -> None:
        self._folder, self._number, self._row, self._identity, self._url = folder, number, row, identity, url
        self._bases: list[int] = []
        self._segment: Segment | None = None
        self._next: _Place | None = None
        self._rest: tuple[int, Iterator[Record]] = -1, iter(())  # of the frame that was read last, from that offset on

    def bounds(self) -> Bounds:
        sealed = bool(self._row[Word.SEALED])  # read before the end, which does not move behind it
        return Bounds(self._row[Word.FIRST], self._row[Word.DURABLE], sealed)

    def read(self, offset: int, limit: int) -> list[Record]:
        """Records from `offset` on, at most `limit`; those before a damaged place. Raises `Expired`, `Damaged`."""
        found: list[Record] = []
        end = self._row[Word.DURABLE]
        while offset < end and len(found) < limit:
            try:
                found += self._frame(offset, limit - len(found))
            except (Damaged, FileNotFoundError) as error:
                if found:
                    break
                self._expire(offset)
                if isinstance(error, Damaged):
                    raise
                raise self._lost(offset) from None
            offset = found[-1].offset + 1
        if not found:
            self._expire(offset)
        return found

    def _expire(self, offset: int) -> None:
        if offset < (first := self._row[Word.FIRST]):
            raise Expired(self._number, offset, first, self._url)

    def _frame(self, offset: int, limit: int) -> list[Record]:
        """Records from `offset`, which is acknowledged, to the end of its frame."""
        self._expire(offset)
        if self._rest[0] == offset and (found := list(itertools.islice(self._rest[1], limit))):
            self._rest = found[-1].offset + 1, self._rest[1]
            return found
        place = self._next if self._next is not None and self._next.offset == offset else self._find(offset)
        self._next = None
        segment, position = place.segment, place.position
        while True:
            header, at = segment.frame(position)
            if header is None and not segment.data:
                segment, position = self._following(segment, offset), 0
                continue
            if header is None or header.offset > offset:
                position = self._beyond_damage(segment, position, offset)
                continue
            if header.end > offset:
                break
            position += header.size_bytes
        rest = frames.records(segment.data, at, header, self._number, offset)
        found = list(itertools.islice(rest, limit))
        self._rest = found[-1].offset + 1, rest
        self._next = _Place(header.end, segment, position + header.size_bytes)
        return found

    def _find(self, offset: int) -> _Place:
        """By the names of the segments, and the index of one."""
        if not self._bases or offset >= self._bases[-1] or offset < self._bases[0]:
            self._bases = segments.bases(self._folder)
        base = self._bases[max(0, bisect.bisect_right(self._bases, offset) - 1)]
        segment = self._opened(base)
        return _Place(offset, segment, self._walk(segment, offset))

    def _walk(self, segment: Segment, offset: int) -> int:
        """Where the frame that holds `offset` begins, or else where it is missing."""
        size_bytes = os.fstat(segment.handle).st_size
        position = before = segments.near(self._folder, segment.base, segment.handle, offset, size_bytes)
        entries, last, expected = [], 0, -1
        while True:
            header, _ = segment.header(position) if position < size_bytes else (None, 0)
            if header is None or header.offset > offset or header.offset != expected >= 0:
                # Behind a header that is not as it was written, the next frame may lie anywhere.
                found = segment.search(before, offset)
                if found is not None and found[1].offset <= offset:
                    return found[0]
                whole, _ = segment.frame(before)
                return before + (whole.size_bytes if whole is not None else 0)
            if header.end > offset:
                break
            if position - last >= segments.INDEX_EVERY_BYTES:
                entries.append((header.offset, position))
                last = position
            before, position, expected = position, position + header.size_bytes, header.end
        if entries and not segments.index_path(self._folder, segment.base).exists():
            segments.rebuild(self._folder, segment.base, entries)
        return position

    def _following(self, segment: Segment, offset: int) -> Segment:
        """The segment that begins with `offset`, where this one ends."""
        self._bases = segments.bases(self._folder)
        if offset in self._bases and offset != segment.base:
            return self._opened(offset)
        end = min([one for one in self._bases if one > offset], default=self._row[Word.DURABLE])
        size_bytes = segment.file.stat().st_size
        raise Damaged(self._number, offset, end, str(segment.file), size_bytes, "the file ends too early,")

    def _beyond_damage(self, segment: Segment, position: int, offset: int) -> int:
        """Where the frame of `offset` lies, behind a place that is not as it was written. Raises `Damaged`: nowhere."""
        found = segment.search(position, offset)
        if found is not None and found[1].offset <= offset:
            return found[0]
        if found is not None:
            end = found[1].offset
        else:
            end = min([one for one in segments.bases(self._folder) if one > offset], default=self._row[Word.DURABLE])
        raise Damaged(self._number, offset, end, str(segment.file), position, _CHANGED)

    def _lost(self, offset: int) -> Damaged:
        bases = segments.bases(self._folder)
        end = min([one for one in bases if one > offset], default=self._row[Word.DURABLE])
        return Damaged(self._number, offset, end, str(self._folder), 0, "a segment is missing,")

    def _opened(self, base: int) -> Segment:
        if self._segment is None or self._segment.base != base:
            opened = Segment(self._folder, base, segments.seed(self._identity, self._number, base))
            self.close()
            self._segment = opened
        return self._segment

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
        self._segment = self._next = None
