"""The pool's state between passes, as the columns that a snapshot shows. Whoever runs the pool, or plays it, keeps one.

A change costs what changed: a snapshot of 100,000 replicas is not built anew for one job. A snapshot shows the cluster
as it is until the next change; `frozen()` makes one that outlives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from springtide.core import resources
from springtide.core.curves import CurveTable, prior
from springtide.core.draft import book, remove_last
from springtide.core.fragments import Mix
from springtide.core.load import Load
from springtide.core.loads import Loads
from springtide.core.market import Prices, charged
from springtide.core.plan import Plan, Verb
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray
from springtide.core.settings import Settings
from springtide.core.snapshot import ANYHOW, GONE, SERVICE, TRAINING, Jobs, Nodes, Shapes, Slot, Snapshot, Teams

_COLUMNS: dict[str, tuple[Any, float]] = {  # name -> type, what an empty row holds
    **dict.fromkeys(("kind", "priority", "team", "shape", "minimum", "maximum", "running", "curve"), (np.int64, 0)),
    **dict.fromkeys(("submitted_s", "attained_s", "unsaved_s", "bid_core", "bid_gpu"), (np.float64, 0.0)),
    **dict.fromkeys(("started_s", "remaining_s"), (np.float64, np.nan)),
    **dict.fromkeys(("suspended_s", "resized_s"), (np.float64, -np.inf)),
    "restart_s": (np.float64, np.nan),
    "deadline_s": (np.float64, np.inf),
}


class Cluster:
    """Nodes, teams, jobs and who holds what. Rows of jobs are used again after `remove`."""

    def __init__(
        self, nodes: Nodes, teams: Teams | None = None, prices: Prices | None = None, settings: Settings | None = None
    ):
        self.nodes = nodes
        self.teams = teams or no_teams()
        self.prices = prices or Prices()
        self.settings = settings or Settings()
        self.free: FloatArray = np.where(nodes.alive[:, None], nodes.capacity, 0.0)
        self.device_free = _devices(nodes)
        self.held: list[tuple[Slot, ...]] = []
        self.rows: dict[str, int] = {}
        self.loads = Loads()
        self.names: list[str] = []
        self.curves = CurveTable()
        self._shapes = _ShapeTable()
        self._columns = {name: np.empty(0, dtype) for name, (dtype, _) in _COLUMNS.items()}
        self._stages = np.full((0, 4), np.nan)
        self._empty: list[int] = []

    @classmethod
    def of(cls, snapshot: Snapshot) -> Cluster:
        """A cluster of its own that begins as the snapshot is; what happens to it does not touch the snapshot."""
        jobs = snapshot.jobs
        nodes = replace(snapshot.nodes, alive=snapshot.nodes.alive.copy())
        cluster = cls(nodes, snapshot.teams, snapshot.prices, snapshot.settings)
        cluster.free, cluster.device_free = snapshot.free.copy(), snapshot.device_free.copy()
        cluster.held, cluster.names, cluster.loads = list(snapshot.held), list(jobs.names), jobs.loads.own()
        cluster.curves, cluster._shapes = CurveTable.of(snapshot.curves), _ShapeTable.of(snapshot.shapes)
        cluster._columns = {name: getattr(jobs, name).copy() for name in _COLUMNS}
        cluster._stages = jobs.stages.copy()
        live = jobs.kind[: len(cluster.names)] != GONE
        cluster.rows = {cluster.names[row]: row for row in np.flatnonzero(live).tolist()}
        cluster._empty = np.flatnonzero(~live).tolist()
        return cluster

    def add(
        self,
        name: str,
        *,
        kind: int,
        request: FloatArray,
        minimum: int = 1,
        maximum: int | None = None,
        wishes: Mapping[str, tuple[str, ...]] | None = None,
        prefers: Mapping[str, tuple[str, ...]] | None = None,
        arrange: int = ANYHOW,
        speeds: FloatArray | None = None,
        apart: float = 1.0,
        stages: FloatArray | None = None,
        load: Load | None = None,
        **columns: float,
    ) -> int:
        """A new job's row. `request` is (5,) per replica; `columns` are any of `Jobs` (team, submitted_s, ...)."""
        maximum = minimum if maximum is None else maximum
        row = self._new_row()
        self.names[row] = name
        self.rows[name] = row
        self.held[row] = ()
        shape = self._shapes.add(request, wishes or {}, prefers or {}, arrange)
        self._shapes.seen[shape] += minimum
        curve = self.curves.add(prior(maximum if kind == TRAINING else 1) if speeds is None else speeds, apart)
        values: dict[str, float] = {"restart_s": self.settings.restart_prior_s, "priority": 1} | columns
        values |= {"kind": kind, "minimum": minimum, "maximum": maximum, "shape": shape, "curve": curve}
        for column, (_, empty) in _COLUMNS.items():
            self._columns[column][row] = values.pop(column, empty)
        assert not values, f"no such columns: {sorted(values)}"
        self._stages[row] = np.nan if stages is None else stages
        if kind == SERVICE and load is not None:
            self.loads[row] = load
        return row

    def remove(self, row: int) -> None:
        """The job is over: what it held is free, its row will be used again."""
        self.release(row, self.held[row])
        self._columns["kind"][row] = GONE
        del self.rows[self.names[row]]
        self.loads.pop(row, None)
        self._empty.append(row)

    def set(self, row: int, **columns: float) -> None:
        """Changes columns of a job (what was measured since: remaining_s, attained_s, unsaved_s, ...)."""
        for column, value in columns.items():
            self._columns[column][row] = value

    def column(self, name: str) -> Any:
        """A whole column, writable, for those that update many rows at once."""
        return self._columns[name]

    def hold(self, row: int, slots: Iterable[Slot]) -> None:
        """The job now has these slots too."""
        slots = tuple(slots)
        self._book(row, slots, -1)
        self.held[row] = self.held[row] + slots
        self._columns["running"][row] += len(slots)

    def release(self, row: int, slots: Iterable[Slot]) -> None:
        """The job no longer has these slots, which it had."""
        slots = tuple(slots)
        left = list(self.held[row])
        if len(slots) == len(left):
            left = []
        else:
            for slot in slots:
                remove_last(left, slot)
        self._book(row, slots, +1)
        self.held[row] = tuple(left)
        self._columns["running"][row] -= len(slots)

    def lose_node(self, node: int) -> dict[int, tuple[Slot, ...]]:
        """The node is gone with all that ran there: row -> slots lost."""
        lost = {}
        for row, held in enumerate(self.held):
            gone = tuple(slot for slot in held if slot.node == node)
            if gone:
                lost[row] = gone
                self.release(row, gone)
        self.nodes.alive[node] = False
        self.free[node] = 0.0
        self.device_free[node] = -np.inf
        return lost

    def return_node(self, node: int) -> None:
        """The node is back, empty."""
        self.nodes.alive[node] = True
        self.free[node] = self.nodes.capacity[node]
        self.device_free[node] = _devices(self.nodes)[node]

    def snapshot(self, now_s: float) -> Snapshot:
        """The cluster as it is; valid until the next change."""
        jobs = Jobs(names=self.names, stages=self._stages, loads=self.loads, **self._columns)
        return Snapshot(
            now_s, self.nodes, self.teams, self._shapes.table(self.nodes), self.curves.table(), jobs, self.held,
            self.free, self.device_free, self.prices, self.settings,
        )  # fmt: skip

    def frozen(self, now_s: float) -> Snapshot:
        """A snapshot of its own arrays, which later changes do not touch."""
        seen = self.snapshot(now_s)
        columns = {name: column.copy() for name, column in self._columns.items()}
        jobs = Jobs(names=list(self.names), stages=self._stages.copy(), loads=self.loads.own(), **columns)
        nodes = replace(self.nodes, alive=self.nodes.alive.copy())
        shapes = replace(seen.shapes, seen=seen.shapes.seen.copy())
        return replace(
            seen, jobs=jobs, nodes=nodes, shapes=shapes, held=list(self.held),
            free=self.free.copy(), device_free=self.device_free.copy(),
        )  # fmt: skip

    def apply(self, plan: Plan, now_s: float) -> None:
        """Carries out a plan as if every start and stop took no time, and notes when sizes changed."""
        before = self.snapshot(now_s)
        running = before.jobs.running.copy()
        for action in plan.actions:
            if action.removed:
                self.release(action.job, action.removed)
        for action in plan.actions:
            if action.added:
                self.hold(action.job, action.added)
            if action.verb == Verb.SUSPEND:
                self._columns["suspended_s"][action.job] = now_s
            elif action.verb == Verb.START and np.isnan(self._columns["started_s"][action.job]):
                self._columns["started_s"][action.job] = now_s
            self._columns["resized_s"][action.job] = now_s
        before = replace(before, jobs=replace(before.jobs, running=running))
        self.teams, self.prices = charged(before, self.snapshot(now_s), plan.core_price, plan.gpu_price)

    def _book(self, row: int, slots: Sequence[Slot], sign: int) -> None:
        request = self._shapes.requests[self._columns["shape"][row]]
        book(self.free, self.device_free, request, slots, sign)

    def _new_row(self) -> int:
        if self._empty:
            return self._empty.pop()
        row = len(self.names)
        self.names.append("")
        self.held.append(())
        if row >= len(self._stages):
            self._widen(max(64, 2 * row))
        return row

    def _widen(self, size: int) -> None:
        for name, (dtype, empty) in _COLUMNS.items():
            column = np.full(size, GONE if name == "kind" else empty, dtype)
            column[: len(self._columns[name])] = self._columns[name]
            self._columns[name] = column
        stages = np.full((size, 4), np.nan)
        stages[: len(self._stages)] = self._stages
        self._stages = stages


