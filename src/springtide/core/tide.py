"""What services need: replicas for the load now and soon, quick to rise, slow to fall."""

from __future__ import annotations

import math

from springtide.core.draft import Draft


def need(draft: Draft) -> None:
    """Sets the replicas that each service needs, within its range."""
    for row, load in draft.jobs.loads.items():
        wanted = math.ceil(load.rate / load.per_replica - 1e-9)
        draft.need[row] = min(max(wanted, int(draft.jobs.minimum[row])), int(draft.jobs.maximum[row]))
