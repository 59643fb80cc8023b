"""Muri's traces as tasks, and the rivals that its paper compares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from springtide.core.complements import STRETCH, iteration_s
from springtide.core.resources import GPU
from springtide.core.snapshot import Slot
from springtide.sim import muri
from springtide.sim.baselines.muri import muri_s, srsf, srtf
from springtide.sim.engine import Play
from springtide.sim.formats import Options
from springtide.sim.trace import Trace
from springtide.spec.errors import UserError

HEADER = "num_gpu,submit_time,iterations,iteration_time,resource_time_0,resource_time_1,resource_time_2,model_name\n"


def read(tmp_path: Path, *lines: str) -> Trace:
    path = tmp_path / "jobs.csv"
    path.write_text(HEADER + "".join(line + "\n" for line in lines))
    return muri.read([path], Options(nodes="1x8gpu"))


class Completions:
    """Hears when tasks end."""

    def __init__(self) -> None:
        self.ended_s: dict[str, float] = {}

    def __getattr__(self, name: str) -> object:
        return lambda *arguments, **named: None

    def finished(self, play: Play, row: int) -> None:
        self.ended_s[play.tasks[row].name] = play.now_s


def play(trace: Trace, policy: object) -> dict[str, float]:
    heard = Completions()
    Play(trace, policy, heard).run()  # type: ignore[arg-type]
    return heard.ended_s


def test_times_are_milliseconds(tmp_path: Path) -> None:
    task = read(tmp_path, "4,2000,100,500,100,300,50,bert").tasks[0]
    assert (task.submit_s, task.work_s) == (2.0, pytest.approx(50.0 * STRETCH[1]))


def test_a_job_larger_than_a_node_has_a_replica_on_each(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(HEADER + "32,0,10,1000,1,1,1,bert\n")
    task = muri.read([path], Options()).tasks[0]
    assert (task.minimum, task.request[GPU]) == (4, 8.0)


def test_a_number_of_gpus_that_no_node_divides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="whole nodes of 8"):
        read(tmp_path, "12,0,10,1000,1,1,1,bert")


def test_jobs_on_the_same_gpus_have_one_iteration(tmp_path: Path) -> None:
    trace = read(tmp_path, "8,0,10,1000,700,100,0,bert", "8,0,10,500,0,400,50,bert")
    one, other = trace.tasks
    together = iteration_s(((0.0, 0.4, 0.05), (0.7, 0.1, 0.0)))
    assert trace.world.rate(one, [Slot(0, 255)], [other]) == pytest.approx(1.0 * STRETCH[1] / together)


def test_srtf_and_srsf_differ_where_a_short_job_is_large(tmp_path: Path) -> None:
    lines = ("8,0,100,1000,0,1000,0,bert", "1,0,200,1000,0,1000,0,bert")
    by_time, by_service = (play(read(tmp_path, *lines), make(read(tmp_path, *lines))) for make in (srtf, srsf))
    assert by_time["job-0"] < by_time["job-1"]
    assert by_service["job-1"] < by_service["job-0"]


def test_muri_packs_until_all_candidates_fit(tmp_path: Path) -> None:
    lines = ("8,0,100,1000,700,100,0,bert", "8,0,101,1000,0,400,50,bert")
    ended = play(read(tmp_path, *lines), muri_s(read(tmp_path, *lines)))
    assert abs(ended["job-0"] - ended["job-1"]) < 15.0


FOLDER = Path(os.environ.get("TIDE_TRACES", Path(__file__).parents[3] / "shared" / "traces")) / "muri"


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "trace3.csv").exists(), reason="Muri's traces are not here")
@pytest.mark.parametrize("policy", [srtf, srsf, muri_s], ids=["srtf", "srsf", "muri-s"])
def test_rivals_reproduce_what_was_published(policy: object) -> None:
    trace = muri.read([FOLDER / "trace3.csv"], Options())
    made = policy(trace)  # type: ignore[operator]
    submitted = {task.name: task.submit_s for task in trace.tasks}
    ended = play(trace, made)
    average = float(np.mean([ended[name] - submitted[name] for name in submitted]))
    assert average == pytest.approx(trace.published[made.name, "average_completion"], rel=0.05)
