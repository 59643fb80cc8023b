"""The model check: nothing torn is read, commits are unique, nobody waits for ever; and deliberate mistakes are found.

The walk itself is in `model`, which calls the functions of `protocol` and `membership` as they are.
"""

from __future__ import annotations

import pytest

from train.model.configurations import QUICK, SLOW
from train.model.explore import Broken, Move, Walk, explore
from train.model.mutations import MUTATIONS
from train.model.play import check
from train.model.world import Setup


def _walked(setup: Setup, least: int) -> Walk:
    walk = check(setup)
    print(f"{walk.states:,} states, {walk.moves:,} moves, {walk.ends:,} ends")
    assert walk.states >= least, f"{walk.states} states where at least {least} are expected: what has the model lost?"
    assert walk.ends > 0
    return walk


@pytest.mark.parametrize("name", QUICK)
def test_every_interleaving_keeps_the_laws(name: str) -> None:
    _walked(*QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_interleaving_of_a_larger_world_keeps_the_laws(name: str) -> None:
    _walked(*SLOW[name])


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_deliberate_mistake_is_found(name: str) -> None:
    rules, setup = MUTATIONS[name]
    with pytest.raises(Broken) as found:
        check(setup, rules)
    assert found.value.why
    assert 0 < len(found.value.story) < 100, "a story that nobody reads"
    print(f"{name}: {found.value}")


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_finds_a_mistake_finds_nothing_without_it(name: str) -> None:
    _, setup = MUTATIONS[name]
    if (setup.words and setup.steps > 1) or setup.breaks or setup.supervisor_kills:
        pytest.skip("walked to its end among the large configurations")
    assert check(setup).states > 10


def test_a_circle_without_progress_is_found() -> None:
    with pytest.raises(Broken, match="in circles"):
        explore(0, lambda state: [Move("it", "turns", (state + 1) % 3)], lambda state: "")


def test_somebody_who_waits_for_ever_is_found() -> None:
    with pytest.raises(Broken, match="stuck"):
        explore(0, lambda state: [Move("it", "goes", state + 1)] if state < 3 else [], lambda state: "stuck at 3")
