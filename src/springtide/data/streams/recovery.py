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
    found = _walk(data, base, seed)
    acknowledged = max([acknowledged, *(one.header.durable for one in found)])
    kept = list[_Found]()
    for one in found:
        torn = one.missing is not None and one.missing >= acknowledged
        if torn or not (keep_all or one.header.offset < acknowledged):
            break
        kept.append(one)
    end = max([base, acknowledged, *(one.header.end for one in kept)])
    size_bytes = kept[-1].at + kept[-1].header.size_bytes if kept else 0
    return Tail(end, size_bytes, any(one.header.note_bytes for one in kept), _sparse(kept))


@dataclass(frozen=True, slots=True)
class _Found:
    """An intact frame at byte `at`. `missing`: the offset from which on something is missing before it."""

    at: int
    header: frames.Header
    missing: int | None


def _walk(data: bytes, base: int, seed: int) -> list[_Found]:
    """All intact frames, also those behind places that are not."""
    found: list[_Found] = []
    at, expected, missing = 0, base, None
    while at < len(data):
        header = frames.header(data, at)
        if header is None or header.offset < expected or not frames.intact(data, at, header, seed):
            following = frames.next_intact(data, at + 1, seed)
            if following is None:
                break
            at, missing = following, expected
            continue
        found.append(_Found(at, header, expected if missing is None and header.offset > expected else missing))
        at, expected, missing = at + header.size_bytes, header.end, None
    return found


def _sparse(kept: list[_Found]) -> list[tuple[int, int]]:
    entries, last = [], 0
    for one in kept:
        if one.at - last >= INDEX_EVERY_BYTES:
            entries.append((one.header.offset, one.at))
            last = one.at
    return entries
