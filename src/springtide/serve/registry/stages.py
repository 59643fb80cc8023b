"""Which version of a model is production, and what becomes of the others when that changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from springtide.spec.errors import Refused, UserError


class Stage(StrEnum):
    """Where a version is in its life; at most one is production, and at most one previous."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    PREVIOUS = "previous"
    ARCHIVED = "archived"


Stages = Mapping[int, Stage]


@dataclass(frozen=True, slots=True)
class Move:
    """One version goes from a stage to another; `before` None: it is new."""

    number: int
    before: Stage | None
    after: Stage


Moves = tuple[Move, ...]


def holder(stages: Stages, stage: Stage) -> int | None:
    """The number of the one version in that stage (production or previous)."""
    return next((number for number, held in stages.items() if held is stage), None)


def promoted(stages: Stages, number: int) -> Moves:
    """Production becomes previous, previous is archived, the version becomes production; nothing if it is already."""
    if stages[number] is Stage.PRODUCTION:
        return ()
    moves = [Move(number, stages[number], Stage.PRODUCTION)]
    if (old := holder(stages, Stage.PRODUCTION)) is not None:
        moves.append(Move(old, Stage.PRODUCTION, Stage.PREVIOUS))
        if (older := holder(stages, Stage.PREVIOUS)) not in (None, number):
            assert older is not None
            moves.append(Move(older, Stage.PREVIOUS, Stage.ARCHIVED))
    return tuple(moves)


def rolled_back(stages: Stages, name: str) -> Moves:
    """Previous becomes production, and production previous, so this can be rolled back too. Refused: there is none."""
    if (number := holder(stages, Stage.PREVIOUS)) is None:
        raise Refused(f"{name} has no previous version to go back to; `tide model ls {name}` shows what there is")
    return promoted(stages, number)


def archived(stages: Stages, name: str, number: int) -> Moves:
    """The version is set aside. Refused: it serves."""
    match stages[number]:
        case Stage.PRODUCTION:
            raise Refused(f"version {number} of {name} is production; promote another one first")
        case Stage.ARCHIVED:
            return ()
        case stage:
            return (Move(number, stage, Stage.ARCHIVED),)


def undone(moves: Moves) -> Moves:
    """What takes them back."""
    return tuple(Move(one.number, one.after, one.before) for one in moves if one.before is not None)


def applied(stages: Stages, moves: Iterable[Move]) -> dict[int, Stage]:
    """The stages afterwards. UserError: a move begins where its version is not."""
    after = dict(stages)
    for move in moves:
        if stages.get(move.number) is not move.before:
            now = stages.get(move.number, "not there")
            raise UserError(f"version {move.number} is {now}, and not {move.before or 'new'}; look at it again")
        after[move.number] = move.after
    return after
