"""The arena: the shared memory of a job on one machine. State in alternating buffers, slots, flags, headers.

A memfd that `tide run`, the supervisor and the workers map; it lives as long as one of them does, and nothing is left
after the last. Every word has one writer at a time. No torch here: the supervisor and `tide ps` read it too.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from springtide.spec import SpringtideError
from springtide.train import futex
from springtide.train.protocol import BUFFERS, UNLIMITED, Header, Wish, current

MAGIC = 0x5449_4445_0001
WORKERS = 64  # rows: living workers, the parked one, and those dying
TABLES = 4  # the generation in force, the next, and room for readers that lag
RING = 4096  # steps that a reader may be late
RECORD_BYTES = 8192  # what evaluations carry from tick to tick, as JSON
POSITION_BYTES = 65536  # what belongs to a state beside its tensors, as JSON
EVALUATION_BYTES = 1024  # the sums of one held-out microbatch, as JSON
DESCRIPTION_BYTES = 8 << 20  # the layout, as JSON

_LOOKS = 1000
_COUNTS = ("step", "samples", "checksum", "skipped")
_COUNTS_BYTES = 64
_HEADER_WORDS = 16
_ROW_WORDS = 16
_META_WORDS = 8
_RING_WORDS = 8


@dataclass(frozen=True)
class Shape:
    """How large the parts of an arena are."""

    blocks: int
    chunks: int
    evaluations: int
    state_bytes: int  # one buffer
    slot_bytes: int  # one block's gradients
    constant_bytes: int  # frozen parameters
    best_bytes: int  # the best model kept, or 0


class Word:
    """Words of the whole job. Written by the supervisor, unless it says otherwise."""

    MAGIC, SIZE, DESCRIPTION = 0, 1, 2
    SUPERVISOR, SUPERVISOR_STARTED, SUPERVISOR_BEAT = 3, 4, 5
    GENERATION, LOAN, RETURNED, STOP = 6, 7, 8, 9  # the wishes
    MAIN = 10  # the worker that runs what follows the loop
    FINISHED = 11  # the others may end
    THIRD = 12  # the third buffer has memory
    LAUNCHER, LAUNCHER_STARTED = 13, 14  # written by the launcher
    INITIALISED = 15  # written by the first worker or the nursery: the state of step 0 or of a checkpoint is in
    DRAINED = 16  # a loop body left by `break`: the tick that it ended, written by that worker
    AUDITED, EXPECTED, EXPECTED_SUM = 17, 18, 19  # written by the main worker: what the order says was to be counted
    WANTED, CHANGES = 20, 21  # workers asked for; memberships so far
    SCRIPT_DONE = 22  # written by the main worker: what follows the loop has run
    BELL, WATCH = 24, 32  # futexes, a cache line each
    PLANNED, LAST = 40, 41  # of a stream, plus one: the last step in the step log; the last one that there will be
    COUNT = 48


class Row:
    """Words of one worker. PID to ROLE are the supervisor's, the rest the worker's own."""

    PID, STARTED, ROLE, WAKE = 0, 1, 2, 3
    STATE, BEAT, SINCE, MICROBATCH, POPULATED, BUSY, DONE, RING, FORKED = 4, 5, 6, 7, 8, 9, 10, 11, 12


class Role:
    """What the supervisor wants of a worker."""

    PARKED, WORK, LEAVE = 0, 1, 2


class State:
    """What a worker says it is doing."""

    FREE, STARTING, READY, ENDED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One committed step, from the ring."""

    step: int
    time: float  # unix seconds
    loss: float
    workers: int
    samples: int
    generation: int
    skipped: bool
    stamped: bool = False  # `time` is that of the commit, not of chunk 0


