"""What replicas write: kept as written, turned over by size, held back when it is a flood, and read by whoever asks.

Readers work on files alone: they need no shim, and go on across the turning over.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROTATE_BYTES = 10_000_000
KEPT = 3  # files, the one that is written among them
FLOOD_BYTES_PER_S = 4_000_000
TAIL_LINES = 20
_LINE_BYTES = 2000  # a longer line is cut in a tail
_LOOK_S = 0.2  # between looks at a file that grows: a file system tells nobody else
_LOOKED_BYTES = 1 << 16  # for the end of the last whole line
_ENDED = ".ended"


@dataclass
class Bucket:
    """How much may be read at once, and on average."""

    rate: float = FLOOD_BYTES_PER_S  # bytes/s
    room: float = FLOOD_BYTES_PER_S  # bytes
    left: float = FLOOD_BYTES_PER_S
    at_s: float = 0.0

    def take(self, count: int, now_s: float) -> float:
        """So much was read. Returns how many seconds nothing more should be read."""
        self.left = min(self.room, self.left + (now_s - self.at_s) * self.rate) - count
        self.at_s = now_s
        return 0.0 if self.left >= 0 else -self.left / self.rate


class Writer:
    """The log of one replica, open for appending."""

    def __init__(self, folder: Path, replica: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{replica}.log"
        self._open()

    def _open(self) -> None:
        self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._handle).st_size

    def write(self, block: bytes) -> None:
        """Raises OSError: the disk is full."""
        if self._size and self._size + len(block) > ROTATE_BYTES:
            os.close(self._handle)
            for number in range(KEPT - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    _numbered(self._path, number - 1).replace(_numbered(self._path, number))
            self._open()
        self._size += os.write(self._handle, block)

    def close(self) -> None:
        """Whoever follows comes to the end."""
        os.close(self._handle)
        self._path.with_suffix(_ENDED).touch()


def tail(folder: Path, replica: str, lines: int, before: int | None = None) -> list[str]:
    """The last lines of a replica, the oldest first; none where it wrote nothing.

    `before`: only up to that place in its newest file.
    """
    found: deque[str] = deque(maxlen=lines)
    for number in range(KEPT):
        held = _last_lines(_numbered(folder / f"{replica}.log", number), lines - len(found), None if number else before)
        found.extendleft(reversed(held))
        if len(found) >= lines:
            break
    return list(found)


def follow(folder: Path, replica: str, stop: threading.Event, lines: int | None = None) -> Iterator[str]:
    """The last `lines` (None: all), then each new one, until the replica has ended and all is told, or `stop`."""
    path = folder / f"{replica}.log"
    rest, held = b"", _Held(path)
    try:
        if lines is not None:
            # The place comes first: what is written while the last lines are told is told after them.
            place = held.skip()
            yield from tail(folder, replica, lines, place)
        while True:
            over = path.with_suffix(_ENDED).exists()  # looked at before reading: nothing comes after it
            block = held.read()
            *whole, rest = (rest + block).split(b"\n")
            for one in whole:
                yield one.decode(errors="replace")
            if block:
                continue
            if over or stop.wait(_LOOK_S):
                break
        if rest:
            yield rest.decode(errors="replace")
    finally:
        held.close()


def replicas(folder: Path) -> list[str]:
    """Those of which there is a log, the newest last."""
    found = [path for path in folder.glob("*.log") if path.is_file()]
    return [path.name.removesuffix(".log") for path in sorted(found, key=lambda path: path.stat().st_mtime)]


class _Held:
    """A file that is read on while it grows and when another takes its name."""

    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, -1

    def skip(self) -> int:
        """Go on from the end of the last whole line that is there; the place of it."""
        if not self._opened():
            return 0
        size = os.fstat(self._handle).st_size
        before = max(0, size - _LOOKED_BYTES)
        end = before + os.pread(self._handle, size - before, before).rfind(b"\n") + 1
        return os.lseek(self._handle, end, os.SEEK_SET)

    def read(self) -> bytes:
        if not self._opened():
            return b""
        if block := os.read(self._handle, 1 << 16):
            return block
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino != os.fstat(self._handle).st_ino:
                # Between the last read and the turning over something may have been written.
                block = os.read(self._handle, 1 << 16)
                if not block:
                    self.close()
                    return self.read()
        return block

    def _opened(self) -> bool:
        if self._handle < 0:
            with contextlib.suppress(FileNotFoundError):
                self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._handle >= 0

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _last_lines(path: Path, lines: int, before: int | None = None) -> list[str]:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) if before is None else before
            begin = file.seek(max(0, end - max(1, lines) * _LINE_BYTES))
            text = file.read(max(0, end - begin)).decode(errors="replace")
    except OSError:
        return []
    found = text.splitlines()[-lines:] if lines > 0 else []
    return [line[:_LINE_BYTES] for line in found]


def _numbered(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.name}.{number}")
