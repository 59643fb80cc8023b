"""Measured step times of training by placement and batch (Pollux, OSDI'21), and the world that they make."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from springtide.core.resources import FloatArray
from springtide.core.snapshot import Slot
from springtide.sim import tables
from springtide.sim.trace import Task
from springtide.spec.errors import UserError

Placement: TypeAlias = tuple[int, ...]  # replicas on each node
MOST_NODES = 16  # on which anything was measured


class StepTime(NamedTuple):
    """Seconds of one step, and how many of them are spent on synchronising."""

    step_s: float
    sync_s: float


class Epoch(NamedTuple):
    """One epoch at one batch size: steps of the smallest batch that it is worth by then, steps made, gradient noise."""

    progress: float
    steps: float
    grad_sqr: float
    grad_var: float


@dataclass(frozen=True, slots=True)
class Line:
    """Step times by samples per replica and pass, ascending; linear between."""

    samples: Sequence[int]
    times: Sequence[StepTime]

    def at(self, samples: float) -> StepTime:
        """The step time there; beyond the ends the last slope goes on."""
        return _between(self.samples, self.times, samples)


@dataclass(frozen=True)
class Application:
    """What was measured of one application, and the limits that the artifact sets it."""

    name: str
    epochs: Mapping[int, Sequence[Epoch]]  # by batch size
    placed: Mapping[Placement, Line]
    spread: Mapping[int, Mapping[int, Line]]  # nodes -> replicas -> step times
    smallest: int  # samples per replica and pass
    largest: int
    last_epoch: int

    def split(self, batch: int, replicas: int) -> tuple[int, int]:
        """(samples per pass, passes per step) of each replica: gradients accumulate beyond the largest local batch."""
        local = math.ceil(batch / replicas - 1e-8)
        passes = max(1, math.ceil(local / self.largest - 1e-8))
        if replicas == 1 and batch > min(self.epochs):
            passes = max(2, passes)  # the artifact estimates gradient noise from at least two passes
        samples = math.ceil(local / passes - 1e-8)
        return min(samples, max(self.epochs) // (replicas * passes)), passes

    def speed(self, batch: int, placement: Placement) -> float:
        """Samples per second."""
        replicas = sum(placement)
        samples, passes = self.split(batch, replicas)
        step = self.step(placement, samples)
        return replicas * samples * passes / (step.step_s + (step.step_s - step.sync_s) * (passes - 1))

    def step(self, placement: Placement, samples: int) -> StepTime:
        """Time of one step of one pass: of this very placement where it was measured, else by nodes and replicas."""
        turned = min(placement[at:] + placement[:at] for at in range(len(placement)))
        if turned in self.placed:
            return self.placed[turned].at(samples)
        nodes, replicas = min(len(placement), MOST_NODES), sum(placement)
        if nodes in self.spread:
            return self._on(nodes, replicas, samples)
        measured = sorted(self.spread)
        above = bisect_right(measured, nodes)
        around = measured[above - 1], measured[above]
        # Between two numbers of nodes, replicas per node stay the same.
        times = [self._on(count, replicas / nodes * count, samples) for count in around]
        return _between(around, times, nodes)

    def _on(self, nodes: int, replicas: float, samples: int) -> StepTime:
        lines = self.spread[nodes]
        sizes = sorted(lines)
        return _between(sizes, [lines[size].at(samples) for size in sizes], replicas)

    def samples(self, batch: int) -> FloatArray:
        """(epochs + 1,) samples that must have been seen at this batch size when so many epochs are over."""
        below = max((size for size in self.epochs if size <= batch), default=min(self.epochs))
        above = min((size for size in self.epochs if size >= batch), default=max(self.epochs))
        share = (batch - below) / (above - below) if above > below else 0.0
        steps, before = [0.0], 0.0
        for number in range(self.last_epoch):
            progress = min(epochs[number].progress for epochs in self.epochs.values())
            low, high = self.epochs[below][number], self.epochs[above][number]
            variance = low.grad_var + share * (high.grad_var - low.grad_var)
            square = low.grad_sqr + share * (high.grad_sqr - low.grad_sqr)
            gain = (variance + square) / (variance * min(self.epochs) / batch + square)
            steps.append(steps[-1] + (progress - before) / gain)
            before = progress
        return np.array(steps) * batch

    def steps(self, batch: int) -> FloatArray:
        """(epochs,) steps that were measured when each epoch was over, linear between measured batch sizes."""
        sizes = sorted(self.epochs)
        measured = [[epoch.steps for epoch in self.epochs[size][: self.last_epoch]] for size in sizes]
        columns = zip(*measured, strict=True)
        return np.array([np.interp(batch, sizes, column) for column in columns])


def packed(replicas: int, per_node: int) -> Placement:
    """On as few nodes as hold them."""
    full, rest = divmod(replicas, per_node)
    return (per_node,) * full + ((rest,) if rest else ())


class Measured:
    """The world of a trace whose jobs name an application and a batch size: `Task.model` is `application/batch`."""

    def __init__(self, applications: Mapping[str, Application], restart_s: float) -> None:
        self.applications = applications
        self._restart_s = restart_s
        self._speed = cache(self._measured)

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        """As measured where the replicas are, over what was measured for one alone."""
        counts: dict[int, int] = {}
        for slot in slots:
            counts[slot.node] = counts.get(slot.node, 0) + 1
        return self._speed(task.model, tuple(counts.values())) / self._speed(task.model, (1,))

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        """The same for a start, a change of size and a move."""
        return self._restart_s

    def batch(self, model: str) -> tuple[Application, int]:
        """The application and the batch size of a task's model."""
        name, _, batch = model.partition("/")
        return self.applications[name], int(batch)

    def _measured(self, model: str, placement: Placement) -> float:
        application, batch = self.batch(model)
        return application.speed(batch, placement)


