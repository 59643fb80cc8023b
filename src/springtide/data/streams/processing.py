"""Records in, records out, each exactly once: the body of a `stream` job.

Progress lies where the results are: what is made of a source's records is appended to a sink together with how far the
source was read, both or neither. Whoever takes over reads that first. With several sinks each knows its own progress;
the source is read again from the least, and what a sink has is not given to it twice. So the function must make the
same of a record each time.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from springtide.data.streams import notes
from springtide.data.streams.join import Join
from springtide.data.streams.leases import Leases
from springtide.data.streams.page import page
from springtide.data.streams.sinks import Sink, open_sink
from springtide.data.streams.stream import Away, Bounds, Expired, Record, Stream, open_stream
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.home import home

Function = Callable[[Any], Any]
_BATCH, _FIRST_BATCH = 500, 50  # records
_BATCH_S = 0.5  # a batch is made so small that it takes no longer: partitions change hands between two
_NOTE_EVERY = 1000  # records of which nothing came for a sink, before it is told how far its source was read
_LOOK_ROUND_S = 1.0  # how soon a replica notices that another has come or gone


@dataclass(frozen=True, slots=True)
class Processed:
    """What one call of `process` did: records read, records written by sink, and records that were skipped."""

    read: int = 0
    written: Mapping[str, int] = field(default_factory=dict)
    bad: int = 0
    expired: int = 0


def process(
    source: str,
    sink: str | Mapping[str, str],
    function: Function | Join,
    *,
    name: str = "process",
    start: Literal["earliest", "latest"] = "earliest",
    decoder: Callable[[bytes], Any] = json.loads,
    on_bad: Literal["raise", "skip"] = "raise",
    expired: Literal["stop", "skip"] = "stop",
    idle_seconds: float | None = None,
) -> Processed:
    """Apply `function` to each record of `source`, and append what it returns to `sink`, exactly once.

    It returns a record (a dict, or bytes), a list of them, or None; with several sinks, `(name of the sink, record)`.
    Every replica of a job calls it alike, with one `name`: they divide the partitions. It ends when the source is
    sealed and read, or after `idle_seconds` without a record; else never. Raises UserError, `Expired`, `Away`.
    """
    sinks = _sinks(source, sink)
    if "|" in name:
        raise UserError(f'process: the name "{name}" holds a |; write letters, digits and hyphens')
    opened, targets = open_stream(source), {told: open_sink(url) for told, url in sinks.items()}
    rules = _Rules(function, decoder, on_bad, expired, start)
    replica = _Replica(opened, targets, name, rules)
    try:
        return replica.run(idle_seconds)
    finally:
        replica.close()


def _sinks(source: str, sink: str | Mapping[str, str]) -> dict[str, str]:
    sinks = {"": sink} if isinstance(sink, str) else dict(sink)
    if not sinks:
        raise UserError("process: there is no sink; write the URL of one")
    for url in sinks.values():
        if url == source or list(sinks.values()).count(url) > 1:
            raise UserError(f"process: {url} is named twice; source and sinks are different streams")
    return sinks


@dataclass(frozen=True, slots=True)
class _Rules:
    function: Function | Join
    decoder: Callable[[bytes], Any]
    on_bad: str
    expired: str
    start: str

    def step(self) -> tuple[Callable[[Record], Any], int]:
        """What is done with each record of one partition, and how many before the first it must be shown."""
        decoder, function = self.decoder, self.function
        if isinstance(function, Join):
            see, replay = function.fresh(), function.replay_records
            return lambda record: see(record, decoder(record.value)), replay
        return lambda record: function(decoder(record.value)), 0


class _Clock:
    """When what was done last, and what was said."""

    def __init__(self) -> None:
        self.worked_s, self._looked_s, self._said = time.monotonic(), 0.0, ""

    def is_time(self) -> bool:
        """To look who else is there."""
        if time.monotonic() - self._looked_s < _LOOK_ROUND_S:
            return False
        self._looked_s = time.monotonic()
        return True

    def missed(self, error: Away) -> None:
        """Say it once."""
        if str(error) != self._said:
            print(f"tide: {error}; waiting for it", file=sys.stderr, flush=True)
        self._said = str(error)


class _Replica:
    """One process of a processor: the partitions that it holds."""

    def __init__(self, source: Stream, sinks: Mapping[str, Sink], name: str, rules: _Rules) -> None:
        self._source, self._sinks, self._name, self._rules = source, sinks, name, rules
        self._leases = Leases(_lease_folder(source.url, sinks.values(), name))
        self._tasks: dict[int, _Task] = {}
        self._sum = Processed(written=dict.fromkeys(sinks, 0))
        self._figures = page().figures(source.url, name)

    def run(self, idle_seconds: float | None) -> Processed:
        """To the end; a broker that is away is waited for."""
        clock = _Clock()
        while True:
            try:
                if self._turn(clock, idle_seconds):
                    return self._sum
            except Away as error:
                clock.missed(error)
                self._drop()  # whoever takes over, we again perhaps, looks what has reached the sinks
                time.sleep(_LOOK_ROUND_S)  # nobody tells when a broker comes back

    def _turn(self, clock: _Clock, idle_seconds: float | None) -> bool:
        """Do what is at hand, or wait for more; True: there will be no more."""
        bounds = self._source.bounds()
        if clock.is_time() or not self._tasks:
            self._settle(bounds)
        self._tell(bounds)
        begun_s, read = time.monotonic(), self._read()
        moved = [task.advance(bounds[number].end) for number, task in self._tasks.items()]
        if any(moved):
            clock.worked_s = time.monotonic()
            self._figures.busy_s += clock.worked_s - begun_s
            self._figures.processed += self._read() - read
            return False
        idle_s = time.monotonic() - clock.worked_s
        if self._is_over(bounds) or (idle_seconds is not None and idle_s >= idle_seconds):
            self._drop()
            return True
        beyond = {number: one.end for number, one in bounds.items()}
        beyond |= {number: task.position for number, task in self._tasks.items()}
        left_s = _LOOK_ROUND_S if idle_seconds is None else min(_LOOK_ROUND_S, idle_seconds - idle_s)
        self._source.wait(beyond, left_s)
        return False

    def _tell(self, bounds: Mapping[int, Bounds]) -> None:
        held = [(bounds[number], task.position) for number, task in self._tasks.items()]
        self._figures.lag = sum(max(0, one.end - max(one.first, position)) for one, position in held)
        self._figures.arrived = sum(one.end for one in bounds.values())
        self._figures.partitions = len(bounds)

    def _read(self) -> int:
        return sum(task.read for task in self._tasks.values())

    def _drop(self) -> None:
        for number in list(self._tasks):
            self._retire(number)
        self._leases.give_all()

    def _settle(self, bounds: Mapping[int, Bounds]) -> None:
        gained, given = self._leases.settle(bounds)
        for number in given:
            self._retire(number)
        for number in gained:
            self._tasks[number] = _Task(self._source, self._sinks, number, self._name, self._rules)

    def _retire(self, number: int) -> None:
        task = self._tasks.pop(number)
        written = {name: count + task.written[name] for name, count in self._sum.written.items()}
        done = self._sum
        self._sum = Processed(done.read + task.read, written, done.bad + task.bad, done.expired + task.expired)

    def _is_over(self, bounds: Mapping[int, Bounds]) -> bool:
        """Sealed, and read to the end by whoever holds the partitions: what is free then is finished too."""
        if not all(one.sealed for one in bounds.values()):
            return False
        if any(task.position < bounds[number].end for number, task in self._tasks.items()):
            return False
        others = [number for number in bounds if number not in self._tasks]
        return all(_progress(self._sinks, self._source.url, self._name, at) >= bounds[at].end for at in others)

    def close(self) -> None:
        self._leases.close()
        for sink in self._sinks.values():
            sink.close()
        self._source.close()


class _Task:
    """One partition of the source, held by this replica."""

    def __init__(self, source: Stream, sinks: Mapping[str, Sink], number: int, name: str, rules: _Rules) -> None:
        self._source, self._sinks, self._number, self._rules = source, sinks, number, rules
        self._producer = notes.producer(name, source.url, number)
        bounds = source.bounds()[number]
        known = {told: sink.take_over(self._producer) for told, sink in sinks.items()}
        begun = [position for position in known.values() if position is not None]
        begin = bounds.first if rules.start == "earliest" else min(begun, default=bounds.end)
        self._noted = {told: begin if position is None else position for told, position in known.items()}
        for told, position in known.items():
            if position is None:  # said before anything is read: where "latest" was is not known later
                sinks[told].put(self._producer, number, (), begin)
        self.position = min(self._noted.values())
        self._step, replay = rules.step()
        self.bad, self._batch = 0, _FIRST_BATCH
        self._replay(max(bounds.first, self.position - replay))
        self.read = self.bad = self.expired = 0
        self.written = dict.fromkeys(sinks, 0)

    def _replay(self, position: int) -> None:
        """Show the function what it has seen, for its memory; nothing is written."""
        while position < self.position:
            found = self._source.read(self._number, position, limit=min(_BATCH, self.position - position))
            if not found:
                return
            for record in found:
                if record.offset < self.position:
                    self._made(record)
            position = found[-1].offset + 1

    def advance(self, end: int) -> bool:
        """Do what is at hand, at most one batch; whether there was any."""
        if self.position >= end:
            return False
        try:
            found = self._source.read(self._number, self.position, limit=self._batch)
        except Expired as error:
            if self._rules.expired == "stop":
                raise
            self.expired += error.first - error.offset
            self.position = error.first
            return True
        if not found:
            return False
        values: dict[str, list[bytes]] = {told: [] for told in self._sinks}
        begun_s = time.monotonic()
        for record in found:
            for told, value in self._made(record):
                if record.offset >= self._noted[told]:
                    values[told].append(value)
        self.position = found[-1].offset + 1
        self.read += len(found)
        self._batch = _fitting(len(found), time.monotonic() - begun_s)
        self._put(values, idle=self.position >= end)
        return True

    def _put(self, values: Mapping[str, list[bytes]], idle: bool) -> None:
        for told, sink in self._sinks.items():
            behind = self.position - self._noted[told]
            if values[told] or behind >= _NOTE_EVERY or (idle and behind > 0):
                sink.put(self._producer, self._number, values[told], self.position)
                self._noted[told] = max(self.position, self._noted[told])
                self.written[told] += len(values[told])

    def _made(self, record: Record) -> list[tuple[str, bytes]]:
        """What comes of one record: the sink's name and the bytes of each."""
        try:
            return _results(self._step(record), self._sinks)
        except Exception as error:
            if self._rules.on_bad == "skip" and not isinstance(error, SpringtideError):
                self.bad += 1
                return []
            if isinstance(error, SpringtideError):
                raise
            raise SpringtideError(
                f"{self._source.url}: record {record.offset:,} of partition {self._number} could not be processed "
                f'({type(error).__name__}: {error}); mend the function, or write on_bad="skip"'
            ) from error


