"""Whose turn it is: class, the team's dominant share over its weight, least remaining service, bid, time."""

from __future__ import annotations

import numpy as np

from springtide.core import resources
from springtide.core.draft import Draft
from springtide.core.resources import FloatArray, IntArray
from springtide.core.snapshot import GONE


def order(draft: Draft) -> IntArray:
    """Rows of the jobs that have less than they need, the first in line first."""
    jobs = draft.jobs
    lacking = np.flatnonzero((jobs.kind != GONE) & (draft.count < draft.need))
    if draft.refused:
        lacking = lacking[~np.isin(lacking, list(draft.refused))]
    share = team_share(draft)[jobs.team[lacking]]
    keys = (
        jobs.submitted_s[lacking],
        -jobs.bid_core[lacking],
        remaining_service(draft, lacking),
        share,
        -jobs.priority[lacking],
    )
    return lacking[np.lexsort(keys)]


def usage(draft: Draft) -> FloatArray:
    """(T, 5) what each team holds, replicas as drafted."""
    jobs = draft.jobs
    rows = np.flatnonzero((jobs.kind != GONE) & (draft.count > 0))
    amounts = draft.snapshot.shapes.request[jobs.shape[rows]] * draft.count[rows, None]
    teams = len(draft.snapshot.teams.names)
    columns = [np.bincount(jobs.team[rows], amounts[:, kind], teams) for kind in range(resources.COUNT)]
    return np.stack(columns, axis=1)


def team_share(draft: Draft) -> FloatArray:
    """(T,) dominant share of the pool over the team's weight (DRF, Ghodsi et al., NSDI'11)."""
    share: FloatArray = resources.dominant(usage(draft), draft.nodes.total()) / draft.snapshot.teams.weight
    return share


def remaining_service(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) work left times one replica's share of the pool; where it is unknown, what it had so far."""
    jobs = draft.jobs
    asked = resources.dominant(draft.snapshot.shapes.request[jobs.shape[rows]], draft.nodes.total())
    left = np.where(np.isnan(jobs.remaining_s[rows]), jobs.attained_s[rows], jobs.remaining_s[rows])
    service: FloatArray = left * asked
    return service
