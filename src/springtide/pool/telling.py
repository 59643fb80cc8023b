"""Telling the engine what is recorded and not yet so; what it was told is remembered only so as not to repeat it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.engine import Engine, JobSeen, Observation, Phase, Place, Task
from springtide.pool import carrying
from springtide.pool.carrying import Instruction, Resize, Start, Stop
from springtide.pool.records import JobRecord
from springtide.spec.errors import SpringtideError, UserError

AGAIN_S = 5.0  # after which what was told and has not come about is told once more
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0  # before the next try after a refusal
_log = logging.getLogger("springtide.pool")

Secrets = Callable[[str, tuple[str, ...]], Mapping[str, bytes]]  # team, names -> values


def no_secrets(team: str, names: tuple[str, ...]) -> Mapping[str, bytes]:
    """Where no secrets are kept."""
    del team, names
    return {}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the engine did not do. `final`: no other try would help, since the job itself is wrong."""

    job: str
    sentence: str
    final: bool


@dataclass(frozen=True, slots=True)
class _Pause:
    sentence: str
    until_s: float
    seconds: float


class Teller:
    """The loop's mouth. `sources`: the folder in which submitted folders lie by digest."""

    def __init__(self, engine: Engine, sources: Path, secrets: Secrets) -> None:
        self.engine, self.sources, self.secrets = engine, sources, secrets
        self._told: dict[tuple[str, type[Instruction]], tuple[Instruction, float]] = {}
        self._pauses: dict[str, _Pause] = {}
        self._agreed: dict[str, tuple[Place, ...]] = {}  # training: the places that the engine last took over

    def tell(self, records: Iterable[JobRecord], seen: Observation, now_s: float) -> list[Refusal]:
        """Brings what is to what is recorded. Returns what was refused and was not told before in the same words."""
        found = []
        for record in records:
            there = seen.jobs.get(record.id)
            pause = self._pauses.get(record.id)
            if pause is not None and now_s < pause.until_s:
                continue
            for instruction in carrying.instructions(record, there):
                if self._is_due(instruction, there, now_s):
                    refusal = self._carry_out(record, instruction, now_s)
                    found += [refusal] if refusal else []
        return found

    def agreed(self, record: JobRecord) -> bool:
        """Whether the engine has taken over where the workers of a run are to be; never so before it was told."""
        return self._agreed.get(record.id) == carrying.started(record)

    def forget(self, job_id: str) -> None:
        """The job is over: of it nothing stays in the engine."""
        self._agreed.pop(job_id, None)
        self._pauses.pop(job_id, None)
        for kind in (Start, Resize, Stop):
            self._told.pop((job_id, kind), None)
        self._quietly(self.engine.forget, job_id)

    def forget_ends(self, job_id: str, replicas: tuple[str, ...]) -> None:
        """These ends are on record."""
        self._quietly(self.engine.forget, job_id, replicas)

    def rest(self, job_id: str) -> None:
        """The job holds nothing for a while."""
        self._quietly(self.engine.rest, job_id)

    def end_stranger(self, job_id: str, there: JobSeen) -> None:
        """Of a job that is over nothing may run; when all of it has ended it is forgotten."""
        going = [name for name, one in there.replicas.items() if one.phase != Phase.ENDED]
        if going:
            self._quietly(self.engine.stop, job_id, going, 0.0)
        else:
            self.forget(job_id)

    def _is_due(self, instruction: Instruction, there: JobSeen | None, now_s: float) -> bool:
        told, at_s = self._told.get((instruction.job, type(instruction)), (None, -math.inf))
        if isinstance(instruction, Start) or told != instruction:
            return True
        workers = len(there.training.workers) if there and there.training else 0
        if isinstance(instruction, Resize) and workers == len(instruction.places):
            return False
        return abs(now_s - at_s) >= AGAIN_S

    def _carry_out(self, record: JobRecord, instruction: Instruction, now_s: float) -> Refusal | None:
        try:
            match instruction:
                case Start(_, places):
                    self.engine.start(self._task(record), places)
                case Resize(_, places):
                    self.engine.resize(self._task(record), places)
                case Stop(job, replicas):
                    self.engine.stop(job, replicas, record.job.grace_s)
        except SpringtideError as error:
            return self._refused(record.id, str(error), isinstance(error, UserError), now_s)
        self._told[record.id, type(instruction)] = instruction, now_s
        if isinstance(instruction, Start | Resize):
            self._agreed[record.id] = instruction.places
        self._pauses.pop(record.id, None)
        return None

    def _refused(self, job_id: str, sentence: str, final: bool, now_s: float) -> Refusal | None:
        """Told once, tried again, less and less often."""
        before = self._pauses.get(job_id)
        seconds = min(before.seconds * 2, LAST_PAUSE_S) if before else FIRST_PAUSE_S
        self._pauses[job_id] = _Pause(sentence, now_s + seconds, seconds)
        return None if before and before.sentence == sentence else Refusal(job_id, sentence, final)

    def _task(self, record: JobRecord) -> Task:
        names = record.job.secrets
        return Task(
            id=record.id, job=record.job, revision=record.revision, attempt=record.attempt,
            source=self.sources / record.source if record.source else None, script=record.script,
            secrets=self.secrets(record.job.team, names) if names else {},
        )  # fmt: skip

    def _quietly(self, verb: Callable[..., None], *words: object) -> None:
        """What is asked again in the next round if it is refused in this."""
        try:
            verb(*words)
        except SpringtideError as error:
            _log.info("%s", error)