class _ShapeTable:
    """Requests and wishes by content, and how many replicas of each have arrived."""

    def __init__(self) -> None:
        self.requests: list[FloatArray] = []
        self.seen: FloatArray = np.zeros(64)
        self._wishes: list[Mapping[str, tuple[str, ...]]] = []
        self._prefers: list[Mapping[str, tuple[str, ...]]] = []
        self._arrange: list[int] = []
        self._index: dict[tuple[object, ...], int] = {}
        self._stacked: FloatArray = np.zeros((0, resources.COUNT))
        self._mix: Mix | None = None
        self._relearn = 0.0  # arrivals after which the mix is learnt anew

    @classmethod
    def of(cls, shapes: Shapes) -> _ShapeTable:
        table = cls()
        columns = (shapes.request, shapes.wishes, shapes.prefers, shapes.arrange.tolist())
        for request, wishes, prefers, arrange in zip(*columns, strict=True):
            table.add(request, wishes, prefers, arrange)
        table.seen[: len(shapes.seen)] = shapes.seen
        table._mix, table._relearn = shapes.mix, 1.5 * shapes.mix.arrivals
        return table

    def add(
        self,
        request: FloatArray,
        wishes: Mapping[str, tuple[str, ...]],
        prefers: Mapping[str, tuple[str, ...]],
        arrange: int,
    ) -> int:
        key = (request.tobytes(), tuple(sorted(wishes.items())), tuple(sorted(prefers.items())), arrange)
        if key not in self._index:
            self._index[key] = len(self.requests)
            self.requests.append(np.asarray(request, dtype=np.float64))
            self._wishes.append(dict(wishes))
            self._prefers.append(dict(prefers))
            self._arrange.append(arrange)
            if len(self.requests) > len(self.seen):
                self.seen = np.concatenate([self.seen, np.zeros(len(self.seen))])
            self._stacked = np.zeros((0, resources.COUNT))
        return self._index[key]

    def table(self, nodes: Nodes) -> Shapes:
        if len(self._stacked) != len(self.requests):
            self._stacked = np.array(self.requests).reshape(-1, resources.COUNT)
        seen = self.seen[: len(self.requests)]
        total = float(seen.sum())
        if self._mix is None or total >= self._relearn:
            held = _held_somewhere(self._stacked, nodes)
            self._mix = Mix(self._stacked, list(self._wishes), seen.copy(), nodes.labels, held)
            self._relearn = 1.5 * total
        arrange = np.array(self._arrange, dtype=np.int64)
        return Shapes(self._stacked, self._wishes, self._prefers, arrange, seen, self._mix)


