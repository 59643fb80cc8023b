"""A plan in the making: what is taken and given back leaves no trace, what remains is the plan."""

from __future__ import annotations

import numpy as np

from springtide.core import Cluster
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.plan import Verb
from springtide.core.reasons import Reason
from springtide.core.resources import vector
from springtide.core.snapshot import TRAINING, Slot

WHY = Reason("because of {}", (3,))


def a_world(held: int = 2) -> tuple[Cluster, int]:
    cluster = Cluster(make_nodes(np.array([vector(cpu=4, gpu=2)] * 3)))
    row = cluster.add("a", kind=TRAINING, request=vector(cpu=1), minimum=1, maximum=8)
    cluster.hold(row, [Slot(0)] * held)
    return cluster, row


def test_what_was_taken_and_given_back_is_no_action() -> None:
    cluster, row = a_world()
    draft = Draft(cluster.snapshot(0.0))
    draft.take(row, [Slot(1), Slot(2)], WHY)
    draft.give(row, [Slot(1), Slot(2)], WHY)
    assert not draft.plan()
    assert (draft.free == cluster.free).all()


def test_the_snapshot_is_never_written_to() -> None:
    cluster, row = a_world()
    free, running = cluster.free.copy(), cluster.column("running").copy()
    draft = Draft(cluster.snapshot(0.0))
    draft.take(row, [Slot(1)], WHY)
    draft.need[row] = 5
    assert (cluster.free == free).all()
    assert (cluster.column("running") == running).all()
    assert cluster.held[row] == (Slot(0), Slot(0))


def test_each_change_has_its_verb_and_reason() -> None:
    cases = [(0, [], [Slot(1)], Verb.START), (2, [], [Slot(1)], Verb.GROW), (2, [Slot(0)], [], Verb.SHRINK)]
    cases += [(2, [Slot(0)] * 2, [], Verb.SUSPEND), (2, [Slot(0)], [Slot(1)], Verb.MOVE)]
    for held, given, taken, verb in cases:
        cluster, row = a_world(held)
        draft = Draft(cluster.snapshot(0.0))
        draft.give(row, given, WHY)
        draft.take(row, taken, WHY)
        (action,) = draft.plan().actions
        assert (action.verb, action.removed, action.added) == (verb, tuple(given), tuple(taken))
        assert str(action.reason) == "because of 3"


def test_who_takes_a_place_waits_for_whoever_left_it() -> None:
    cluster, row = a_world(4)
    other = cluster.add("b", kind=TRAINING, request=vector(cpu=1))
    draft = Draft(cluster.snapshot(0.0))
    draft.give(row, [Slot(0)], WHY)
    draft.take(other, [Slot(0)], WHY)
    first, second = draft.plan().actions
    assert (first.job, first.after) == (row, ())
    assert (second.job, second.after) == (other, (row,))


def test_many_slots_at_once_are_booked_like_one_by_one() -> None:
    cluster, row = a_world(0)
    slots = [Slot(n % 3) for n in range(12)]
    together, single = Draft(cluster.snapshot(0.0)), Draft(cluster.snapshot(0.0))
    together.take(row, slots, WHY)
    for slot in slots:
        single.take(row, [slot], WHY)
    assert (together.free == single.free).all()
    assert together.plan().actions == single.plan().actions
