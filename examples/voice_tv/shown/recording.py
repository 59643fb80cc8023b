"""What was seen while people spoke to the television, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NEW = "mute"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: who said what, and what came back. `version` 0: nothing did."""

    at_s: float
    phrase: str
    command: str | None
    wanted: str
    version: int

    @property
    def right(self) -> bool:
        return self.command == self.wanted


@dataclass(frozen=True, slots=True)
class Exam:
    """How many recordings of each command a version understood: command -> (right, all)."""

    versions: tuple[int, ...]
    commands: dict[str, tuple[int, int]]

    def share(self, *, new: bool) -> float:
        """Of the new word, or of all that were known before."""
        counts = [pair for name, pair in self.commands.items() if (name == NEW) == new]
        return sum(right for right, _ in counts) / max(1, sum(every for _, every in counts))


def exam(answers: Iterable[Answer]) -> Exam:
    """Of answers to one round of recordings."""
    counts: dict[str, tuple[int, int]] = {}
    versions = set()
    for one in answers:
        right, every = counts.get(one.wanted, (0, 0))
        counts[one.wanted] = right + one.right, every + 1
        versions.add(one.version)
    return Exam(tuple(sorted(versions)), counts)


@dataclass(slots=True)
class Story:
    """All that a demonstration saw. Times are seconds since 1970."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    corrected: list[float] = field(default_factory=list)  # when a correction was taken
    servers: list[set[int]] = field(default_factory=list)  # process ids of the servers, before and after

    @property
    def begin_s(self) -> float:
        return self.answers[0].at_s if self.answers else 0.0

    def changes(self) -> list[tuple[float, int]]:
        """When a version was first heard of, and its number."""
        found: dict[int, float] = {}
        for one in sorted(self.answers, key=lambda one: one.at_s):
            if one.version:
                found.setdefault(one.version, one.at_s)
        return [(at_s, version) for version, at_s in found.items()]

    def curve(self, *, new: bool, every_s: float) -> list[tuple[float, float]]:
        """Share of right answers by stretches of time: (middle in seconds since the begin, share)."""
        return shares([one for one in self.answers if (one.wanted == NEW) == new], self.begin_s, every_s)


def shares(answers: Sequence[Answer], begin_s: float, every_s: float) -> list[tuple[float, float]]:
    """Stretches without an answer are left out."""
    cells: dict[int, list[bool]] = {}
    for one in answers:
        cells.setdefault(int((one.at_s - begin_s) / every_s), []).append(one.right)
    return [((cell + 0.5) * every_s, sum(right) / len(right)) for cell, right in sorted(cells.items())]