def _fitting(records: int, took_s: float) -> int:
    """How many records the function is likely to do in the time of a batch.

    The sink's time does not count: what it takes however few the records are would make batches smaller and smaller.
    """
    return max(1, min(_BATCH, int(records * _BATCH_S / max(took_s, 1e-6))))


def _results(made: Any, sinks: Mapping[str, Sink]) -> list[tuple[str, bytes]]:
    results: Sequence[Any] = () if made is None else made if isinstance(made, list) else [made]
    found = []
    for one in results:
        told, record = one if isinstance(one, tuple) and len(one) == 2 else ("", one)
        if told not in sinks:
            named = f'there is no sink "{told}"' if told else "a record does not say for which sink it is"
            right = f"return (name, record) with one of {', '.join(sinks)}" if "" not in sinks else "return the record"
            raise UserError(f"process: {named}; {right}")
        if not isinstance(record, (dict, bytes)):
            raise UserError(f"process: a {type(record).__name__} was returned; return a dict, bytes, a list or None")
        found.append((told, record if isinstance(record, bytes) else _encoded(record)))
    return found


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _progress(sinks: Mapping[str, Sink], source: str, name: str, number: int) -> int:
    producer = notes.producer(name, source, number)
    return min(sink.progress(producer) or 0 for sink in sinks.values())


def _lease_folder(source: str, sinks: Iterable[Sink], name: str) -> Path:
    """Beside what they protect, where that is a folder."""
    known = list(sinks)
    label = hashlib.sha256(f"{name}|{source}|{sorted(sink.url for sink in known)}".encode()).hexdigest()[:16]
    own = min((sink.leases for sink in known if sink.leases is not None), default=home() / "streams" / "leases")
    return own / label