def application(folder: Path, name: str, epochs: int, largest: int | None = None) -> Application:
    """Reads one application's folder: placements.csv, scalability.csv, validation-BATCH.csv. Raises UserError."""
    placed, by_size = _placements(folder / "placements.csv")
    for row in tables.rows(folder / "scalability.csv", ("num_nodes", "num_replicas", "local_bsz", *_TIMES)):
        key = int(row.number("num_nodes", least=1)), int(row.number("num_replicas", least=1))
        by_size.setdefault(key, {}).setdefault(int(row.number("local_bsz", least=1)), []).append(_times(row))
    spread: dict[int, dict[int, Line]] = {}
    for (nodes, replicas), times in by_size.items():
        spread.setdefault(nodes, {})[replicas] = _line(times)
    local = [samples for line in placed.values() for samples in line.samples]
    return Application(
        name, _epochs(folder, epochs), placed, spread, smallest=min(local), largest=largest or max(local),
        last_epoch=epochs,
    )  # fmt: skip


_TIMES = ("step_time", "sync_time")
_Times: TypeAlias = dict[int, list[StepTime]]  # samples -> measurements


def _placements(path: Path) -> tuple[dict[Placement, Line], dict[tuple[int, int], _Times]]:
    exact: dict[Placement, _Times] = {}
    by_size: dict[tuple[int, int], _Times] = {}
    for row in tables.rows(path, ("placement", "local_bsz", *_TIMES)):
        digits = row["placement"]
        if not digits.isdigit() or "0" in digits:
            raise row.wrong("placement", f'"{digits}" is no placement; write the GPUs on each node, as in 44')
        placement = tuple(map(int, digits))
        samples = int(row.number("local_bsz", least=1))
        for table in (
            exact.setdefault(placement, {}),
            by_size.setdefault((len(placement), sum(placement)), {}),
        ):
            table.setdefault(samples, []).append(_times(row))
    return {placement: _line(times) for placement, times in exact.items()}, by_size


def _epochs(folder: Path, epochs: int) -> dict[int, list[Epoch]]:
    found: dict[int, list[Epoch]] = {}
    columns = ("progress", "iteration", "grad_sqr", "grad_var")
    for path in sorted(folder.glob("validation-*.csv")):
        batch = path.stem.partition("-")[2]
        if batch.isdigit():
            found[int(batch)] = [
                Epoch(*(row.number(column) for column in columns)) for row in tables.rows(path, columns)
            ]
            if len(found[int(batch)]) < epochs:
                raise UserError(f"{path}: {len(found[int(batch)])} epochs are there; {epochs} are needed")
    if not found:
        raise UserError(f"{folder}: there is no validation-BATCH.csv; the work of a job is read from it")
    return found


def _times(row: tables.Row) -> StepTime:
    return StepTime(row.number("step_time"), row.number("sync_time"))


def _line(times: _Times) -> Line:
    samples = sorted(times)
    return Line(samples, [StepTime(*np.mean(times[count], axis=0).tolist()) for count in samples])


def _between(places: Sequence[float], times: Sequence[StepTime], place: float) -> StepTime:
    if len(places) == 1:
        return times[0]
    low = min(max(bisect_right(places, place) - 1, 0), len(places) - 2)
    share = (place - places[low]) / (places[low + 1] - places[low])
    before, after = times[low], times[low + 1]
    return StepTime(
        before.step_s + share * (after.step_s - before.step_s), before.sync_s + share * (after.sync_s - before.sync_s)
    )
