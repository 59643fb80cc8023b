"""What goes wrong in workers, and what the supervisor makes of it: real runs of a script with a fault."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running import FAULTS, TIDE, Event, Running, strike, wait_until

STEPS = 400


@pytest.fixture
def bits(undisturbed: Callable[..., str]) -> str:
    """The digest of the script without a fault."""
    return undisturbed(FAULTS, "none", STEPS)


def run_of(fault: str, home: Path, steps: int = STEPS, workers: str = "2") -> Running:
    return Running(FAULTS, fault, steps, home, home=home, workers=workers)


def causes(run: Running) -> str:
    return "\n".join(event["cause"] for event in run.of("generation"))


def in_peace(report: Event, bits: str) -> bool:
    return (report["exit"], report["digest"], report["samples_lost"], report["samples_twice"]) == (0, bits, 0, 0)


def test_an_exception_that_happens_once_is_told_and_the_run_goes_on(home: Path, bits: str) -> None:
    run = run_of("raise once", home)
    assert in_peace(run.finish(), bits), run.story()
    (error,) = run.of("error")
    assert error["step"] == 20 and error["microbatch"] == 1 and len(error["samples"]) == 4
    assert 'raise ValueError("a label is wrong once")' in error["traceback"]
    assert "springtide" not in error["traceback"]
    assert "ValueError: a label is wrong once" in causes(run)


def test_an_exception_at_the_same_microbatch_for_the_third_time_ends_the_run(home: Path) -> None:
    run = run_of("raise", home)
    report = run.finish()
    assert (report["exit"], report["state"], report["digest"]) == (1, "failed", None)
    assert len(run.of("error")) == 3
    assert "failed 3 times at step 20, microbatch 1" in report["message"]
    assert "faults.py:" in report["message"] and "a label is wrong" in report["message"]
    assert run.step == 19


@pytest.mark.slow
def test_a_worker_that_leaves_by_itself_is_named_with_its_exit_code(home: Path, bits: str) -> None:
    run = run_of("exit", home)
    assert in_peace(run.finish(), bits), run.story()
    assert "ended with exit code 7" in causes(run)


@pytest.mark.slow
def test_a_worker_in_one_long_call_is_not_taken_for_hung(home: Path, bits: str) -> None:
    run = run_of("busy", home)
    assert in_peace(run.finish(), bits), run.story()
    assert "killed" not in causes(run) and "hung" not in causes(run) and "stopped" not in causes(run)


@pytest.mark.slow
def test_a_loop_body_beyond_its_deadline_is_killed(home: Path, bits: str) -> None:
    run = run_of("sleep", home)
    assert in_peace(run.finish(), bits), run.story()
    assert "at one microbatch (limit 2 s)" in causes(run)


@pytest.mark.slow
def test_a_worker_that_holds_the_interpreter_and_does_nothing_is_killed(home: Path, bits: str) -> None:
    run = run_of("frozen", home)
    assert in_peace(run.finish(), bits), run.story()
    assert "hung: no heartbeat" in causes(run)


@pytest.mark.slow
def test_a_stopped_worker_is_killed_and_named_as_stopped(home: Path, bits: str) -> None:
    run = run_of("none", home)
    run.until_step(5)
    strike(next(iter(run.cast().working.values())), signal.SIGSTOP)
    assert in_peace(run.finish(), bits), run.story()
    assert "was stopped (no heartbeat for" in causes(run)


@pytest.mark.slow
def test_a_stopped_supervisor_is_replaced(home: Path, bits: str) -> None:
    run = run_of("none", home, steps=STEPS)
    run.until_step(5)
    before = run.cast().supervisor
    strike(before, signal.SIGSTOP)
    assert run.until("supervisor", what="lost")["pid"] == before
    assert run.until("supervisor", what="adopted")["pid"] != before
    assert in_peace(run.finish(), bits), run.story()


@pytest.mark.slow
def test_a_supervisor_killed_again_and_again_is_no_reason_to_end(home: Path, undisturbed: Callable[..., str]) -> None:
    run = run_of("none", home, steps=3000)
    for _ in range(6):
        if run.until_step(run.step + 10):
            strike(run.cast().supervisor)
            next((event for event in run.told() if event.get("what") == "adopted"), None)
    assert len([event for event in run.of("supervisor") if event["what"] == "lost"]) > 3
    assert in_peace(run.finish(), undisturbed(FAULTS, "none", 3000)), run.story()


@pytest.mark.slow
@pytest.mark.parametrize("after_seconds", [1.5, 5.5])
def test_a_supervisor_killed_while_the_run_begins_is_replaced(after_seconds: float, home: Path, bits: str) -> None:
    run = run_of("none", home)
    wait_until(lambda: (home / "runs/run/supervisor.json").exists(), "a supervisor")
    time.sleep(after_seconds)
    strike(run.cast().supervisor)
    assert in_peace(run.finish(), bits), run.story()


# --- memory


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory control group of one's own, of version 1 or 2."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        place = Path(root) / f"tide-test-{secrets.token_hex(4)}"
        try:
            place.mkdir()
        except OSError:
            continue
        if (place / limit).exists():
            yield place
            _empty(place)
            return
        place.rmdir()
    pytest.skip("no memory control group can be made here (as root, with a writable /sys/fs/cgroup, it could)")


def _empty(place: Path) -> None:
    members = place / "cgroup.procs"
    strike([int(pid) for pid in members.read_text().split()])
    wait_until(lambda: not members.read_text(), "an empty control group")
    place.rmdir()


def limited(group: Path, size_bytes: int) -> tuple[object, ...]:
    """The beginning of a command that runs within that much memory."""
    name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
    (group / name).write_text(str(size_bytes))
    return "sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", TIDE


@pytest.mark.slow
def test_a_worker_killed_for_memory_is_named_as_that(group: Path, home: Path, bits: str) -> None:
    run = Running(FAULTS, "memory", STEPS, home, home=home, workers="2", command=limited(group, 2 << 30))
    assert in_peace(run.finish(), bits), run.story()
    assert "was killed by the kernel: out of memory" in causes(run)


@pytest.mark.slow
def test_an_arena_that_does_not_fit_is_refused_with_the_numbers(group: Path, home: Path) -> None:
    run = Running(FAULTS, "large", STEPS, home, home=home, workers="2", command=limited(group, 1_400_000_000))
    report = run.finish()
    assert report["exit"] == 1, run.story()
    assert "the arena needs" in run.errors and "GB are free" in run.errors and "Traceback" not in run.errors
