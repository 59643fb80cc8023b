"""What a size is worth to a training job: its speed over the next while, weighed by how soon it will be done.

A replica is worth most to whom it shortens a short rest, as least remaining service wants it; but speed-up falls with
size, so a long job gets what the short can make little of. Weights go with the square root of what is left, half way
between the same for all and shortest first (Berg et al., heSRPT, 2020, derive the ends). A change costs what restarting
costs the job, spread over the time for which it will last.
"""

from __future__ import annotations

import numpy as np

from springtide.core import placement, resources
from springtide.core.curves import fewest_nodes
from springtide.core.draft import Draft
from springtide.core.resources import GPU, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import TRAINING

CLASS_FACTOR = 4.0  # a class weighs so many times as much as the one below
LEAST_LEFT_S = 1.0
# Apart, replicas on GPUs count as no faster than this share of together, even where they are: they break up nodes that
# others could use whole.
APART_AT_MOST = 0.6


def concerned(draft: Draft) -> IntArray:
    """Elastic jobs that run as drafted and could grow, or could give to one of the same shape that could."""
    jobs = draft.jobs
    elastic = (jobs.kind == TRAINING) & (draft.count > 0) & (draft.count >= draft.need) & (jobs.maximum > draft.need)
    rows = np.flatnonzero(elastic)
    shapes = jobs.shape[rows]
    grows = np.zeros(len(draft.snapshot.shapes.request), dtype=bool)
    grows[shapes[draft.count[rows] < jobs.maximum[rows]]] = True
    found: IntArray = rows[grows[shapes]]
    return found


class Worth:
    """E `concerned` jobs. `value[e, n]` is what n replicas are worth, if they lie together."""

    def __init__(self, draft: Draft) -> None:
        jobs, self.draft = draft.jobs, draft
        self.rows: IntArray = concerned(draft)
        self.share = resources.dominant(draft.snapshot.shapes.request[jobs.shape[self.rows]], draft.nodes.total())
        self.share = np.maximum(self.share, 1e-12)
        curves = draft.snapshot.curves
        width = min(curves.speed.shape[1], int(jobs.maximum[self.rows].max(initial=1)) + 1)
        self.speed: FloatArray = curves.speed[jobs.curve[self.rows], :width]
        whole = draft.snapshot.shapes.request[jobs.shape[self.rows], GPU] >= 1
        self.apart: FloatArray = np.minimum(curves.apart[jobs.curve[self.rows]], np.where(whole, APART_AT_MOST, 1.0))
        self.most: IntArray = np.minimum(jobs.maximum[self.rows], width - 1)
        self.least: IntArray = draft.need[self.rows]
        left = jobs.remaining_s[self.rows]
        # What nothing is known of goes on for about as long as it went on so far.
        guess = np.maximum(jobs.attained_s[self.rows], draft.settings.horizon_s)
        self.left_s = np.maximum(np.where(np.isnan(left), guess, left), LEAST_LEFT_S)
        self.weight = self._weights()
        self.per_node = self._per_node()
        self.value = self._values()
        self.now = self._now()

    def _now(self) -> FloatArray:
        """(E,) `of` for all: how many nodes a job is on is looked up only where that matters."""
        draft, jobs = self.draft, self.draft.jobs
        counts = np.minimum(draft.count[self.rows], self.speed.shape[1] - 1)
        at = np.arange(len(self.rows))
        same = draft.count[self.rows] == jobs.running[self.rows]
        now: FloatArray = np.where(same, self.weight * self.speed[at, counts], self.value[at, counts])
        for e in np.flatnonzero((self.apart < 1) | np.isin(self.rows, draft.touched())).tolist():
            now[e] = self.of(e, draft.held_nodes(int(self.rows[e])))
        return now

    def of(self, e: int, nodes: int) -> float:
        """What the drafted size is worth on so many nodes."""
        row = int(self.rows[e])
        count = int(self.draft.count[row])
        same = count == self.draft.jobs.running[row] and not self.draft.moved(row)
        speed = float(self.speed[e, min(count, self.speed.shape[1] - 1)])
        full = float(self.weight[e]) * speed if same else float(self.value[e, min(count, self.speed.shape[1] - 1)])
        return full * self.kept(e, count, nodes)

    def kept(self, e: int, count: int, nodes: int) -> float:
        """The share of its speed that so many replicas keep on so many nodes."""
        return 1.0 if nodes <= fewest_nodes(count, int(self.per_node[e])) else float(self.apart[e])

    def _weights(self) -> FloatArray:
        jobs, draft = self.draft.jobs, self.draft
        weight: FloatArray = CLASS_FACTOR ** jobs.priority[self.rows] / np.sqrt(self.left_s)
        teams = draft.snapshot.teams
        if len(teams.names) > 1:  # a team whose minima hold much has less of the surplus
            held = jobs.kind >= 0
            shape = draft.snapshot.shapes.request[jobs.shape[held]] * np.minimum(draft.count, draft.need)[held, None]
            level = np.bincount(jobs.team[held], resources.dominant(shape, draft.nodes.total()), len(teams.names))
            level = np.maximum(level / np.maximum(teams.weight, 1e-9), 1e-6)
            weight = weight / level[jobs.team[self.rows]]
        return weight

    def _per_node(self) -> FloatArray:
        """(E,) replicas that the largest node holds."""
        draft = self.draft
        found: FloatArray = np.ones(len(self.rows))
        shapes = draft.jobs.shape[self.rows]
        devices = np.where(np.isfinite(draft.device_free), 1.0, -np.inf)
        for shape in np.unique(shapes[self.apart < 1]).tolist():
            room = placement.room(draft.nodes.capacity, devices, draft.snapshot.shapes.request[shape])
            found[shapes == shape] = min(float(room[draft.nodes.alive].max(initial=1.0)), 1e6)
        return found

    def _values(self) -> FloatArray:
        jobs = self.draft.jobs
        fresh: BoolArray = jobs.running[self.rows] == 0
        cost_s = np.where(fresh, 0.0, np.nan_to_num(jobs.restart_s[self.rows]))[:, None]
        speed = np.maximum(self.speed, 1e-12)
        lasts_s = np.minimum(self.draft.settings.horizon_s, self.left_s[:, None] / speed + cost_s)
        value: FloatArray = self.weight[:, None] * speed * (1 - cost_s / np.maximum(lasts_s, 1e-9))
        size = np.arange(self.speed.shape[1])
        value[(size < self.least[:, None]) | (size > self.most[:, None])] = -np.inf
        return value
