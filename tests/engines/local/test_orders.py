"""What is to run, from what the pool gave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines.local.jobs import a_task, places
from springtide.engines.engine import Place, Task, run_name
from springtide.engines.local.orders import limits, orders
from springtide.engines.local.state import Folder
from springtide.spec.job import Job, Kind, Priority
from springtide.spec.resources import Resources

FOLDER = Folder(Path("/home/pool/jobs/x-1"))


def test_python_as_a_program_is_the_one_that_runs_springtide() -> None:
    (order,) = orders(a_task("x", code="pass", args=("a",)), places("r1"), FOLDER, None, False, 0.0)
    assert order.argv == (sys.executable, "-c", "pass", "a")


def test_training_is_one_process_with_the_devices_of_all_its_places() -> None:
    task = a_task("x", Kind.TRAINING, script="x.py", attempt=2)
    (order,) = orders(task, [Place("w1", "n", (1,)), Place("w2", "n", (0,))], FOLDER, None, True, 0.0)
    assert (order.replica, order.devices, order.main_only) == (run_name(2), (0, 1), True)
    assert order.environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_who_has_no_device_sees_none_where_there_are_some() -> None:
    (order,) = orders(a_task("x"), places("r1"), FOLDER, None, True, 0.0)
    assert order.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_of_training_the_parked_worker_and_the_nursery_get_a_share_of_memory() -> None:
    job = Job(kind=Kind.TRAINING, name="x", resources=Resources(cpu=2, memory=2**30))
    found = limits(job, 3)
    assert (found.cpu, found.memory_bytes, found.whole) == (6.0, 4 * 2**30, False)


@pytest.mark.parametrize(("priority", "weight"), [(Priority.PRODUCTION, 200), (Priority.STANDARD, 100),
                                                  (Priority.EXPERIMENT, 50), (Priority.SPOT, 25)])  # fmt: skip
def test_where_cores_are_short_the_class_decides(priority: Priority, weight: int) -> None:
    assert limits(Job(kind=Kind.BATCH, name="x", priority=priority)).weight == weight


@pytest.mark.parametrize(("lag", "given"), [(1000, True), (None, False)])
def test_a_stream_that_follows_its_lag_has_a_socket_of_its_own(lag: int | None, given: bool) -> None:
    job = Job(kind=Kind.STREAM, name="x", command=("python", "x.py"), lag=lag)
    (order,) = orders(Task("x-1", job), places("r1"), FOLDER, None, False, 0.0)
    assert (order.service, order.handed) == (given, False)
