"""Pollux's workloads: the measured world, its rivals as published, and ours ahead of them."""

import os
from pathlib import Path

import numpy as np
import pytest

from springtide.sim import pollux, simulate
from springtide.sim.formats import Options
from springtide.sim.scaling import Application, Epoch, Line, StepTime, packed
from springtide.spec.errors import UserError

TRACES = Path(os.environ.get("TIDE_TRACES", Path(__file__).parents[2].parent / "shared" / "traces")) / "pollux"
there = pytest.mark.skipif(not TRACES.exists(), reason=f"{TRACES} is not there")
OPTIONS = Options(scaling=TRACES / "scaling", nodes="16x4gpu", round_s=60.0, restart_s=30.0)


def made() -> Application:
    """Steps of a second; two nodes synchronise for one more."""
    alone, apart = StepTime(1.0, 0.0), StepTime(2.0, 1.0)
    epochs = [Epoch(10.0, 10.0, 1.0, 0.0), Epoch(20.0, 20.0, 1.0, 0.0)]
    line, slow = Line([4, 8], [alone, alone]), Line([4, 8], [apart, apart])
    spread = {1: {1: line, 2: line}, 2: {2: slow, 4: slow}, 4: {4: slow, 8: slow}}
    return Application("made", {8: epochs, 32: epochs}, {(1,): line, (2,): line}, spread, 4, 8, 2)


def test_gradients_accumulate_beyond_the_largest_local_batch() -> None:
    assert made().split(32, 2) == (8, 2)


def test_one_pass_more_costs_no_more_synchronising() -> None:
    assert made().speed(32, (1, 1)) == pytest.approx(32 / 3)


def test_between_measured_numbers_of_nodes_the_time_is_between() -> None:
    assert made().step((1, 1, 1), 8) == StepTime(2.0, 1.0)


def test_work_is_samples_until_the_last_epoch() -> None:
    assert made().samples(8).tolist() == [0.0, 80.0, 160.0]


def test_packed_fills_nodes() -> None:
    assert packed(10, 4) == (4, 4, 2)


def test_without_scaling_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--scaling DIR"):
        pollux.read([tmp_path / "w.csv"], Options())


@there
def test_an_unknown_application_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("name,time,application,num_replicas,batch_size\na,1,cifar,2,2048\n")
    with pytest.raises(UserError, match=r'w\.csv:2: application: there is no application "cifar"'):
        pollux.read([path], OPTIONS)


@there
def test_a_batch_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("name,time,application,num_replicas,batch_size\na,1,cifar10,2,64\n")
    with pytest.raises(UserError, match="64 was not measured; write 128 to 4096"):
        pollux.read([path], OPTIONS)


@there
def test_a_job_of_one_gpu_alone_takes_as_long_as_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("name,time,application,num_replicas,batch_size\na,0,ncf,1,32768\n")
    trace = pollux.read([path], OPTIONS)
    done = simulate.played(simulate.Work((str(path),), "pollux", OPTIONS), "tiresias", 0).metrics["average_completion"]
    assert done == pytest.approx(30 + trace.tasks[0].work_s)


@there
def test_the_planner_is_told_speeds_relative_to_one_replica() -> None:
    trace = pollux.read([TRACES / "workloads" / "workload-1.csv"], OPTIONS)
    assert all(task.speeds is not None and np.isclose(task.speeds[1], 1.0) for task in trace.tasks)


def average(workload: str, policy: str) -> float:
    work = simulate.Work((str(TRACES / workload),), "pollux", OPTIONS)
    return simulate.played(work, policy, 0).metrics["average_completion"]


@there
@pytest.mark.slow
@pytest.mark.parametrize("policy", ["tiresias", "optimus"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_rivals_reach_what_was_published(policy: str, number: int) -> None:
    path = TRACES / "workloads" / f"workload-{number}.csv"
    published = pollux.read([path], OPTIONS).published[policy, "average_completion"]
    assert average(f"workloads/workload-{number}.csv", policy) == pytest.approx(published, rel=0.05)


@there
@pytest.mark.slow
def test_ours_is_ahead_of_tiresias_and_optimus_with_the_same_batch_sizes() -> None:
    ratios = []
    for number in (1, 2, 3, 4):
        path = f"workloads/workload-{number}.csv"
        ours, tiresias = average(path, "springtide"), average(path, "tiresias")
        assert ours < average(path, "optimus")
        ratios.append(ours / tiresias)
    assert max(ratios) <= 0.9
    assert sum(ratios) / 4 <= 0.75
