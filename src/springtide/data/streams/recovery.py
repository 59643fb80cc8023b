"""What of a segment holds after somebody died while writing: a pure function of its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from springtide.data.streams import frames
from springtide.data.streams.segments import INDEX_EVERY_BYTES


@dataclass(frozen=True, slots=True)
class Tail:
    """The segment ends at byte `size_bytes`, its records below `end`; what is behind was never acknowledged."""

    end: int
    size_bytes: int
    noted: bool
    index: list[tuple[int, int]]  # (offset, position) of frames, sparse


def tail(data: bytes, base: int, seed: int, acknowledged: int, keep_all: bool) -> Tail:
    """Where the segment that begins with offset `base` ends.

    Whole frames are kept, also where their writer died before he was told so; without `keep_all`, only those that hold
    acknowledged records. What lies before an acknowledged record is kept even if it is damaged: readers name it.
    """
    found, whole_bytes = _walk(data, base, seed)
    acknowledged = max([acknowledged, *(header.durable for _, header in found)])
    kept = [
        (at, header)
        for at, header in found
        if header.offset < acknowledged or (keep_all and at + header.size_bytes <= whole_bytes)
    ]
    end = max([acknowledged if base <= acknowledged else base, *(header.end for _, header in kept)])
    size_bytes = max([0, *(at + header.size_bytes for at, header in kept)])
    return Tail(end, size_bytes, any(header.note_bytes for _, header in kept), _sparse(kept))


def _walk(data: bytes, base: int, seed: int) -> tuple[list[tuple[int, frames.Header]], int]:
    """All intact frames with where they begin, and up to which byte there is nothing else."""
    found: list[tuple[int, frames.Header]] = []
    at, expected, whole_bytes, torn = 0, base, 0, False
    while at < len(data):
        header = frames.header(data, at)
        if header is None or header.offset < expected or not frames.intact(data, at, header, seed):
            torn = True
            following = frames.next_intact(data, at + 1, seed)
            if following is None:
                break
            at = following
            continue
        found.append((at, header))
        at, expected = at + header.size_bytes, header.end
        whole_bytes = whole_bytes if torn else at
    return found, whole_bytes


def _sparse(kept: list[tuple[int, frames.Header]]) -> list[tuple[int, int]]:
    entries, last = [], 0
    for at, header in kept:
        if at - last >= INDEX_EVERY_BYTES:
            entries.append((header.offset, at))
            last = at
    return entries
