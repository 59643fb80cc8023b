"""One partition of the embedded log, as its writers see it: append, sync, roll, recover, retain, seal.

Two locks. Who appends holds the *write lock*: he writes a frame behind the last one and then moves `WRITTEN`. Who holds
the *sync lock* asks the disk to keep all that is written and then moves `DURABLE`, for himself and for everybody who
wrote before (group commit). Readers see what lies below `DURABLE`, whatever the policy. With the policy "each" `append`
returns when its records lie there. With a time it returns when they are written, which no death of a process undoes;
they are synced within that time, or when somebody looks. A dead holder's lock is dropped by the kernel; if he died in
the middle, `DIRTY` says so to the next.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from springtide.data.streams import bell, frames, recovery, segments
from springtide.data.streams.locks import Lock
from springtide.data.streams.marks import Marks, Word, now_us, this_boot
from springtide.data.streams.settings import Settings
from springtide.data.streams.stream import LARGEST_BYTES, Full, Sealed
from springtide.data.streams.syncer import Syncer
from springtide.spec.errors import SpringtideError, UserError

_HOLDER_DIED_S = 0.1  # who waits for another's sync looks after so long whether that one lives
_SEALED = "sealed"


class Partition:
    """`folder` holds its segments; `marks` are those of its log."""

    def __init__(self, folder: Path, number: int, marks: Marks, settings: Settings, url: str) -> None:
        self.folder, self.number, self.url = folder, number, url
        self.marks, self.row, self.settings = marks, marks.rows[number], settings
        self._write_lock, self._sync_lock = Lock(folder / "write.lock"), Lock(folder / "sync.lock")
        self._syncer = Syncer(self.keep, self.due_s)
        self._open: tuple[int, int] | None = None  # first offset and descriptor of the segment that is written to
        if self.row[Word.BOOT] != this_boot():
            with self._write_lock:
                self._recover()

    # --- appending

    def append(self, values: Sequence[bytes], key: bytes | None = None, note: bytes = b"") -> int:
        """Returns the offset of the first; all of them are kept, or none. Raises `Sealed`, `Full`, UserError."""
        if any(len(value) > LARGEST_BYTES for value in values):
            largest = max(map(len, values))
            raise UserError(f"{self.url}: a record of {largest:,} bytes is too large; the most is {LARGEST_BYTES:,}")
        with self._write_lock:
            self._take_up()
            if self.row[Word.SEALED]:
                raise Sealed(f"{self.url} is sealed: nothing more can be appended")
            first = self._write(values, key, note)
            end, epoch = self.row[Word.WRITTEN], self.row[Word.EPOCH]
            if self.settings.sync_s is None:
                self._publish(end)
        match self.settings.sync_s:
            case None:
                self._ring()
            case 0:
                self._commit(end, epoch)
            case _:
                self.marks.ring(self.number, 2 * end + 1)  # who waits for records may sync them himself
                self._syncer.wake()
        return first

    def _take_up(self) -> None:
        """Go on where the last writer ended. Raises SpringtideError: the disk lost what had been appended."""
        row = self.row
        lost = row[Word.WRITTEN] - row[Word.DURABLE] if row[Word.FAILED] and self.settings.sync_s else 0
        self._recover()
        if lost:
            raise SpringtideError(
                f"{self.url}: the disk did not keep the last {lost:,} records that were appended; append them again"
            )

    def _write(self, values: Sequence[bytes], key: bytes | None, note: bytes) -> int:
        row, now = self.row, time.time_ns() // 1000
        if self._wants_roll(now):
            self._roll()
        base, first, position = row[Word.SEGMENT], row[Word.WRITTEN], row[Word.BYTES]
        frame = frames.encode(
            values, offset=first, time_us=now, durable=row[Word.DURABLE], seed=self._seed(base), key=key, note=note
        )
        row[Word.DIRTY] = 1
        self._put(self._segment(base), frame, position)
        row[Word.BYTES] = position + len(frame)
        row[Word.NOTED] |= bool(note)
        row[Word.WRITTEN] = first + len(values)
        row[Word.DIRTY] = 0
        if position - row[Word.INDEXED] >= segments.INDEX_EVERY_BYTES:
            segments.add_entry(self.folder, base, first, position)
            row[Word.INDEXED] = position
        return first

    def _put(self, handle: int, data: bytes, position: int) -> None:
        """Write all of it, or leave the file as it was."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(handle, memoryview(data)[written:], position + written)
        except OSError as error:
            with suppress(OSError):  # else the next writer cuts it off
                os.ftruncate(handle, position)
                self.row[Word.DIRTY] = 0
            raise _no_room(error, self.url) from error

    # --- syncing

    def keep(self) -> None:
        """Sync what is written, unless the disk has failed: that is said to the next who appends."""
        if self.row[Word.WRITTEN] > self.row[Word.DURABLE] and not self.row[Word.FAILED]:
            self._commit(self.row[Word.WRITTEN], self.row[Word.EPOCH])

    def due_s(self) -> float:
        """How long until what is written must be on the disk, by the sync policy."""
        return (self.row[Word.SYNCED_US] - now_us()) / 1e6 + (self.settings.sync_s or 0.0)

    def _commit(self, end: int, epoch: int) -> None:
        """Until records below `end` are on the disk: by the sync of whoever comes first."""
        while not self._kept(end, epoch):
            rung = self.marks.rung
            if self._sync_lock.take_if_free():
                try:
                    if not self._kept(end, epoch):
                        self._sync()
                finally:
                    self._sync_lock.release()
                self._ring()  # behind the release: who wakes and is not yet served must find the lock free
            elif not self._kept(end, epoch):
                self.marks.sleep(rung, _HOLDER_DIED_S)

    def _kept(self, end: int, epoch: int) -> bool:
        row = self.row
        if row[Word.FAILED] or (row[Word.EPOCH] != epoch and end > row[Word.EPOCH_END]):
            raise SpringtideError(
                f"{self.url}: the disk did not keep what was appended; nothing of it is in the stream"
            )
        return row[Word.DURABLE] >= end

    def _sync(self) -> None:
        # In this order: were the segment rolled in between, all records of the old one are on the disk already.
        written = self.row[Word.WRITTEN]
        base = self.row[Word.SEGMENT]
        self.row[Word.SYNCED_US] = now_us()
        try:
            handle = os.open(segments.path(self.folder, base), os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            # Linux tells of a lost write once: whoever syncs next would be told that all is well.
            self.row[Word.FAILED] = 1
            raise SpringtideError(
                f"{segments.path(self.folder, base)}: the disk did not keep what was appended ({error.strerror})"
            ) from error
        self._publish(written)

    def _publish(self, end: int) -> None:
        bell.fence()
        self.row[Word.DURABLE] = max(end, self.row[Word.DURABLE])
        self.row[Word.RINGS] += 1

    def _ring(self) -> None:
        self.marks.ring(self.number, 2 * self.row[Word.RINGS])

    # --- segments

    def _wants_roll(self, now: int) -> bool:
        if self.row[Word.BYTES] >= self.settings.segment_bytes:
            return True
        if self.settings.retain_s is None or not self.row[Word.BYTES]:
            return False
        # Whole segments are removed; so one holds records of a fraction of the time only.
        head = frames.header(os.pread(self._segment(self.row[Word.SEGMENT]), frames.HEADER_BYTES, 0))
        return head is not None and now - head.time_us > self.settings.retain_s * 1e6 / 4

    def _roll(self) -> None:
        """End the segment and begin the next: the old one is on the disk before the new one exists."""
        row, base = self.row, self.row[Word.WRITTEN]
        head = self._head(base)
        try:
            os.fdatasync(self._segment(row[Word.SEGMENT]))
            self._create(base, head)
        except OSError as error:
            raise _no_room(error, self.url) from error
        row[Word.DIRTY] = 1
        row[Word.BYTES] = len(head)
        row[Word.INDEXED] = 0
        row[Word.SEGMENT] = base
        row[Word.DIRTY] = 0
        self._retain()

    def _head(self, base: int) -> bytes:
        """What a segment begins with: the notes of all producers, for older segments may be removed."""
        if not self.row[Word.NOTED]:
            return b""
        carried, now = json.dumps(self._positions()).encode(), time.time_ns() // 1000
        return frames.encode((), offset=base, time_us=now, durable=base, seed=self._seed(base), note=carried)

    def _create(self, base: int, head: bytes) -> None:
        """A new segment, whole or not at all."""
        aside = self.folder / ".next"
        try:
            with aside.open("wb") as file:
                file.write(head)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(segments.path(self.folder, base))
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)

    def _retain(self) -> None:
        """Remove the oldest segments that the settings do not keep, whole ones, never the last."""
        if self.settings.retain_bytes is None and self.settings.retain_s is None:
            return
        kept = segments.bases(self.folder)
        sizes = {base: segments.path(self.folder, base).stat().st_size for base in kept}
        while len(kept) > 1 and self._surplus(kept[0], sum(sizes[base] for base in kept)):
            self.row[Word.FIRST] = kept[1]  # before the file goes: who does not find it looks here
            segments.remove(self.folder, kept[0])
            del kept[0]

    def _surplus(self, base: int, total_bytes: int) -> bool:
        settings = self.settings
        if settings.retain_bytes is not None and total_bytes > settings.retain_bytes:
            return True
        written_s = segments.path(self.folder, base).stat().st_mtime
        return settings.retain_s is not None and time.time() - written_s > settings.retain_s

    def _segment(self, base: int) -> int:
        if self._open is None or self._open[0] != base:
            self._forget()
            self._open = base, os.open(segments.path(self.folder, base), os.O_RDWR | os.O_CLOEXEC)
        return self._open[1]

    def _seed(self, base: int) -> int:
        return segments.seed(self.settings.identity, self.number, base)

    def _forget(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    # --- recovery

    def _recover(self) -> None:
        """Under the write lock: let the words say what the segments hold, if somebody died or the machine restarted."""
        row = self.row
        if not row[Word.DIRTY] and not row[Word.FAILED] and row[Word.BOOT] == this_boot():
            return
        with self._sync_lock:
            row[Word.DIRTY] = 1
            if row[Word.BOOT] != this_boot():
                row[Word.SYNCED_US] = 0
            found = segments.bases(self.folder)
            if not found:
                found = [row[Word.DURABLE]]
                self._create(found[0], b"")
            self._forget()
            self._settle(found[-1])
            row[Word.FIRST] = found[0]
            row[Word.SEALED] = (self.folder / _SEALED).exists()
            row[Word.BOOT] = this_boot()
            row[Word.DIRTY] = 0
        self._ring()

    def _settle(self, base: int) -> None:
        row, file = self.row, segments.path(self.folder, base)
        data = file.read_bytes()
        keep_all = not row[Word.FAILED]
        found = recovery.tail(data, base, self._seed(base), row[Word.DURABLE], keep_all)
        handle = self._segment(base)
        if found.size_bytes < len(data):
            os.ftruncate(handle, found.size_bytes)
        os.fdatasync(handle)
        segments.rebuild(self.folder, base, found.index)
        row[Word.SEGMENT], row[Word.BYTES], row[Word.WRITTEN] = base, found.size_bytes, found.end
        row[Word.NOTED] = found.noted
        row[Word.INDEXED] = found.index[-1][1] if found.index else 0
        if not keep_all:
            row[Word.EPOCH_END] = row[Word.DURABLE]
            row[Word.EPOCH] += 1
        self._publish(found.end)
        row[Word.FAILED] = 0

    # --- notes

    def positions(self) -> dict[str, int]:
        """How far each producer has come that leaves notes: also what is not yet acknowledged."""
        with self._write_lock:
            self._recover()
            return self._positions() if self.row[Word.NOTED] else {}

    def _positions(self) -> dict[str, int]:
        base, found = self.row[Word.SEGMENT], dict[str, int]()
        data = segments.path(self.folder, base).read_bytes()[: self.row[Word.BYTES]]
        at = 0
        while at < len(data):
            header = frames.header(data, at)
            if header is None or not frames.intact(data, at, header, self._seed(base)):
                following = frames.next_intact(data, at + 1, self._seed(base))
                if following is None:
                    break
                at = following
                continue
            if header.note_bytes:
                found |= json.loads(frames.note(data, at, header))
            at += header.size_bytes
        return found

    # --- the end

    def seal(self) -> None:
        """Keep what is written, and refuse all that comes later; for good."""
        with self._write_lock:
            self._recover()
            if not self.row[Word.SEALED]:
                with self._sync_lock:
                    self._sync()
                    (self.folder / _SEALED).touch()
                    sync_folder(self.folder)
                    self.row[Word.SEALED] = 1
        self._ring()

    def close(self) -> None:
        """Sync what is written, and give back what is held open."""
        self._syncer.end()
        self._forget()
        self._write_lock.close()
        self._sync_lock.close()


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _no_room(error: OSError, url: str) -> SpringtideError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Full(
            f"{url}: there is no room left for what was to be appended ({error.strerror}); nothing of it was kept"
        )
    return SpringtideError(f"{url}: what was to be appended could not be written ({error.strerror})")