def _align(offset: int, to: int = 64) -> int:
    return -(-offset // to) * to


class Regions:
    """Where each part of an arena of a given shape begins. `fixed` ends where the third buffer begins."""

    def __init__(self, shape: Shape) -> None:
        self._end = 0
        self.words = self._take(Word.COUNT * 8)
        self.rows = self._take(WORKERS * _ROW_WORDS * 8)
        self.headers = self._take(2 * _HEADER_WORDS * 8)
        self.records = self._take(2 * RECORD_BYTES)
        self.table_words = 1 + shape.blocks + shape.chunks
        self.tables = self._take(TABLES * self.table_words * 8)
        self.block_flags = self._take(shape.blocks * 8)
        self.covers = self._take(shape.blocks * 8)
        self.partial_flags = self._take(shape.chunks * 8)
        self.partials = self._take(shape.chunks * 8)
        self.chunk_flags = self._take(shape.chunks * 8)
        self.evaluation_flags = self._take(max(1, shape.evaluations) * 8)
        self.evaluation_covers = self._take(max(1, shape.evaluations) * 8)
        self.evaluations = self._take(max(1, shape.evaluations) * EVALUATION_BYTES)
        self.metas = self._take(shape.blocks * _META_WORDS * 8)
        self.ring = self._take(RING * _RING_WORDS * 8)
        self.positions = self._take(BUFFERS * POSITION_BYTES)
        self.description = self._take(DESCRIPTION_BYTES, 4096)
        self.constants = self._take(shape.constant_bytes, 4096)
        self.buffers = [self._take(shape.state_bytes, 4096) for _ in range(2)]
        self.slots = [self._take(shape.slot_bytes, 4096) for _ in range(shape.blocks)]
        self.best = self._take(shape.best_bytes, 4096)
        self.fixed = _align(self._end, 4096)
        self.buffers.append(self._take(shape.state_bytes, 4096))
        self.size = _align(self._end, 4096)

    def _take(self, size_bytes: int, to: int = 64) -> int:
        offset = _align(self._end, to)
        self._end = offset + size_bytes
        return offset


class Arena:
    """A mapped arena. All views of words are memoryviews of 64-bit integers (or doubles where it says so)."""

    def __init__(self, descriptor: int, shape: Shape) -> None:
        self.descriptor, self.shape = descriptor, shape
        self.at = at = Regions(shape)
        self.map = mmap.mmap(descriptor, at.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.base = futex.address_of(self.map)
        self.bytes = memoryview(self.map)
        chunks, blocks = shape.chunks, shape.blocks
        self.words = self.view(at.words, Word.COUNT)
        self.block_flags = self.view(at.block_flags, blocks)
        self.covers = self.view(at.covers, blocks)
        self.partial_flags = self.view(at.partial_flags, chunks)
        self.partials = self.reals(at.partials, chunks)
        self.chunk_flags = self.view(at.chunk_flags, chunks)
        self.evaluation_flags = self.view(at.evaluation_flags, max(1, shape.evaluations))
        self.evaluation_covers = self.view(at.evaluation_covers, max(1, shape.evaluations))
        self.rows = [self.view(at.rows + row * _ROW_WORDS * 8, _ROW_WORDS) for row in range(WORKERS)]
        self._headers = [self.view(at.headers + parity * _HEADER_WORDS * 8, _HEADER_WORDS) for parity in (0, 1)]
        self.tables = [_Table(self, at.tables + k * at.table_words * 8) for k in range(TABLES)]
        self.metas = [self.view(at.metas + block * _META_WORDS * 8, _META_WORDS) for block in range(blocks)]
        self.metas_real = [self.reals(at.metas + b * _META_WORDS * 8, _META_WORDS) for b in range(blocks)]
        self.counts = [self.view(at.positions + buffer * POSITION_BYTES, len(_COUNTS)) for buffer in range(BUFFERS)]
        self._bell = self.bytes[at.words + Word.BELL * 8 :][:8].cast("I")
        self._watch = self.bytes[at.words + Word.WATCH * 8 :][:8].cast("I")

    def view(self, offset: int, count: int) -> memoryview[int]:
        """`count` 64-bit integers at `offset`."""
        return self.bytes[offset : offset + count * 8].cast("q")

    def reals(self, offset: int, count: int) -> memoryview[float]:
        """`count` doubles at `offset`."""
        return self.bytes[offset : offset + count * 8].cast("d")

    # --- headers and wishes

    def header(self, parity: int) -> Header:
        """The header of that parity; whole only under the rule of `protocol.current`."""
        tick, kind, step, generation, read, write, lent, loan, lent_step = self._headers[parity][:9].tolist()
        return Header(tick, kind, step, generation, read, write, lent, loan, lent_step)

    def now(self) -> Header | None:
        """The header of the tick under way; None before the first, and where ticks are too quick to be caught."""
        if self.words[Word.INITIALISED]:
            for _ in range(_LOOKS):
                if (found := current(self.chunk_flags, self.header)) is not None:
                    return found
        return None

    def write_header(self, header: Header) -> None:
        """By whoever completes chunk 0 of the tick before, ahead of that flag."""
        words = self._headers[header.tick % 2]
        words[0] = 0
        words[1] = header.kind
        words[2] = header.step
        words[3] = header.generation
        words[4] = header.read
        words[5] = header.write
        words[6] = header.lent
        words[7] = header.loan
        words[8] = header.lent_step
        words[0] = header.tick

    def wish(self) -> Wish:
        """What the supervisor asks for now."""
        planned, last = self.words[Word.PLANNED], self.words[Word.LAST]
        generation, loan, returned, stop = self.words[Word.GENERATION : Word.STOP + 1].tolist()
        planned, last = planned - 1 if planned else UNLIMITED, last - 1 if last else UNLIMITED
        return Wish(generation, loan, returned, stop, planned, last)

    def last_step(self, steps: int) -> int:
        """The last step of a run of at most `steps`, as far as it is known."""
        last = self.words[Word.LAST]
        return min(steps, last - 1) if last else steps

    def table(self, generation: int) -> _Table:
        """Who does what in that generation."""
        return self.tables[generation % TABLES]

    # --- JSON areas

    def record(self, parity: int) -> dict[str, Any]:
        """What evaluations left for the tick of that parity."""
        return self._read_json(self.at.records + parity * RECORD_BYTES)

    def write_record(self, parity: int, record: dict[str, Any]) -> None:
        self._write_json(self.at.records + parity * RECORD_BYTES, RECORD_BYTES, record)

    def carry_record(self, parity: int) -> None:
        """Take the record of `parity` into the other parity unchanged."""
        begin, other = self.at.records + parity * RECORD_BYTES, self.at.records + (1 - parity) * RECORD_BYTES
        (length,) = struct.unpack_from("q", self.bytes, begin)
        self.bytes[other : other + 8 + length] = self.bytes[begin : begin + 8 + length]

    def position(self, buffer: int) -> dict[str, Any]:
        """What belongs to the state in that buffer beside its tensors: the counts, and what else travels with it."""
        counts = dict(zip(_COUNTS, self.counts[buffer], strict=True))
        counts["checksum"] &= (1 << 64) - 1
        return counts | self.travelling(buffer)

    def travelling(self, buffer: int) -> dict[str, Any]:
        """The part of a position that is not counts."""
        return self._read_json(self.at.positions + buffer * POSITION_BYTES + _COUNTS_BYTES)

    def write_position(
        self, buffer: int, step: int, samples: int, checksum: int, skipped: int, more: dict[str, Any]
    ) -> None:
        """By whoever completes chunk 0. Counts are totals since step 0; `checksum` is modulo 2^64."""
        counts = self.counts[buffer]
        checksum &= (1 << 64) - 1
        counts[0], counts[1], counts[3] = step, samples, skipped
        counts[2] = checksum - (1 << 64) if checksum >= 1 << 63 else checksum
        offset = self.at.positions + buffer * POSITION_BYTES + _COUNTS_BYTES
        self._write_json(offset, POSITION_BYTES - _COUNTS_BYTES, more)

    def evaluation(self, item: int) -> dict[str, Any]:
        return self._read_json(self.at.evaluations + item * EVALUATION_BYTES)

    def write_evaluation(self, item: int, sums: dict[str, Any]) -> None:
        self._write_json(self.at.evaluations + item * EVALUATION_BYTES, EVALUATION_BYTES, sums)

    def describe(self, description: dict[str, Any]) -> None:
        """Write down what is where, so that a supervisor that starts anew can adopt the job from the arena alone."""
        self._write_json(self.at.description, DESCRIPTION_BYTES, description)
        self.words[Word.SIZE] = self.at.size
        self.words[Word.MAGIC] = MAGIC

    def description(self) -> dict[str, Any]:
        return self._read_json(self.at.description)

    def _read_json(self, offset: int) -> dict[str, Any]:
        (length,) = struct.unpack_from("q", self.bytes, offset)
        found = json.loads(bytes(self.bytes[offset + 8 : offset + 8 + length])) if length else {}
        return found if isinstance(found, dict) else {}

    def _write_json(self, offset: int, room_bytes: int, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode() if value else b""  # json, which keeps infinities, as schedulers have
        if len(text) > room_bytes - 8:
            raise SpringtideError(f"{len(text)} bytes of {', '.join(value)[:60]} do not fit into {room_bytes - 8}")
        self.bytes[offset + 8 : offset + 8 + len(text)] = text
        struct.pack_into("q", self.bytes, offset, len(text))

    # --- bells

    def bell(self) -> int:
        """Read this before looking at flags, and give it to `sleep`."""
        return self._bell[0]

    def ring(self, value: int) -> None:
        """Wake who waits for flags. `value` must be new: no two rings are alike, so none can be slept through."""
        self._bell[0] = value & 0xFFFF_FFFF
        futex.wake(self.base + self.at.words + Word.BELL * 8)

    def sleep(self, bell: int, timeout_seconds: float | None = None) -> None:
        """Wait until the bell is no longer `bell`."""
        futex.wait(self.base + self.at.words + Word.BELL * 8, bell, timeout_seconds)

    def watch(self) -> int:
        """As `bell`, for those who look on: supervisor and launcher."""
        return self._watch[0]

    def tell(self, value: int) -> None:
        """Wake those who look on."""
        self._watch[0] = value & 0xFFFF_FFFF
        futex.wake(self.base + self.at.words + Word.WATCH * 8)

    def look_on(self, watch: int, timeout_seconds: float | None = None) -> None:
        futex.wait(self.base + self.at.words + Word.WATCH * 8, watch, timeout_seconds)

    def park(self, worker: int, seen: int, timeout_seconds: float | None = None) -> None:
        """Sleep until the supervisor calls `summon(worker)`; `seen` is the row's WAKE word read before looking."""
        futex.wait(self._row_address(worker, Row.WAKE), seen & 0xFFFF_FFFF, timeout_seconds)

    def summon(self, worker: int) -> None:
        self.rows[worker][Row.WAKE] += 1
        futex.wake(self._row_address(worker, Row.WAKE))

    def _row_address(self, worker: int, word: int) -> int:
        return self.base + self.at.rows + (worker * _ROW_WORDS + word) * 8

    # --- the ring of steps

    def write_step(self, record: StepRecord) -> None:
        """By whoever completes chunk 0.

        The step number comes last; the time is put right when the step is committed.
        """
        view = self._ring_view(record.step)
        self._ring_step(record.step)[0] = 0
        view[1], view[2], view[3] = record.time, record.loss, float(record.workers)
        view[4], view[5], view[6] = float(record.samples), float(record.generation), float(record.skipped)
        view[7] = 0.0
        self._ring_step(record.step)[0] = record.step

    def stamp_step(self, step: int, time: float) -> None:
        """The step is committed now."""
        view = self._ring_view(step)
        view[1], view[7] = time, 1.0

    def steps_after(self, step: int, upto: int) -> Iterator[StepRecord]:
        """Records of the steps in (step, upto] that the ring still holds; `upto` must be committed."""
        for wanted in range(max(step + 1, upto - RING + 2), upto + 1):
            view = self._ring_view(wanted)
            if self._ring_step(wanted)[0] == wanted:
                _, time, loss, workers, samples, generation, skipped, stamped = view.tolist()
                counts = int(workers), int(samples), int(generation)
                yield StepRecord(wanted, time, loss, *counts, bool(skipped), bool(stamped))

    def _ring_view(self, step: int) -> memoryview[float]:
        return self.reals(self.at.ring + step % RING * _RING_WORDS * 8, _RING_WORDS)

    def _ring_step(self, step: int) -> memoryview[int]:
        return self.view(self.at.ring + step % RING * _RING_WORDS * 8, 1)


class _Table:
    """One generation: item -> worker."""

    def __init__(self, arena: Arena, offset: int) -> None:
        blocks, chunks = arena.shape.blocks, arena.shape.chunks
        self._generation = arena.view(offset, 1)
        self.blocks = arena.view(offset + 8, blocks)
        self.chunks = arena.view(offset + 8 * (1 + blocks), chunks)

    @property
    def generation(self) -> int:
        return self._generation[0]

    def write(self, generation: int, blocks: list[int], chunks: list[int]) -> None:
        """By the supervisor, before it wishes for that generation."""
        for item, worker in enumerate(blocks):
            self.blocks[item] = worker
        for item, worker in enumerate(chunks):
            self.chunks[item] = worker
        self._generation[0] = generation

    def names(self, worker: int) -> bool:
        """Whether that worker has anything to do."""
        return worker in self.blocks.tolist() or worker in self.chunks.tolist()


def create() -> int:
    """An empty arena: the descriptor of a memfd, inheritable."""
    descriptor = os.memfd_create("springtide", 0)
    os.set_inheritable(descriptor, True)
    return descriptor


def allocate(descriptor: int, shape: Shape) -> None:
    """Give the arena its memory now, all but the third buffer, so that no worker is killed for touching it first."""
    regions = Regions(shape)
    os.ftruncate(descriptor, regions.size)
    os.posix_fallocate(descriptor, 0, regions.fixed)


def allocate_third(descriptor: int, shape: Shape) -> None:
    """Give memory to the third buffer, which only a checkpoint needs."""
    regions = Regions(shape)
    if regions.size > regions.fixed:
        os.posix_fallocate(descriptor, regions.fixed, regions.size - regions.fixed)


def stored_shape(shape: Shape) -> dict[str, int]:
    """For the description and for messages."""
    return asdict(shape)
