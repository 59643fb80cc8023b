"""What a frame of `tide top` holds, for terminals of any size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.cli import table
from springtide.cli.frame import View, frame

Row = dict[str, Any]


def a_job(name: str, kind: str = "training", replicas: int = 1, **more: Any) -> Row:
    return {
        "id": f"{name}-1", "name": name, "kind": kind, "team": "vision", "priority": "experiment", "replicas": replicas,
        "state": "running" if replicas else "waiting", "wanted": "1..4", "step": None, "steps": None, "reason": "",
    } | more  # fmt: skip


def a_node(name: str, *replicas: tuple[str, str], cores: float = 4, **more: Any) -> Row:
    seen = [{"job": job, "id": f"r{n}", "kind": kind, "priority": "standard"} for n, (job, kind) in enumerate(replicas)]
    return {
        "name": name, "resources": {"cpu": cores, "memory": "8Gi"}, "held": {"cpu": len(replicas)} if replicas else {},
        "labels": {}, "drained": False, "replicas": seen,
    } | more  # fmt: skip


def a_view(nodes: int = 2, running: int = 3, waiting: int = 2) -> View:
    jobs = [a_job(f"job-{n}", step=100 * n, steps=4000) for n in range(running)]
    jobs += [a_job(f"late-{n}", replicas=0, reason=f"late-{n} waits: no node has 4 cores left") for n in range(waiting)]
    return View(
        health={"version": "0.1.0", "since_s": 940.0},
        nodes=[a_node(f"n{n}", ("job-0", "training"), ("web", "service")) for n in range(nodes)],
        jobs=jobs,
        needs={"job-0": {"cpu": 1}, "web": {"cpu": 1}},
        steps_per_s={"job-1-1": 12.5},
        now_s=1000.0,
    )


def plain(view: View, columns: int = 100, rows: int = 40, unicode: bool = True) -> list[str]:
    return [line.plain for line in frame(view, columns, rows, unicode)]


def test_a_frame_shows_nodes_jobs_and_the_queue_with_reasons() -> None:
    text = "\n".join(plain(a_view()))
    assert "springtide 0.1.0  up 1 min 00 s, 2 nodes, 3 jobs with replicas, 2 without" in text
    assert "2 of 4 cores" in text
    assert "100 of 4,000" in text and "12.5/s" in text
    assert "late-1 waits: no node has 4 cores left" in text


def test_a_bar_is_cut_by_kind_of_job_in_proportion_to_what_each_holds() -> None:
    node = a_node("n0", ("web", "service"), ("fill", "training"), ("fill", "training"), held={"cpu": 3})
    view = View(health={}, nodes=[node], jobs=[], needs={"web": {"cpu": 1}, "fill": {"cpu": "1"}})
    (bar,) = [line for line in plain(view, unicode=False) if line.startswith("n0")]
    assert (bar.count("#"), bar.count("~"), bar.count(".")) == (15, 30, 15)
    assert plain(view)[2].count("█") == 15


def test_a_node_with_gpus_has_a_bar_for_them() -> None:
    node = a_node("n0", ("fit", "training"), resources={"cpu": 8, "gpu": 2}, held={"cpu": 1, "gpu": 1})
    lines = plain(View(health={}, nodes=[node], jobs=[], needs={"fit": {"cpu": 1, "gpu": 1}}))
    assert any("1 of 8 cores" in line for line in lines) and any("1 of 2 GPUs" in line for line in lines)


def test_a_drained_node_and_a_lost_pool_are_said() -> None:
    view = View(health={}, nodes=[a_node("n0", drained=True)], jobs=[], problem="the pool does not answer")
    lines = plain(view)
    assert "the pool does not answer" in lines[0]
    assert lines[2].endswith("drained")


def test_what_does_not_fit_is_counted() -> None:
    lines = plain(a_view(nodes=50, running=60, waiting=30), rows=24)
    assert len(lines) == 24
    for rest in ("more nodes", "more in the jobs", "more in the queue"):
        assert sum(rest in line for line in lines) == 1


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_long_reason_is_cut_and_says_so(columns: int) -> None:
    view = View(health={}, nodes=[], jobs=[a_job("late", replicas=0, reason="because " * 40)])
    lines = plain(view, columns)
    assert any(line.endswith("…") for line in lines)


@given(
    columns=st.integers(1, 220), rows=st.integers(1, 70), nodes=st.integers(0, 40), running=st.integers(0, 40),
    waiting=st.integers(0, 40), unicode=st.booleans(),
)  # fmt: skip
def test_a_frame_fits_any_terminal(
    columns: int, rows: int, nodes: int, running: int, waiting: int, unicode: bool
) -> None:  # fmt: skip
    lines = plain(a_view(nodes, running, waiting), columns, rows, unicode)
    assert len(lines) <= rows
    assert all(table.width(line) <= columns for line in lines)
