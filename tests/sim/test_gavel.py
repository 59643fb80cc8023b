"""Gavel's table: speeds alone and in pairs, on kinds of GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.made import figures
from springtide.core.snapshot import Slot
from springtide.sim import gavel, packing
from springtide.sim.formats import Options
from springtide.sim.policies import POLICIES
from springtide.sim.trace import Task, Trace

LIGHT, HEAVY = "('light', 1)", "('heavy', 1)"
TABLE = {
    LIGHT: {"null": 10.0, LIGHT: [9.0, 9.0], HEAVY: [8.0, 1.6]},
    HEAVY: {"null": 2.0, LIGHT: [1.6, 8.0], HEAVY: [0.0, 0.0]},
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "throughputs.json"
    path.write_text(json.dumps(dict.fromkeys(gavel.KINDS, TABLE)))
    return path


def _of(trace: Trace, model: str) -> Task:
    return next(task for task in trace.tasks if task.model == model)


def test_packed_pairs_are_as_fast_as_measured(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gavel, "SCALES", (1,))
    monkeypatch.setattr(gavel, "SCALE_SHARE", (1.0,))
    trace = gavel.read([table], Options())
    light, heavy = _of(trace, "light"), _of(trace, "heavy")
    rate = trace.world.rate
    assert rate(light, [Slot(0, 1)], []) == 1.0
    assert rate(light, [Slot(0, 1)], [heavy]) == pytest.approx(0.8)
    assert rate(heavy, [Slot(0, 1)], [light]) == pytest.approx(0.8)


def test_two_that_do_not_fit_together_take_turns(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gavel, "SCALES", (1,))
    monkeypatch.setattr(gavel, "SCALE_SHARE", (1.0,))
    trace = gavel.read([table], Options())
    heavy = _of(trace, "heavy")
    assert trace.world.rate(heavy, [Slot(0, 1)], [heavy]) == packing.TURNS


def test_stages_fitted_to_pairs_say_who_gains_by_company() -> None:
    pairs = {
        ("light", 1): {("light", 1): 0.7, ("heavy", 1): 0.65},
        ("heavy", 1): {("light", 1): 0.65, ("heavy", 1): 0.4},
    }
    fitted = packing.stages(pairs)
    assert fitted["light", 1][2] < fitted["heavy", 1][2]  # seconds of a second on the GPU
    assert all(each.sum() == pytest.approx(1.0) for each in fitted.values())


def test_jobs_share_gpus_only_where_their_pairs_are_known_to_the_planner(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gavel, "SCALES", (1,))
    monkeypatch.setattr(gavel, "SCALE_SHARE", (1.0,))
    monkeypatch.setattr(gavel, "JOBS", 40)
    monkeypatch.setattr(gavel, "NODES_OF_KIND", 1)
    trace = gavel.read([table], Options(load=10.0))
    alone = figures(trace, "springtide")
    together = figures(POLICIES["springtide-packed"].world(trace), "springtide-packed")
    assert alone["gpu_allocated"] <= 100.0 < together["gpu_allocated"]
