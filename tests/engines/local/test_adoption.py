"""The pool is killed at any instant: the next engine finds all that runs, starts nothing twice, and loses no end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import running
from engines.local.jobs import Seen, a_task, places
from springtide.engines.engine import Task
from springtide.engines.local import logs, spawn
from springtide.engines.local.engine import LocalEngine

OTHER = """
import json, sys
home, path, name, code, replicas = json.loads(sys.argv[1])
sys.path[:0] = path
from pathlib import Path
from engines.local.jobs import a_task, places
from springtide.engines.local import logs
from springtide.engines.local.engine import LocalEngine
engine = LocalEngine(Path(home))
engine.start(a_task(name, code=code), places(*replicas))
print("started", flush=True)
while True:
    engine.wait(1.0); engine.observe()
"""


class Other:
    """An engine in a process of its own, that can be killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._processes: list[subprocess.Popen[str]] = []

    def run(self, task: Task, *replicas: str, heard: bool = True) -> subprocess.Popen[str]:
        told = json.dumps([str(self.home), sys.path, task.job.name, task.job.command[2], replicas])
        child = subprocess.Popen([sys.executable, "-c", OTHER, told], stdout=subprocess.PIPE, text=True)
        self._processes.append(child)
        if heard:
            assert child.stdout is not None
            assert child.stdout.readline() == "started\n"
        return child

    def kill(self) -> None:
        while self._processes:
            child = self._processes.pop()
            child.kill()
            child.communicate()


@pytest.fixture
def other(place: Path) -> Iterator[Other]:
    found = Other(place)
    yield found
    found.kill()


@pytest.fixture
def seen(place: Path, other: Other) -> Iterator[Seen]:
    """The second engine: it is made when it is first asked for anything."""
    made = Seen.__new__(Seen)
    made.notices = []
    yield made
    engine = getattr(made, "engine", None) or LocalEngine(place)
    for job in list(engine._jobs):
        engine.forget(job)

    def nobody() -> bool:
        engine.wait(0.02)
        return not engine._jobs

    running.wait_until(nobody, "all jobs are gone")
    engine.close()


def test_what_ended_while_nobody_looked_is_told_with_its_exit_code(seen: Seen, other: Other, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    task = a_task("late", code=f"open({str(go)!r}).read(); print('late'); raise SystemExit(7)")
    other.run(task, "r1")
    other.kill()
    with go.open("w"):
        pass
    running.wait_until(lambda: not _shims(other.home), "its shim has ended")
    seen.engine = LocalEngine(other.home)
    end = seen.ended(task, "r1").exit
    assert (end.code, end.tail) == (7, ("late",))


def test_what_runs_is_adopted_and_nothing_is_started_twice(seen: Seen, other: Other, tmp_path: Path) -> None:
    once = tmp_path / "once"
    task = a_task("long", code=f"open({str(once)!r}, 'a').write('x'); import time; time.sleep(1000)")
    other.run(task, "r1", "r2")
    running.wait_until(lambda: once.exists() and once.read_text() == "xx", "both run")
    other.kill()
    seen.engine = LocalEngine(other.home)
    pids = seen.running(task, "r1", "r2")
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    seen.engine.start(task, places("r1", "r2", "r3"))
    seen.running(task, "r3")
    running.wait_until(lambda: once.read_text() == "xxx", "the third runs")
    seen.engine.stop(task.id, ["r1"], 10)
    assert seen.ended(task, "r1").exit.asked
    assert seen.running(task, "r2") == [pids[1]]


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_an_engine_killed_while_it_starts_something_starts_it_once(
    seen: Seen, other: Other, tmp_path: Path, delay_s: float
) -> None:
    once = tmp_path / "once"
    task = a_task("once", code=f"open({str(once)!r}, 'a').write('x')")
    child = other.run(task, "r1", heard=False)
    running.wait_until(lambda: (other.home / "pool" / "jobs" / task.id).exists() or child.poll() is not None, "begun")
    try:
        child.wait(delay_s)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
    other.kill()
    seen.engine = LocalEngine(other.home)
    seen.engine.start(task, places("r1"))
    assert seen.ended(task, "r1").exit.good
    assert once.read_text() == "x"


def test_server_and_shim_killed_together_leave_replicas_that_are_adopted(seen: Seen, other: Other) -> None:
    task = a_task("orphan", code="import time\nfor n in range(10**6): print(n, flush=True); time.sleep(0.05)")
    other.run(task, "r1")
    running.wait_until(lambda: bool(logs.tail(other.home / "pool" / "logs" / task.id, "r1", 1)), "it speaks")
    other.kill()
    running.strike(_shims(other.home))
    running.wait_until(lambda: not _shims(other.home), "its shim is dead")
    seen.engine = LocalEngine(other.home)
    (pid,) = seen.running(task, "r1")
    log = other.home / "pool" / "logs" / task.id / "r1.log"
    size = log.stat().st_size
    seen.until(task, lambda _: log.stat().st_size > size, "its words are heard again")
    running.strike(pid)
    assert seen.ended(task, "r1").exit.cause == "ended while its parent was being replaced; how is not known"


def test_work_that_was_done_while_its_parent_was_dead_is_known_to_be_done(
    seen: Seen, other: Other, tmp_path: Path
) -> None:
    begun, go, once = tmp_path / "begun", tmp_path / "go", tmp_path / "once"
    os.mkfifo(go)
    does = f"open({str(begun)!r}, 'w').close(); open({str(go)!r}).read(); open({str(once)!r}, 'a').write('x')"
    task = a_task("witnessed", code=does)
    other.run(task, "r1")
    running.wait_until(begun.exists, "it has begun")
    other.kill()
    running.strike(_shims(other.home))
    running.wait_until(lambda: not _shims(other.home), "its shim is dead")
    with go.open("w"):
        pass
    running.wait_until(once.exists, "its work is done")
    seen.engine = LocalEngine(other.home)
    assert seen.ended(task, "r1").exit.good
    seen.engine.start(task, places("r1"))
    assert once.read_text() == "x"


def test_a_program_that_is_killed_by_a_signal_is_told_as_that(seen: Seen, place: Path) -> None:
    seen.engine = LocalEngine(place)
    task = a_task("signalled", code="import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert (end.code, end.cause) == (None, "was killed by SIGTERM")


def _shims(home: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                witness = (entry / "comm").read_text().strip() == spawn.WITNESS
            except OSError:
                continue
            if b"springtide.engines.local.shim" in words and str(home) in str(words) and not witness:
                found.append(int(entry.name))
    return found
