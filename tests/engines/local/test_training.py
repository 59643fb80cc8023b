"""Training as a job: started, resized live, stopped with a checkpoint, gone on with, to undisturbed bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engines.local.jobs import Seen, a_task, places
from springtide.engines.engine import Place, run_name
from springtide.spec.job import Kind
from springtide.spec.resources import Resources

SCRIPT = """
import argparse, torch, torch.nn as nn, torch.nn.functional as F
from springtide import train
a = argparse.ArgumentParser(); a.add_argument("--steps", type=int, default=400); a = a.parse_args()
torch.manual_seed(1)
x = torch.randn(2048, 64); y = (x.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 2))
run = train.Run(model, torch.optim.Adam(model.parameters(), 1e-3), torch.utils.data.TensorDataset(x, y),
                batch_size=480, microbatches=12, steps=a.steps, seed=5)
for u, v in run:
    run.backward(F.cross_entropy(model(u), v))
print("the script's own last words")
"""
ROOM = Resources(cpu=1, memory=2**30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "learn.py").write_text(SCRIPT)
    return folder


def rooms(count: int) -> list[Place]:
    return places(*[f"w{number}" for number in range(count)])


def test_a_run_that_is_resized_and_stopped_ends_with_the_bits_of_an_undisturbed_one(
    seen: Seen, source: Path, undisturbed: Callable[..., str]
) -> None:
    def attempt(number: int):
        return a_task(
            "learn", Kind.TRAINING, resources=ROOM, source=source, script="learn.py", args=("--steps", "900"),
            attempt=number,
        )  # fmt: skip

    first = attempt(1)
    seen.engine.start(first, rooms(2))
    job = seen.until(first, lambda job: job.training and job.training.step > 20 and len(job.training.workers) == 2)
    assert (job.training.steps, job.training.microbatches) == (900, 12)
    for workers in (1, 3, 1, 2):
        seen.engine.resize(first, rooms(workers))
        job = seen.until(
            first,
            lambda job, workers=workers: job.training and len(job.training.workers) == workers,
            f"{workers} workers",
        )
        step = job.training.step
        seen.until(first, lambda job, step=step: not job.training or job.training.step > step + 5)
    assert job.training.step_s
    seen.engine.stop(first.id, [run_name(1)], 30)
    end = seen.ended(first, run_name(1)).exit
    assert (end.code, end.asked, end.result["state"]) == (130, True, "interrupted")
    second = attempt(2)
    seen.engine.start(second, rooms(2))
    end = seen.ended(second, run_name(2)).exit
    assert end.good
    assert end.result["resumed_step"] > 0
    assert (end.result["state"], end.result["step"], end.result["samples_lost"]) == ("done", 900, 0)
    assert end.result["digest"] == undisturbed(source / "learn.py", "--steps", 900)
    assert "the script's own last words" in end.tail
    seen.engine.forget(second.id)
    assert Path(end.result["checkpoint"]).is_dir(), "what was trained outlives its job"


def test_a_script_that_is_wrong_says_so_in_its_end(seen: Seen, source: Path) -> None:
    (source / "learn.py").write_text("import no_such_module")
    task = a_task("wrong", Kind.TRAINING, resources=ROOM, source=source, script="learn.py")
    seen.engine.start(task, rooms(1))
    end = seen.ended(task, run_name(1)).exit
    assert (end.code, end.result["state"]) == (1, "failed")
    assert "no_such_module" in end.result["message"]
