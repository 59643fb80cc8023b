"""How a run ends, or does not: signals to `tide run`, its death, stopping, and what the next start finds."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from running import FAULTS, Running, of_home, strike, tide, wait_until

STEPS = 2000


@pytest.fixture
def bits(undisturbed: Callable[..., str]) -> str:
    return undisturbed(FAULTS, "none", STEPS)


def start(home: Path, fault: str = "none", workers: str = "1:2", steps: int = STEPS, every: str = "50steps") -> Running:
    return Running(FAULTS, fault, steps, home, home=home, workers=workers, options=("--every", every))


@pytest.mark.slow
def test_an_interrupt_keeps_a_checkpoint_from_which_the_same_command_goes_on(home: Path, bits: str) -> None:
    run = start(home)
    run.until_step(30)
    run.process.send_signal(signal.SIGINT)
    report = run.finish()
    assert (report["exit"], report["state"]) == (130, "interrupted"), run.story()
    again = start(home)
    assert again.until("start")["resumed_step"] == report["steps"] == run.step
    assert (again.finish()["digest"], again.step) == (bits, STEPS)


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once(home: Path, bits: str) -> None:
    run = start(home, "sleep")
    run.until_step(19)
    run.process.send_signal(signal.SIGINT)
    run.until("warning")
    run.process.send_signal(signal.SIGINT)
    assert run.finish()["exit"] == 130
    again = start(home)
    assert again.finish()["digest"] == bits


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_same_command(home: Path, bits: str) -> None:
    run = start(home)
    run.until_step(30)
    assert tide("stop", "run", home=home).returncode == 0
    report = run.finish()
    assert (report["exit"], report["state"]) == (0, "stopped")
    assert "after the loop" not in "\n".join(event["line"] for event in run.of("output"))
    again = start(home, workers="3")
    assert again.until("start")["resumed_step"] == report["steps"]
    assert again.finish()["digest"] == bits


@pytest.mark.slow
def test_a_job_whose_tide_run_was_killed_keeps_a_checkpoint_and_ends(home: Path, bits: str) -> None:
    run = start(home, every="1h")
    run.until_step(30)
    strike(run.process.pid)
    run.process.wait()
    wait_until(lambda: not of_home(home), "the end of all processes")
    rows = tide("ps", home=home).stdout
    assert "interrupted" in rows
    again = start(home)
    assert again.until("start")["resumed_step"] >= 30
    assert again.finish()["digest"] == bits


@pytest.mark.slow
def test_without_tide_run_and_supervisor_workers_and_nursery_end_by_themselves(home: Path) -> None:
    run = start(home, steps=10_000_000)
    run.until_step(10)
    strike([run.process.pid, run.cast().supervisor])
    run.process.wait()
    wait_until(lambda: not of_home(home), "the end of all processes")
    again = start(home, steps=400)
    assert again.finish()["exit"] == 0


def test_what_follows_the_loop_runs_once_and_again_where_its_worker_is_killed(
    home: Path, undisturbed: Callable[..., str]
) -> None:
    run = start(home, "after", steps=400)
    told = [run.until("output", line="at step 400")]
    for event in run.told():
        if event["event"] == "output" and event["line"].startswith("after the loop"):
            told.append(event)
            if len(told) == 2:
                strike(int(event["line"].rpartition(" ")[2]))
    report = run.finish()
    assert (report["exit"], report["digest"]) == (0, undisturbed(FAULTS, "none", 400)), run.story()
    lines = [event["line"] for event in run.of("output")]
    assert len([line for line in lines if line.startswith("after the loop")]) == 2
    assert lines.count("the end") == 1 and lines[-1] == "the end"


@pytest.mark.slow
def test_what_the_script_prints_is_shown_once(home: Path) -> None:
    run = start(home, steps=60, workers="3")
    run.until_step(20)
    strike(run.cast().nursery)
    assert run.finish()["exit"] == 0
    lines = [event["line"] for event in run.of("output")]
    assert lines.count("before the loop") == 1
    assert [line for line in lines if line.startswith("at step")] == [f"at step {n}" for n in range(10, 61, 10)]
    assert len([line for line in lines if line.startswith("after the loop")]) == 1
    assert lines.count("the end") == 1


@pytest.mark.slow
def test_workers_keep_to_the_script_as_it_was_at_the_start(home: Path, bits: str) -> None:
    script = home / "mine.py"
    for source in (FAULTS, FAULTS.with_name("no_compiler.py")):
        (home / source.name).write_text(source.read_text())
    (home / FAULTS.name).rename(script)
    run = Running(script, "none", STEPS, home, home=home, workers="2")
    run.until_step(10)
    script.write_text("raise SystemExit('edited')\n")
    cast = run.cast()
    strike([cast.nursery, *cast.workers])
    assert run.finish()["digest"] == bits, run.story()


@pytest.mark.slow
def test_a_run_killed_whole_before_its_first_checkpoint_begins_anew(home: Path, bits: str) -> None:
    run = start(home, every="1h")
    run.until_step(30)
    strike([run.process.pid, *of_home(home)])
    run.process.wait()
    again = start(home)
    assert again.until("start")["resumed_step"] == 0
    assert again.finish()["digest"] == bits


@pytest.mark.slow
def test_of_two_runs_of_one_name_at_the_same_moment_one_is_refused(home: Path) -> None:
    first, second = (Running(FAULTS, "none", 300, home, home=home) for _ in range(2))
    ends = sorted((first.process.wait(), second.process.wait()))
    assert ends == [0, 4]
    assert "is alive" in first.errors


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no run", "no loop"])
def test_a_script_that_trains_nothing_gets_one_sentence(fault: str, home: Path) -> None:
    run = start(home, fault)
    assert run.finish()["exit"] == 2
    assert "Traceback" not in run.errors and "faults.py" in run.errors and "train.Run" in run.errors


@pytest.mark.slow
def test_a_break_ends_the_run_for_all_with_the_last_committed_step(home: Path) -> None:
    run = start(home, "break", workers="2")
    report = run.finish()
    assert (report["exit"], report["state"], report["steps"]) == (0, "done", 19), run.story()
    assert [event["line"] for event in run.of("output")][-1] == "the end"
