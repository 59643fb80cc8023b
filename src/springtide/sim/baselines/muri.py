"""Shortest remaining time or service first, and Muri-S, which packs up to four jobs of a size by their stage times.

Zhao et al., Multi-resource interleaving for deep learning training, SIGCOMM'22. All decide anew whenever a job arrives
or ends, with the whole pool to give away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from springtide.core import Plan, Snapshot, seats
from springtide.core.complements import MOST, Stages, iteration_s, stages_of
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, FloatArray, IntArray
from springtide.core.snapshot import GONE
from springtide.sim.trace import Trace

RUNS = Reason("its turn by what remains of it")
Kind = tuple[Stages, ...]  # a pack by the stage times of its jobs, sorted


class Shortest:
    """Whoever has least left goes first; what does not fit is passed over."""

    def __init__(self, name: str, left: Callable[[Draft, IntArray], FloatArray]) -> None:
        self.name = name
        self._left = left

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        rows = np.flatnonzero(draft.jobs.kind != GONE)
        order = rows[np.lexsort((rows, draft.jobs.submitted_s[rows], self._left(draft, rows)))]
        seats.settle(draft, order, self.groups(draft, order), (RUNS, RUNS))
        return draft.plan()

    def groups(self, draft: Draft, order: IntArray) -> list[list[int]]:
        """Who runs, alone."""
        room = float(seats.free_devices(draft, order))
        return [group for group, _ in _that_fit([([row], _gpus(draft, row)) for row in order.tolist()], room)]


class MuriS(Shortest):
    """The first in line with the next three of their size as candidates, paired until they fit."""

    def groups(self, draft: Draft, order: IntArray) -> list[list[int]]:
        """Packs of up to four, matched for the highest use of all resources."""
        room = float(seats.free_devices(draft, order))
        packs = _candidates(draft, order, room)
        asked = sum(gpus * len(of_size) for gpus, of_size in packs.items())
        for _ in range(MOST):
            if asked <= room:
                break
            for gpus, of_size in packs.items():
                merged = []
                for first, second in _matched(draft, of_size):
                    if second is None:
                        merged.append(of_size[first])
                    elif asked > room:
                        merged.append(of_size[second] + of_size[first])
                        asked -= gpus
                    else:
                        merged += [of_size[second], of_size[first]]
                packs[gpus] = merged
        largest = sorted(packs, reverse=True)
        return [group for group, _ in _that_fit([(pack, gpus) for gpus in largest for pack in packs[gpus]], room)]


def srtf(trace: Trace) -> Shortest:
    """Shortest remaining time first."""
    return Shortest("srtf", lambda draft, rows: draft.jobs.remaining_s[rows] / draft.need[rows])


def srsf(trace: Trace) -> Shortest:
    """Shortest remaining service first: time times GPUs."""
    return Shortest("srsf", _service)


def muri_s(trace: Trace) -> Shortest:
    """Muri with known durations."""
    return MuriS("muri-s", _service)


def _service(draft: Draft, rows: IntArray) -> FloatArray:
    left: FloatArray = draft.jobs.remaining_s[rows] * draft.snapshot.shapes.request[draft.jobs.shape[rows], GPU]
    return left


def _gpus(draft: Draft, row: int) -> float:
    return float(draft.request(row)[GPU]) * float(draft.need[row])


def _that_fit(groups: list[tuple[list[int], float]], room: float) -> list[tuple[list[int], float]]:
    kept = []
    for group, gpus in groups:
        if gpus <= room:
            kept.append((group, gpus))
            room -= gpus
    return kept


def _candidates(draft: Draft, order: IntArray, room: float) -> dict[float, list[list[int]]]:
    """By size: each job that fits brings the next three of its size, as many as could share its GPUs."""
    of_size: dict[float, list[int]] = {}
    for row in order.tolist():
        of_size.setdefault(_gpus(draft, row), []).append(row)
    chosen = dict.fromkeys(of_size, 0)
    place = dict.fromkeys(of_size, 0)
    for row in order.tolist():
        gpus = _gpus(draft, row)
        place[gpus] += 1
        if place[gpus] > chosen[gpus] and gpus <= room:
            room -= gpus
            chosen[gpus] = min(chosen[gpus] + MOST, len(of_size[gpus]))
    return {gpus: [[row] for row in rows[: chosen[gpus]]] for gpus, rows in of_size.items()}


@lru_cache(maxsize=1 << 18)
def _use(one: Kind, other: Kind) -> float:
    """Share of the four resources that is used when two packs become one; below 0 if it would be too large."""
    if len(one) + len(other) > MOST:
        return -1e3
    together = tuple(sorted(one + other))
    return sum(map(sum, together)) / (MOST * iteration_s(together))


def _matched(draft: Draft, packs: list[list[int]]) -> list[tuple[int, int | None]]:
    """Pairs (later, earlier) of packs in the order of the later, near the highest total use; None beside one alone."""
    if len(packs) < 2:
        return [(at, None) for at in range(len(packs))]
    members: dict[Kind, list[int]] = {}
    for at, pack in enumerate(packs):
        kind = tuple(sorted(stages_of(draft.jobs.stages[row]) for row in pack))
        members.setdefault(kind, []).append(at)
    kinds = list(members)
    use = np.zeros((len(kinds) + 1, len(kinds) + 1))  # the last kind stands for nobody
    for i, one in enumerate(kinds):
        for j, other in enumerate(kinds[: i + 1]):
            use[i, j] = use[j, i] = _use(one, other)
    queues = [iter(at) for at in members.values()]
    pairs: list[tuple[int, int | None]] = []
    for a, b, count in _exchanged(use, _greedy(use, [len(at) for at in members.values()])):
        for _ in range(count):
            first = next(queues[a])
            second = next(queues[b]) if b < len(kinds) else None
            pairs.append((first, None) if second is None else (max(first, second), min(first, second)))
    return sorted(pairs, key=lambda pair: pair[0])


def _greedy(use: FloatArray, left: list[int]) -> dict[tuple[int, int], int]:
    """(kind, kind) -> how many pairs: the best pair first, as often as there are packs for it."""
    nobody = len(left)
    found: dict[tuple[int, int], int] = {}
    first, second = np.triu_indices(nobody)
    for at in np.argsort(-use[first, second], kind="stable").tolist():
        a, b = int(first[at]), int(second[at])
        count = left[a] // 2 if a == b else min(left[a], left[b])
        if count and use[a, b] > 0:
            found[a, b] = count
            left[a] -= count
            left[b] -= count
    return found | {(a, nobody): count for a, count in enumerate(left) if count}


def _exchanged(use: FloatArray, pairs: dict[tuple[int, int], int]) -> list[tuple[int, int, int]]:
    """Pairs exchange partners while that raises the total: near the maximum matching, which Muri finds by blossoms."""
    nobody = len(use) - 1
    for _ in range(100 * len(use)):
        names = list(pairs)
        a, b = (np.array([name[side] for name in names], dtype=np.int64) for side in (0, 1))
        now = use[a, b][:, None] + use[a, b][None, :]
        straight = use[a[:, None], a] + use[b[:, None], b] - now
        crossed = use[a[:, None], b] + use[b[:, None], a] - now
        single = np.array([pairs[name] < 2 for name in names])
        at = np.arange(len(names))
        straight[at[single], at[single]] = crossed[at, at] = -1.0
        i, j = divmod(int(np.argmax(np.maximum(straight, crossed))), len(names))
        if max(straight[i, j], crossed[i, j]) <= 1e-12:
            break
        (p, q), (r, s) = names[i], names[j]
        count = pairs[names[i]] // 2 if i == j else min(pairs[names[i]], pairs[names[j]])
        pairs[names[i]] -= count
        pairs[names[j]] -= count
        for new in ((p, r), (q, s)) if straight[i, j] >= crossed[i, j] else ((p, s), (q, r)):
            name = min(new), max(new)
            if name[0] != nobody:
                pairs[name] = pairs.get(name, 0) + count
        pairs = {name: count for name, count in pairs.items() if count}
    return [(*name, count) for name, count in pairs.items()]
