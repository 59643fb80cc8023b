"""The files of one partition: segments named after their first offset, each with a sparse index beside it.

An index is a hint. Each entry is checked against the frame that it points to, and a missing or wrong index only costs
time: then the segment's headers are walked.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from springtide.data.streams import frames

INDEX_EVERY_BYTES = 64 << 10
_ENTRY = struct.Struct("<QQ")  # first offset of a frame, and where the frame begins


def path(folder: Path, base: int) -> Path:
    """The segment whose first offset is `base`."""
    return folder / f"{base:020d}.log"


def index_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}.index"


def bases(folder: Path) -> list[int]:
    """First offsets of all segments, in order."""
    with os.scandir(folder) as entries:
        return sorted(int(entry.name[:-4]) for entry in entries if entry.name.endswith(".log"))


def seed(identity: str, partition: int, base: int) -> int:
    """What the checksums of a segment begin with."""
    return zlib.crc32(f"{identity}/{partition}/{base}".encode())


def remove(folder: Path, base: int) -> None:
    index_path(folder, base).unlink(missing_ok=True)
    path(folder, base).unlink(missing_ok=True)


def add_entry(folder: Path, base: int, offset: int, position: int) -> None:
    """Note in the index where the frame of `offset` begins; without room for that the log goes on without."""
    try:
        handle = os.open(index_path(folder, base), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            os.write(handle, _ENTRY.pack(offset, position))
        finally:
            os.close(handle)
    except OSError:
        return


def near(folder: Path, base: int, handle: int, offset: int, limit_bytes: int) -> int:
    """Where a frame begins that holds `offset` or lies before it, as near as the index knows. 0: the beginning."""
    try:
        data = index_path(folder, base).read_bytes()
    except OSError:
        return 0
    best = 0
    for at in range(0, len(data) - len(data) % _ENTRY.size, _ENTRY.size):
        found, position = _ENTRY.unpack_from(data, at)
        if found <= offset and best < position < limit_bytes:
            header = frames.header(os.pread(handle, frames.HEADER_BYTES, position))
            best = position if header is not None and header.offset == found else best
    return best


def rebuild(folder: Path, base: int, entries: list[tuple[int, int]]) -> None:
    """Write the index anew: (offset, position) of frames."""
    aside = folder / f".{base:020d}.index-{os.getpid()}"
    try:
        aside.write_bytes(b"".join(_ENTRY.pack(*entry) for entry in entries))
        aside.replace(index_path(folder, base))
    except OSError:
        aside.unlink(missing_ok=True)
