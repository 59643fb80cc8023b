"""Where there are no control groups: by rlimits, niceness and a mark in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import running
from engines.local.jobs import Seen, a_task, of_engine, places
from springtide.engines.local.engine import LocalEngine
from springtide.spec.resources import Resources


@pytest.fixture
def seen(place: Path) -> Iterator[Seen]:
    found = Seen(LocalEngine(place, grouped=False))
    yield found
    for job in list(found.engine._jobs):
        found.engine.forget(job)
    running.wait_until(lambda: found.engine.wait(0.02) or not found.engine._jobs, "all jobs are gone")
    found.engine.close()


def test_what_a_replica_leaves_running_ends_with_it(seen: Seen) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    task = a_task("leaver", code=code)
    seen.engine.start(task, places("r1"))
    assert seen.ended(task, "r1").exit.good
    assert not [command for command in of_engine(seen.engine.root).values() if "sleep" in command]


def test_memory_is_bounded_for_each_process_and_it_is_said_that_it_is_so(seen: Seen) -> None:
    task = a_task("hog", code="bytearray(2**28)", resources=Resources(cpu=1, memory=2**27))
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert (end.code, end.tail[-1]) == (1, "MemoryError")
    assert "rlimits and niceness only" in seen.engine.sentence
