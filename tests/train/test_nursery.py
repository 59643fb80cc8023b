"""The nursery: forks from it, its death, and runs that must do without one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from running import FAULTS, Running, strike, wait_until

STEPS = 400


@pytest.fixture
def bits(undisturbed: Callable[..., str]) -> str:
    return undisturbed(FAULTS, "none", STEPS)


def run_of(fault: str, home: Path, *more: object, workers: str = "2") -> Running:
    return Running(FAULTS, fault, STEPS, home, *more, home=home, workers=workers)


@pytest.mark.slow
def test_a_script_that_leaves_threads_running_gets_cold_workers_with_the_same_bits(home: Path, bits: str) -> None:
    run = run_of("thread", home)
    report = run.finish()
    assert (report["exit"], report["digest"]) == (0, bits), run.story()
    assert "workers start cold" in run.warnings() and "1 threads running" in run.warnings()
    lines = [event["line"] for event in run.of("output")]
    # A cold worker reads the script itself; where it becomes the main one as it is first heard, it is heard whole.
    assert lines.count("before the loop") in (1, 2)
    assert "at step 400" in lines and lines[-1] == "the end"


@pytest.mark.slow
def test_cold_workers_that_are_killed_are_replaced(home: Path, bits: str) -> None:
    run = run_of("thread", home)
    run.until_step(10)
    strike(run.cast().workers)
    assert run.finish()["digest"] == bits, run.story()


@pytest.mark.slow
def test_a_supervisor_killed_among_cold_workers_is_replaced(home: Path, bits: str) -> None:
    run = run_of("thread", home)
    run.until_step(10)
    strike(run.cast().supervisor)
    run.until("supervisor", what="adopted")
    strike(run.cast().workers)
    assert run.finish()["digest"] == bits, run.story()


@pytest.mark.slow
def test_a_cold_worker_with_other_data_does_not_join(home: Path) -> None:
    run = run_of("unseeded split", home, "cold")
    report = run.finish()
    assert report["exit"] == 2, run.story()
    assert "dataset" in report["message"] and "seed" in report["message"]


@pytest.mark.slow
def test_a_stopped_nursery_is_replaced_when_a_worker_is_wanted(home: Path, bits: str) -> None:
    run = run_of("none", home)
    run.until_step(10)
    cast = run.cast()
    strike(cast.nursery, signal.SIGSTOP)
    strike(cast.workers)
    assert run.finish()["digest"] == bits, run.story()


@pytest.mark.slow
@pytest.mark.parametrize("after_seconds", [0.3, 3.0, 5.0])
def test_a_nursery_killed_while_the_run_begins_is_replaced(after_seconds: float, home: Path, bits: str) -> None:
    run = run_of("none", home)
    wait_until(lambda: bool((run.folder / "run.json").exists() and run.cast().nursery), "a nursery")
    time.sleep(after_seconds)
    strike(run.cast().nursery)
    assert run.finish()["digest"] == bits, run.story()