def _held_somewhere(request: FloatArray, nodes: Nodes) -> BoolArray:
    """(S,) whether some node, however empty, would hold one replica of each request."""
    kinds = np.unique(nodes.capacity, axis=0)
    fits = np.logical_and.reduce(request[:, None, :] <= kinds * (1 + SLACK) + SLACK, axis=2)
    held: BoolArray = np.logical_or.reduce(fits, axis=1)
    return held


def make_nodes(
    capacity: FloatArray,
    names: Sequence[str] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
) -> Nodes:
    """Nodes from (N, 5) capacities; GPUs are whole devices. Nodes with equal labels share a group."""
    count = len(capacity)
    labels = labels or [{}] * count
    groups: dict[tuple[tuple[str, str], ...], int] = {}
    group = np.array([groups.setdefault(tuple(sorted(each.items())), len(groups)) for each in labels], dtype=np.int64)
    return Nodes(
        names=list(names) if names is not None else [f"node-{n}" for n in range(count)],
        capacity=np.asarray(capacity, dtype=np.float64),
        device_count=np.asarray(capacity)[:, GPU].astype(np.int64),
        group=group,
        labels=[dict(key) for key in groups],
        alive=np.ones(count, dtype=bool),
    )


def no_teams() -> Teams:
    """One team, `default`, that is guaranteed nothing and may borrow everything."""
    none = np.zeros((1, resources.COUNT))
    return Teams(["default"], np.array([-1]), none, none + np.inf, np.ones(1), np.full(1, np.inf), np.zeros(1))


def _devices(nodes: Nodes) -> FloatArray:
    """(N, D) every device whole and free; -inf where a node has no such device."""
    width = int(nodes.device_count.max(initial=0))
    there = np.arange(width)[None, :] < nodes.device_count[:, None]
    return np.where(there & nodes.alive[:, None], 1.0, -np.inf)
