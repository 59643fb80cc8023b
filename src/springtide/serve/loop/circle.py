"""What is known of a circle: one value, kept on the disk. And what can happen to it, and what it can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from springtide.serve.loop.ranges import Ranges

PAST_KEPT = 50  # candidates that are remembered
BASES_KEPT = 5  # promoted checkpoints to which training can go back, so that a roll-back by hand can be followed
NOTES_KEPT = 100


class Outcome(StrEnum):
    """What became of a candidate."""

    PROMOTED = "promoted"
    REFUSED = "refused"  # worse than production: its records are quarantined
    WAITING = "not yet"  # not good enough for the first, or too little to judge by: training goes on
    FAILED = "failed"  # it could not be judged or served: no fault of its records


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the training. `path` is a folder of the loop's own, where the training's retention does not reach."""

    generation: int
    step: int
    digest: str
    path: str
    offsets: Mapping[int, int] = field(default_factory=dict)  # of the training stream: partition -> next


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said. `numbers` as it recorded them."""

    outcome: Outcome
    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examination:
    """The one candidate that is looked at: registered, then judged, then promoted."""

    checkpoint: Checkpoint
    began_s: float
    held_end: Mapping[int, int]  # of the held-out stream: what is judged on ends here
    version: int | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint that was promoted: training can go back to it."""

    version: int
    checkpoint: Checkpoint
    held_end: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Records that a refused candidate had seen and production had not. They keep their offsets, and are skipped."""

    id: int
    version: int | None  # the candidate
    why: str
    at_s: float
    training: Ranges
    held_out: Ranges
    released: bool = False  # what of it could be read was appended again
    count: int = 0  # records that were appended again
    asked: bool = False  # its release was asked for


@dataclass(frozen=True, slots=True)
class Past:
    """A candidate that is over."""

    version: int | None
    generation: int
    step: int
    outcome: Outcome
    sentence: str
    at_s: float
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person would want to read."""

    at_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Circle:
    """The whole of it. `generation` counts beginnings of the training: at a base, or from nothing."""

    every_s: float = 60.0
    generation: int = 0
    placed: bool = True  # the training of this generation was handed to the pool
    bases: tuple[Base, ...] = ()  # the last is in production
    newest: Checkpoint | None = None  # seen, and not examined
    newest_held_end: Mapping[int, int] = field(default_factory=dict)
    exam: Examination | None = None
    examined_step: int = -1  # of this generation
    ended_s: float = float("-inf")  # of the last examination
    quarantines: tuple[Quarantine, ...] = ()
    past: tuple[Past, ...] = ()
    notes: tuple[Note, ...] = ()
    candidates: int = 0
    training: str = ""  # why it does not go on, where it has ended

    @property
    def base(self) -> Base | None:
        """Where training goes back to."""
        return self.bases[-1] if self.bases else None


# --- what happens


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """A checkpoint was written, and put where it stays. `held_end`: where the held-out stream ended at that time."""

    checkpoint: Checkpoint
    held_end: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Registered:
    """The candidate is a version of the registry."""

    version: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The gate has spoken."""

    version: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Promoted:
    """Every server answers with it."""

    version: int


@dataclass(frozen=True, slots=True)
class ExaminationFailed:
    """It could not be registered, judged or promoted, for a reason that is not in its numbers."""

    sentence: str


@dataclass(frozen=True, slots=True)
class ProductionSeen:
    """The registry says that this version is in production, whoever put it there."""

    version: int | None


@dataclass(frozen=True, slots=True)
class Retrained:
    """The pool has taken up the training of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """The training's job is over."""

    sentence: str


@dataclass(frozen=True, slots=True)
class TrainingGoesOn:
    """It runs, or will."""


@dataclass(frozen=True, slots=True)
class ReleaseAsked:
    """A person wants these records trained on after all."""

    id: int
    by: str


@dataclass(frozen=True, slots=True)
class Released:
    """They stand at the end of the training stream."""

    id: int
    count: int


@dataclass(frozen=True, slots=True)
class DriftSeen:
    """Inputs or answers began to differ, or ceased to."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    CheckpointSeen | Registered | Judged | Promoted | ExaminationFailed | ProductionSeen | Retrained | TrainingEnded
    | TrainingGoesOn | ReleaseAsked | Released | DriftSeen | Tick
)  # fmt: skip


# --- what is to be done: each may be carried out again after a crash, and has its effect once


@dataclass(frozen=True, slots=True)
class Register:
    """Make it a version, unless it is one."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Judge:
    """Hold it against production, unless a verdict is recorded."""

    version: int
    held_end: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Promote:
    """Put it into production, unless it is."""

    version: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RestartTraining:
    """Let the pool train this generation: from `checkpoint`, or from nothing, without what is quarantined."""

    generation: int
    checkpoint: Checkpoint | None
    quarantine: Ranges


@dataclass(frozen=True, slots=True)
class Release:
    """Append these records to the training stream, unless they were."""

    id: int
    training: Ranges


Instruction = Register | Judge | Promote | RestartTraining | Release
