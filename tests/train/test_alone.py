"""`python train.py`: one worker, no supervisor; the report says what was trained, and nothing is left behind."""

from __future__ import annotations

import gc
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim

from springtide import train
from springtide.data.order import Order
from springtide.train.alone import audit
from springtide.train.tensors import digest
from training import cross_entropy, elastic, forget, mlp, points


def reported(path: Path, model: nn.Module, **given: Any) -> dict[str, Any]:
    elastic(model, optim.Adam(model.parameters(), 0.01), points(), **given)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIDE_REPORT", str(tmp_path / "report.json"))
    return tmp_path / "report.json"


def test_the_report_says_what_was_trained(report: Path) -> None:
    accuracy = lambda model, x, y: {"accuracy": (model(x).argmax(1) == y).double().mean()}
    found = reported(report, mlp(), steps=7, evaluate=train.Evaluate(points(50), accuracy, best="accuracy"))
    run = train.run.active()
    worker, assembly = run._worker, run._assembly
    assert found["digest"] == digest(assembly.inventory.tensors(worker.arena, worker.reached[1]))
    assert (found["state"], found["steps"], found["samples"]) == ("done", 7, 7 * 24)
    assert (found["samples_twice"], found["samples_lost"]) == (0, 0)
    assert found["metrics"] == run.metrics
    assert found["step_seconds"]["median"] > 0
    assert found["hardware"]["threads"] == 1


def test_equal_runs_have_equal_digests_and_others_have_not(report: Path) -> None:
    first = reported(report, mlp(), steps=4)["digest"]
    torch.rand(7)
    assert reported(report, mlp(), steps=4)["digest"] == first
    assert reported(report, mlp(), steps=4, loading="thread")["digest"] == first
    assert reported(report, mlp(), steps=5)["digest"] != first
    assert reported(report, mlp(), steps=4, seed=1)["digest"] != first
    assert reported(report, mlp(), steps=4, microbatches=2)["digest"] != first
    assert reported(report, mlp(seed=2), steps=4)["digest"] != first


def test_the_launch_s_seed_wins(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = reported(report, mlp(), steps=4, seed=8)["digest"]
    monkeypatch.setenv("TIDE_SEED", "8")
    assert reported(report, mlp(), steps=4, seed=1)["digest"] == seeded


def test_a_run_left_by_break_reports_the_steps_that_it_made(report: Path) -> None:
    forget()
    model = mlp()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=9)
    for batch in run:
        run.backward(cross_entropy(model, batch))
        if run.step == 4:
            break
    found = json.loads(report.read_text())
    assert (found["steps"], found["samples"], found["samples_lost"]) == (3, 72, 0)


def test_a_report_that_cannot_be_written_costs_no_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDE_REPORT", str(tmp_path / "nowhere" / "report.json"))
    model = mlp()
    run = elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=1)
    assert run.finished
    assert "the report was not written to" in capsys.readouterr().err


def test_what_was_counted_is_held_against_the_order() -> None:
    order = Order("f", 0, 96, 24, 8)
    samples, checksum = order.expected(5)
    assert audit(order, 5, {"samples": samples, "checksum": checksum}) == (0, 0)
    assert audit(order, 5, {"samples": samples + 3, "checksum": checksum}) == (3, 0)
    assert audit(order, 5, {"samples": samples - 2, "checksum": checksum}) == (0, 2)
    assert audit(order, 5, {"samples": samples, "checksum": checksum + 1}) == (1, 1)


def arenas() -> int:
    """How many this process holds."""
    gc.collect()
    names = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one by which they are read
            names.append(str(one.readlink()))
    return sum("memfd:springtide" in name for name in names)


def test_nothing_is_left_behind() -> None:
    shared, held = set(Path("/dev/shm").iterdir()), arenas()
    model = mlp()
    run = elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=1, loading="thread")
    assert arenas() > held
    assert set(Path("/dev/shm").iterdir()) == shared
    forget()
    del run
    assert arenas() == held
