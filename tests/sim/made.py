"""Small made-up work for the simulator's tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from springtide.core import resources
from springtide.sim import pool
from springtide.sim.engine import Play
from springtide.sim.policies import POLICIES
from springtide.sim.record import Record
from springtide.sim.trace import Task, Trace

TRACES = Path(os.environ.get("TIDE_TRACES", Path(__file__).resolve().parents[3] / "shared" / "traces"))


def trace_file(name: str) -> Path:
    """A file of the real traces; the test is skipped where they are not."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"there are no traces at {TRACES}; TIDE_TRACES says where they are")
    return path


def a_task(name: str, submit_s: float = 0.0, gpus: int = 1, seconds: float = 100.0, **more: Any) -> Task:
    """So many replicas of one GPU for so long."""
    values = {"minimum": gpus, "maximum": gpus, "asked": gpus} | more
    return Task(name=name, submit_s=submit_s, request=resources.vector(gpu=1.0), work_s=seconds * gpus, **values)


def a_trace(*tasks: Task, nodes: str = "1x4gpu", **more: Any) -> Trace:
    """These tasks on a small pool."""
    return Trace(name="made-up", nodes=pool.nodes(nodes), tasks=tasks, **more)


def figures(trace: Trace, policy: str = "fifo") -> dict[str, float]:
    """What a play comes to."""
    record = Record(trace)
    play = Play(trace, POLICIES[policy].make(trace), record)
    play.run()
    assert np.isfinite(play.now_s)
    return record.metrics(play)
