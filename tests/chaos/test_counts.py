"""The number of workers shows in no bit: not from the start, not after a resumption, not where there is no tide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from storms import SCRIPT, STEPS

from running import Running, leftovers, of_home, strike, wait_until

SLOW = pytest.mark.slow
LONG_ENOUGH = 600  # steps: to be killed in the middle


def each(quick: tuple[object, ...], slow: tuple[object, ...]) -> list[Any]:
    return [*quick, *(pytest.param(one, marks=SLOW) for one in slow)]


@pytest.mark.parametrize("workers", each((3,), (1, 2, 4, 5, 8)))
def test_any_number_of_workers_gives_the_same_bits(workers: int, home: Path, undisturbed: Callable[..., str]) -> None:
    model = ("words", "pictures", "uneven")[workers % 3]
    run = Running(SCRIPT, model, STEPS, home=home, workers=str(workers))
    report = run.finish()
    assert report["digest"] == undisturbed(SCRIPT, model, STEPS), run.story()
    assert (report["samples_lost"], report["samples_twice"]) == (0, 0)
    assert {event["workers"] for event in run.of("step")} <= set(range(1, workers + 1))


@pytest.mark.parametrize("model", each((), ("pictures", "words", "uneven")))
def test_a_checkpoint_of_three_workers_goes_on_with_two(
    model: str, home: Path, undisturbed: Callable[..., str]
) -> None:
    options = ("--every", "20steps")
    three = Running(SCRIPT, model, LONG_ENOUGH, home=home, workers="3", options=options)
    three.until_step(three.until("checkpoint")["step"] + 15)
    strike([three.process.pid, *of_home(home)])
    wait_until(lambda: not of_home(home), "the end of all processes")
    three.process.wait()
    assert leftovers(home) == [str(home / "runs/run/control.sock")]

    two = Running(SCRIPT, model, LONG_ENOUGH, home=home, workers="2", options=options)
    began = two.until("start")["resumed_step"]
    assert 0 < began < LONG_ENOUGH
    assert "going on from" in two.warnings() and f"step-{began:08d}" in two.warnings()
    report = two.finish()
    assert (report["state"], report["digest"]) == ("done", undisturbed(SCRIPT, model, LONG_ENOUGH)), two.story()
    assert (report["samples_lost"], report["samples_twice"]) == (0, 0)
    assert [event["step"] for event in two.of("step")] == list(range(began + 1, LONG_ENOUGH + 1))

    again = Running(SCRIPT, model, LONG_ENOUGH, home=home, workers="2", options=options)
    assert again.until("start")["resumed_step"] == 0, "a finished run is never resumed"
    again.ask(do="stop")
    assert again.finish()["state"] == "stopped"
