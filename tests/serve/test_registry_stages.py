"""Stages: at most one production and one previous, whatever is done; the history replays to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from a_registry import scale, unchecked
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.serve.registry import Registry, Stage
from springtide.serve.registry.stages import Moves, Stages, applied, archived, promoted, rolled_back, undone
from springtide.spec.errors import Refused, UserError

C, P, V, A = Stage.CANDIDATE, Stage.PRODUCTION, Stage.PREVIOUS, Stage.ARCHIVED
BLOWS = st.tuples(st.sampled_from(("promote", "rollback", "archive", "undo")), st.integers(1, 5))


def _moves(stages: Stages, action: str, number: int, last: Moves) -> Moves:
    match action:
        case "promote":
            return promoted(stages, number)
        case "rollback":
            return rolled_back(stages, "m")
        case "archive":
            return archived(stages, "m", number)
        case _:
            return undone(last)


@given(st.lists(BLOWS, max_size=30))
def test_there_is_one_production_and_one_previous_at_most(blows: list[tuple[str, int]]) -> None:
    stages: dict[int, Stage] = dict.fromkeys(range(1, 6), C)
    last: Moves = ()
    for action, number in blows:
        try:
            moves = _moves(stages, action, number, last)
        except Refused:
            continue
        before, stages = stages, applied(stages, moves)
        assert list(stages.values()).count(P) <= 1 and list(stages.values()).count(V) <= 1
        assert applied(stages, undone(moves)) == before
        if action == "promote":
            assert stages[number] is P
        if P in before.values():
            assert P in stages.values() or action == "undo"  # nothing but an undone first promotion ends it
        last = moves if action != "undo" else ()


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [
        ((C, C, C), 1, (P, C, C)),
        ((P, C, C), 2, (V, P, C)),
        ((V, P, C), 3, (A, V, P)),
        ((A, V, P), 2, (A, P, V)),
        ((A, V, P), 1, (P, A, V)),
        ((A, V, P), 3, (A, V, P)),
    ],
)
def test_what_a_promotion_does(before: tuple[Stage, ...], number: int, after: tuple[Stage, ...]) -> None:
    stages = dict(enumerate(before, 1))
    assert tuple(applied(stages, promoted(stages, number)).values()) == after


def test_a_rollback_can_be_rolled_back() -> None:
    stages = {1: V, 2: P}
    back = applied(stages, rolled_back(stages, "m"))
    assert back == {1: P, 2: V}
    assert applied(back, rolled_back(back, "m")) == stages


def test_moves_of_another_time_are_refused() -> None:
    with pytest.raises(UserError, match="version 1 is archived, and not candidate"):
        applied({1: A}, promoted({1: C}, 1))


@settings(max_examples=15, deadline=None)
@given(st.lists(BLOWS, max_size=12))
def test_the_history_that_is_kept_replays_to_the_stages(
    tmp_path_factory: pytest.TempPathFactory, blows: list[tuple[str, int]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("history")
    registry = Registry.open(folder / "models")
    with unchecked():
        for value in range(5):
            scale(registry, folder, float(value))
    last = None
    for action, number in blows:
        try:
            match action:
                case "promote":
                    last = registry.promote("scale", number, by="ada", force=True)
                case "rollback":
                    last = registry.rollback("scale", by="ada")
                case "archive":
                    registry.archive("scale", number, by="ada")
                case _ if last is not None:
                    registry.undo(last, by="ada", why="it cannot be loaded")
        except (Refused, UserError):
            continue
    stages: dict[int, Stage] = {}
    for change in registry.changes("scale"):
        stages = applied(stages, change.moves)
    assert stages == {one.number: one.stage for one in registry.versions("scale")}
