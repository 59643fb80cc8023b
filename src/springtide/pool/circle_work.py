"""Carries out what a circle asks for. Each of these may be done again after a crash, and has its effect once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from springtide.data.streams import Expired, open_stream
from springtide.pool import circle_files
from springtide.pool.client import Client
from springtide.serve import gate, judging, promotion
from springtide.serve.loop import expansion, parts, ranges
from springtide.serve.loop.advance import unjudged
from springtide.serve.loop.circle import (
    Circle,
    Event,
    ExaminationFailed,
    Instruction,
    Judge,
    Judged,
    Outcome,
    Promote,
    Promoted,
    Register,
    Registered,
    Release,
    Released,
    RestartTraining,
    Retrained,
    Verdict,
)
from springtide.serve.loop.expansion import Ground
from springtide.serve.loop.places import Places
from springtide.serve.loop.verdict import rule, understood
from springtide.serve.registry import Lineage, Registry, Version
from springtide.spec.errors import SpringtideError
from springtide.spec.job import Job
from springtide.spec.loop import Loop

_BATCH = 1000  # records that are read or appended at once


def relocated(loop: Loop, folder: Path) -> Loop:
    """The loop as it is in a copy of its folder: what lay inside is named there, what lay outside stays."""
    if loop.folder is None:
        return loop

    def there(path: str | None) -> str | None:
        inside = os.path.relpath(path, loop.folder) if path is not None else ".."
        return path if inside.startswith("..") else str(folder / inside)

    train = replace(loop.train, script=there(loop.train.script) or loop.train.script)
    return replace(loop, folder=str(folder), train=train, gate=replace(loop.gate, data=there(loop.gate.data)))


@dataclass(frozen=True, slots=True)
class Worker:
    """One circle's hands: its loop (as it lies in this process's folder), its places, the registry and the pool."""

    loop: Loop
    ground: Ground
    registry: Registry
    client: Client

    @property
    def there(self) -> Places:
        return self.ground.places(self.loop)

    @property
    def by(self) -> str:
        return f"loop {self.loop.name}"

    def carry_out(self, instruction: Instruction, circle: Circle) -> Event:
        """What happened. SpringtideError: it could not be done now, and is to be tried again."""
        match instruction:
            case Register() | Judge() | Promote():
                return self._examined(instruction, circle)
            case RestartTraining():
                return self._restart(instruction)
            case Release():
                return self._release(instruction)

    def _examined(self, instruction: Register | Judge | Promote, circle: Circle) -> Event:
        """What is wrong with the candidate or its judgement is an event, and no error."""
        try:
            match instruction:
                case Register():
                    return self._register(instruction)
                case Judge():
                    return self._judge(instruction, circle)
                case Promote():
                    return self._promote(instruction)
        except SpringtideError as error:
            return ExaminationFailed(" ".join(str(error).split()))

    def _register(self, instruction: Register) -> Event:
        one = instruction.checkpoint
        known = {self.there.training: {str(partition): end for partition, end in one.offsets.items()}}
        version, _ = self.registry.added(
            self.loop.model_name, Path(one.path), build=self.loop.build, config=self.loop.config,
            lineage=Lineage(job=self.loop.job(expansion.TRAIN), step=one.step, offsets=known), by=self.by,
            code_from=Path(self.loop.folder or "."),
        )  # fmt: skip
        return Registered(version.number)

    def _judge(self, instruction: Judge, circle: Circle) -> Event:
        version = self.registry.version(self.loop.model_name, instruction.version)
        if version.stage == "production":  # content that is equal to a byte is no other version
            return Judged(version.number, Verdict(Outcome.PROMOTED, "it is what is in production already"))
        if (known := self._recorded(version.number, circle)) is not None:
            return Judged(version.number, understood(known))
        if not self._write_judged(instruction, circle):
            return ExaminationFailed("there is no held-out record yet to judge it on")
        said = gate.decide(
            self.registry, version, rule(self.loop, str(self.there.judged)), code_from=Path(self.loop.folder or "."),
            evaluation_s=self.loop.gate.timeout_s,
        )  # fmt: skip
        return Judged(version.number, understood(said))

    def _recorded(self, number: int, circle: Circle) -> judging.Verdict | None:
        """The verdict of this examination, given before a crash, where production is still what it was held against."""
        verdicts = self.registry.verdicts(self.loop.model_name, number)
        if circle.exam is None or not verdicts or verdicts[-1][0] < circle.exam.began_s:
            return None
        current = production(self.registry, self.loop.model_name)
        return verdicts[-1][1] if verdicts[-1][1].against == (current.number if current else None) else None

    def _promote(self, instruction: Promote) -> Event:
        promotion.promote(self.registry, self.loop.model_name, instruction.version, by=self.by)
        self.serve()
        return Promoted(instruction.version)

    def serve(self) -> None:
        """The service is in the pool, if there is something to serve."""
        if production(self.registry, self.loop.model_name) is None:
            return
        name = self.loop.job(expansion.SERVE)
        if not self.client.jobs(state="live", name=name, limit=1):
            self.client.submit(expansion.serve(self.loop, self.ground))

    # --- what is judged on

    def held_out_ends(self) -> dict[int, int]:
        """Where the held-out stream ends now, by partition."""
        stream = open_stream(self.there.held_out)
        try:
            return {partition: bounds.end for partition, bounds in stream.bounds().items()}
        finally:
            stream.close()

    def _write_judged(self, instruction: Judge, circle: Circle) -> int:
        lines = [*self._fixed(), *self._recent(instruction.held_end, unjudged(circle))]
        circle_files.write(self.there.judged, b"".join(line + b"\n" for line in lines))
        return len(lines)

    def _fixed(self) -> Iterator[bytes]:
        if self.loop.gate.data is not None:
            for record in gate.records_of(self.loop.gate.data):
                yield json.dumps({**record, parts.PART: parts.FIXED}).encode()

    def _recent(self, end: ranges.Offsets, barred: ranges.Ranges) -> list[bytes]:
        """The latest held-out records below `end`, without those in quarantine."""
        found: list[tuple[float, bytes]] = []
        stream = open_stream(self.there.held_out)
        try:
            for partition, bounds in stream.bounds().items():
                last = min(bounds.end, end.get(partition, 0))
                left = max(bounds.first, last - self.loop.gate.recent - ranges.count({0: barred.get(partition, ())}))
                for record in read(stream.read, partition, left, last):
                    if not ranges.holds(barred, partition, record.offset):
                        found.append((record.time_s, record.value))
        finally:
            stream.close()
        return [value for _, value in sorted(found)[-self.loop.gate.recent :]]

    # --- training

    def _restart(self, instruction: RestartTraining) -> Event:
        generation = instruction.generation
        circle_files.begin(self.there, generation, instruction.checkpoint, instruction.quarantine)
        self.client.submit(self.training(generation))
        return Retrained(generation)

    def training(self, generation: int) -> Job:
        return expansion.train(self.loop, self.ground, generation)

    def _release(self, instruction: Release) -> Event:
        """Appends each record under a key of its own, unless one with that key stands there."""
        stream, count = open_stream(self.there.training), 0
        try:
            known = self._released(stream, instruction)
            for partition, intervals in instruction.training.items():
                for begin, end in intervals:
                    for record in read(stream.read, partition, begin, end):
                        key = _key(partition, record.offset)
                        count += 1
                        if key not in known:
                            stream.append([record.value], partition=partition, key=key)
        finally:
            stream.close()
        return Released(instruction.id, count)

    def _released(self, stream: Any, instruction: Release) -> set[bytes]:
        """Keys of what was appended before a crash: they stand behind what is released."""
        found: set[bytes] = set()
        for partition, intervals in instruction.training.items():
            behind = max(end for _, end in intervals)
            end = stream.bounds()[partition].end
            found |= {record.key for record in read(stream.read, partition, behind, end) if record.key is not None}
        return found


def _key(partition: int, offset: int) -> bytes:
    return b"released/%d/%d" % (partition, offset)


def read(reader: Callable[..., list[Any]], partition: int, begin: int, end: int) -> Iterator[Any]:
    """The records of a partition in [begin, end); what retention has removed is passed over."""
    at = begin
    while at < end:
        try:
            records = reader(partition, at, limit=min(_BATCH, end - at))
        except Expired as error:
            at = error.first
            continue
        if not records:
            return
        yield from (record for record in records if record.offset < end)
        at = records[-1].offset + 1


def production(registry: Registry, name: str) -> Version | None:
    """The version in production; None: none is."""
    if name not in registry.names():
        return None
    return next((one for one in registry.versions(name) if one.stage == "production"), None)
