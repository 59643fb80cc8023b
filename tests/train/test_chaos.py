"""When a blow of `--chaos` is due, and whom it hits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from springtide.spec.quantities import Blow
from springtide.train.chaos import Chaos, Target


def chaos(*blows: Blow, seed: int = 0) -> tuple[Chaos, list[str], list[int]]:
    told: list[str] = []
    sizes: list[int] = []
    return Chaos(blows, seed, sizes.append, told.append), told, sizes


def test_a_blow_at_a_step_comes_once_and_late_rather_than_never() -> None:
    storm, _, _ = chaos(blow := Blow("kill", 1, at_step=40))
    assert [storm.due(step, 0.0) for step in (39, 43, 44)] == [[], [blow], []]


def test_a_blow_every_so_many_seconds_counts_from_the_last() -> None:
    storm, _, _ = chaos(blow := Blow("kill", 1, every_seconds=2.0))
    assert [storm.due(1, now) for now in (10.0, 11.9, 12.5, 14.0, 14.5)] == [[], [], [blow], [], [blow]]


def test_a_blow_every_so_many_steps_counts_from_the_first_look() -> None:
    storm, _, _ = chaos(blow := Blow("stop", 1, every_steps=10))
    assert [storm.due(step, 0.0) for step in (5, 14, 15, 20, 25)] == [[], [], [blow], [], [blow]]


@pytest.mark.parametrize(("blow", "wanted"), [(Blow("join", 2, at_step=1), 5), (Blow("leave", 7, at_step=1), 1)])
def test_joins_and_leaves_are_wishes_for_a_size_and_one_stays(blow: Blow, wanted: int) -> None:
    storm, told, sizes = chaos(blow)
    storm.strike(blow, Target({}, 0, wanted=3))
    assert (sizes, told) == ([wanted], [f"resize to {wanted}"])


@pytest.fixture
def victims() -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    code = "import signal; signal.pause()"
    found = {row: subprocess.Popen([sys.executable, "-c", code]) for row in (0, 2, 5)}
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def test_as_many_are_killed_as_was_asked_and_the_seed_says_who(victims: dict[int, subprocess.Popen[bytes]]) -> None:
    blow = Blow("kill", 2, at_step=1)
    storm, told, _ = chaos(blow, seed=4)
    target = Target({row: process.pid for row, process in victims.items()}, 0, 3)
    storm.strike(blow, target)
    hit = {row for row, process in victims.items() if f"kill worker {row} (pid {process.pid})" in told}
    assert len(hit) == len(told) == 2
    assert all(victims[row].wait(10) == -9 for row in hit)
    assert all(victims[row].poll() is None for row in victims.keys() - hit)
    again, said, _ = chaos(blow, seed=4)
    again.strike(blow, target)  # the dead are hit once more: no error
    assert said == told


def test_a_supervisor_that_is_away_is_not_struck() -> None:
    storm, told, _ = chaos(blow := Blow("supervisor", 1, at_step=1))
    storm.strike(blow, Target({}, 0, 1))
    assert told == []
