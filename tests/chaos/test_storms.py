"""Whatever is killed, stopped, added or taken away, and whenever: the bits of an undisturbed run, each sample once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from storms import SCRIPT, STEPS, Storm, blow_through, storm

from running import Running

QUICK, SLOW, LONG = range(20), range(100, 160), range(1000, 2000)


def _each(seeds: range) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seed", seeds, ids=lambda seed: f"storm-{seed}-{storm(seed).model}")


@_each(QUICK)
def test_a_storm_changes_no_bit(seed: int, home: Path, undisturbed: Callable[..., str]) -> None:
    weather(storm(seed, nurseries=int(seed % 4 == 0)), home, undisturbed)


@pytest.mark.slow
@_each(SLOW)
def test_sixty_storms_change_no_bit(seed: int, home: Path, undisturbed: Callable[..., str]) -> None:
    weather(storm(seed), home, undisturbed)


@pytest.mark.long
@_each(LONG)
def test_a_thousand_storms_change_no_bit(seed: int, home: Path, undisturbed: Callable[..., str]) -> None:
    weather(storm(seed), home, undisturbed)


def weather(plan: Storm, home: Path, undisturbed: Callable[..., str]) -> None:
    """One schedule, from the start of a run to its end."""
    run = Running(SCRIPT, plan.model, STEPS, home=home, workers=plan.workers, options=plan.options)
    blows: list[str] = []
    try:
        blows = blow_through(plan, run)
        report = run.finish()
        told = [event["step"] for event in run.of("step")]
        counted = {
            key: report.get(key) for key in ("exit", "state", "steps", "samples_lost", "samples_twice", "digest")
        }
        assert counted == {
            "exit": 0, "state": "done", "steps": STEPS, "samples_lost": 0, "samples_twice": 0,
            "digest": undisturbed(SCRIPT, plan.model, STEPS),
        }  # fmt: skip
        assert told == list(range(1, STEPS + 1))
        assert blows
    except AssertionError as error:
        struck = "\n".join(blows)
        raise AssertionError(f"seed {plan.seed}; again: {plan.repeat}\n{struck}\n{run.story()}\n{error}") from None
    finally:
        run.end()
