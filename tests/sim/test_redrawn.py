"""Jobs that are drawn to match what a cluster ran and queued."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from springtide.sim.redrawn import EVERY_S, Job, Redrawn

lines = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 12)), min_size=1, max_size=12)


def _drawn(table: list[tuple[int, int]], seed: int = 0) -> list[Job]:
    running, pending = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    return Redrawn(running, pending, np.array([1, 1, 1, 2, 4, 8]), np.random.default_rng(seed)).jobs()


def _running(jobs: list[Job], at_s: float) -> int:
    return sum(job.gpus for job in jobs if job.start_s <= at_s < job.start_s + job.lasts_s)


@given(lines, st.integers(0, 3))
def test_as_many_gpus_run_as_the_table_says(table: list[tuple[int, int]], seed: int) -> None:
    calm = [(running, 0) for running, _ in table]  # nobody waits, so nobody gives up waiting
    jobs = _drawn(calm, seed)
    for at, (running, _) in enumerate(calm):
        assert _running(jobs, at * EVERY_S) == running


@given(lines)
def test_whoever_waits_was_submitted_before_it_starts(table: list[tuple[int, int]]) -> None:
    for job in _drawn(table):
        assert job.lasts_s >= EVERY_S
        assert job.start_s == 0.0 or job.start_s >= job.submit_s


def test_a_full_cluster_queues_what_the_table_says_and_starts_it_when_it_may() -> None:
    jobs = _drawn([(8, 0), (8, 3), (8, 0)])
    late = [job for job in jobs if job.submit_s == EVERY_S]
    assert sum(job.gpus for job in late if job.start_s > job.submit_s) == 3
    assert all(job.start_s == 2 * EVERY_S for job in late)


def test_the_same_seed_draws_the_same_jobs() -> None:
    table = [(9, 2), (4, 0), (12, 5)]
    assert _drawn(table, 3) == _drawn(table, 3)
