"""Histories of workers that come, go and die, and what the supervisor makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.train import membership
from springtide.train.membership import (
    Assign,
    Dismiss,
    Event,
    Instruction,
    Kill,
    Phase,
    Propose,
    SetMain,
    SizeWanted,
    SpeedsMeasured,
    Start,
    Summon,
    TableAdopted,
    TimePassed,
    WorkerLost,
    WorkerReady,
)  # fmt: skip
from springtide.train.protocol import NOBODY

_ENDING = (Phase.LEAVING, Phase.DOOMED)


@dataclass
class History:
    """A membership with what has been decided so far."""

    wanted: int = 2
    blocks: int = 4
    chunks: int = 4
    now: float = 0.0
    out: list[Instruction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = membership.empty(self.wanted, self.blocks, (1,) * self.chunks)

    def comes(self, *events: Event) -> list[Instruction]:
        """What the last of the events brought."""
        out: list[Instruction] = []
        for event in events:
            before = self.state
            self.state, out = membership.advance(before, event, self.now)
            self.out += out
            _holds(before, self.state, event, out)
        return out

    def begun(self) -> History:
        """All who were wanted work."""
        self.comes(TimePassed(), *(WorkerReady(worker) for worker in range(self.wanted)))
        return self

    def adopt(self) -> list[Instruction]:
        return self.comes(TableAdopted(self.state.generation))

    @property
    def newest(self) -> membership.Table:
        return self.state.tables[self.state.generation]


def _holds(before: membership.Membership, after: membership.Membership, event: Event, out: list[Instruction]) -> None:
    """Laws of every single decision."""
    living = set(before.members) - ({event.worker} if isinstance(event, WorkerLost) else set())
    for made in out:
        if isinstance(made, Assign):
            table = before.tables[made.generation]
            touched = {table.blocks[i] for i in made.blocks} | {table.chunks[i] for i in made.chunks}
            heirs = {*made.blocks.values(), *made.chunks.values()}
            assert not touched & living or touched & living <= heirs, "nobody alive loses anything"
            assert heirs <= living
        if isinstance(made, Propose):
            assert made.generation == before.generation + 1 == before.adopted + 1 or isinstance(event, TableAdopted)
            assert made.table.named() <= living
    named = {worker for table in after.tables.values() for worker in table.named()}
    for worker, phase in after.members.items():
        if phase == Phase.LEAVING:
            assert worker not in named, "whoever may leave is named by no table"
        if worker in named:
            assert phase in (Phase.WORKING, Phase.DOOMED)
    if any(isinstance(made, Kill) for made in out):
        assert isinstance(event, SizeWanted) and event.now
    started = {made.worker for made in out if isinstance(made, Start)}
    assert not started & (living | named), "a row is used again only when nothing names it"
    assert len(after.tables) <= 2


def test_the_first_table_waits_for_those_who_are_starting() -> None:
    history = History()
    history.comes(TimePassed(), WorkerReady(0))
    assert NOBODY in history.newest.named()
    history.comes(WorkerReady(1))
    assert history.newest.blocks == (0, 0, 1, 1)


def test_the_first_table_does_not_wait_for_ever() -> None:
    history = History()
    history.comes(TimePassed(), WorkerReady(0))
    history.now += membership.GATHER_SECONDS
    history.comes(TimePassed())
    assert history.newest.named() == {0}


def test_a_parked_worker_takes_all_that_was_the_deads() -> None:
    history = History().begun()
    history.comes(WorkerReady(2))
    out = history.comes(WorkerLost(0))
    assert Assign(0, {0: 2, 1: 2}, {0: 2, 1: 2}) in out and Summon(2) in out


def test_without_a_parked_worker_the_survivors_share() -> None:
    history = History(wanted=3, blocks=6).begun()
    out = history.comes(WorkerLost(2))
    assert Assign(0, {4: 0, 5: 1}, {3: 0}) in out or any(isinstance(made, Assign) for made in out)
    assert history.newest.named() == {0, 1}


def test_when_all_are_dead_the_next_one_that_is_ready_takes_everything() -> None:
    history = History().begun()
    history.comes(WorkerLost(0), WorkerLost(1))
    assert history.newest.named() == {1}, "nobody is left to take it"
    history.comes(WorkerReady(2))
    assert history.newest.named() == {2}
    assert history.state.main == 2


def test_all_may_die_while_a_table_is_proposed() -> None:
    history = History(wanted=1).begun()
    history.comes(WorkerReady(1), SizeWanted(2))
    assert set(history.state.tables) == {0, 1}
    history.comes(WorkerLost(0), WorkerLost(1))
    history.comes(WorkerReady(2))
    assert all(table.named() == {2} for table in history.state.tables.values())


def test_an_heir_that_dies_before_it_acts_has_heirs_of_its_own() -> None:
    history = History().begun()
    history.comes(WorkerReady(2), WorkerLost(0), WorkerLost(2))
    assert history.newest.named() == {1}


def test_a_second_table_waits_until_the_first_is_in_force() -> None:
    history = History(wanted=1).begun()
    history.comes(WorkerReady(1), SizeWanted(2), SizeWanted(1))
    assert history.state.generation == 1
    history.adopt()
    assert history.state.generation == 2 and history.newest.named() == {0}


def test_who_leaves_is_dismissed_only_when_no_tick_names_him_any_more() -> None:
    history = History().begun()
    history.comes(SizeWanted(1))
    assert not any(isinstance(made, Dismiss) for made in history.out)
    assert Dismiss(1) in history.adopt()


def test_at_a_hand_over_those_beyond_are_killed_and_the_others_do_what_was_theirs() -> None:
    history = History(wanted=3, blocks=6).begun()
    history.comes(WorkerReady(3))
    assert history.comes(SizeWanted(1, now=True)) == [Kill((1, 2), "workers 1, 2 left at once")]
    assert history.newest.named() == {0, 1, 2}, "nothing passes on before they are confirmed dead"
    history.comes(WorkerLost(1))
    history.comes(WorkerLost(2))
    assert history.newest.named() == {0}
    assert history.state.working == (0,) and history.state.in_phase(Phase.PARKED) == (3,)


def test_a_hand_over_kills_the_warm_beyond_the_spares() -> None:
    history = History(wanted=1).begun()
    history.comes(WorkerReady(1), SizeWanted(3), WorkerReady(2), WorkerReady(3))
    parked = history.state.in_phase(Phase.PARKED)
    assert len(parked) > 1
    (kill,) = [made for made in history.comes(SizeWanted(1, now=True)) if isinstance(made, Kill)]
    assert set(parked[1:]) <= set(kill.workers)


def test_main_stays_when_others_leave_and_passes_on_when_it_dies() -> None:
    history = History(wanted=3).begun()
    assert history.state.main == 0
    assert SetMain(1) in history.comes(WorkerLost(0))
    history.comes(SizeWanted(1))
    assert history.newest.named() == {1}


@pytest.mark.parametrize(("wanted", "blocks", "chunks"), [(4, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 1)])
def test_more_workers_than_items_come_to_rest(wanted: int, blocks: int, chunks: int) -> None:
    history = History(wanted=wanted, blocks=blocks, chunks=chunks).begun()
    history.comes(WorkerReady(wanted))
    for _ in range(4):
        history.adopt()
    assert not history.adopt() and not history.comes(TimePassed())
    assert not any(isinstance(made, Dismiss) for made in history.out)


def test_shares_follow_speed_look_after_look() -> None:
    history = History(blocks=8).begun()
    fast = SpeedsMeasured({0: 3.0, 1: 1.0})
    assert history.comes(fast) == [] == history.comes(fast)
    (proposed,) = history.comes(fast)
    assert isinstance(proposed, Propose) and proposed.table.blocks.count(0) == 6


def test_nobody_is_balanced_out_of_work() -> None:
    history = History(blocks=2, chunks=1).begun()
    for _ in range(5):
        assert not history.comes(SpeedsMeasured({0: 100.0, 1: 1.0}))


@given(st.dictionaries(st.integers(0, 9), st.floats(0.01, 100), min_size=1, max_size=5), st.integers(1, 5))
def test_no_other_count_of_items_is_faster_than_the_fastest(speeds: dict[int, float], items: int) -> None:
    owners = membership.fastest(speeds, items)
    took = max(owners.count(worker) / speed for worker, speed in speeds.items())
    assert len(owners) == items
    lower = items / sum(speeds.values())
    assert took >= lower * (1 - 1e-9)
    for worker in set(owners):
        for other in speeds:
            if other != worker and owners.count(worker) / speeds[worker] == took:
                assert (owners.count(other) + 1) / speeds[other] >= took * (1 - 1e-9), "moving one item helps nobody"


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_chunks_are_dealt_in_runs_of_neighbours(weights: list[int], workers: int) -> None:
    owners = membership.deal_weighted(dict.fromkeys(range(workers), 1.0), weights)
    assert len(owners) == len(weights) and owners == sorted(owners) and set(owners) <= set(range(workers))


@settings(max_examples=300)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.data())
def test_after_any_history_those_who_live_do_everything(
    wanted: int, blocks: int, chunks: int, data: st.DataObject
) -> None:
    history = History(wanted=wanted, blocks=blocks, chunks=chunks)
    history.comes(TimePassed())
    for _ in range(data.draw(st.integers(0, 25))):
        members = history.state.members
        starting = [worker for worker, phase in members.items() if phase == Phase.STARTING]
        size = SizeWanted(data.draw(st.integers(1, 4)), data.draw(st.booleans()))
        choices: list[Event] = [size, TableAdopted(history.state.generation)]
        choices += [WorkerLost(worker) for worker in members] + [WorkerReady(worker) for worker in starting] * 2
        history.comes(data.draw(st.sampled_from(choices)))
    history.now += 2 * membership.GATHER_SECONDS
    for _ in range(12):
        ready = [WorkerReady(worker) for worker in history.state.in_phase(Phase.STARTING)]
        gone = [WorkerLost(worker) for phase in _ENDING for worker in history.state.in_phase(phase)]
        history.comes(*ready, *gone, TimePassed())
        history.adopt()
    working = history.state.working
    assert history.newest.named() == set(working) and history.state.generation == history.state.adopted
    assert history.state.main in working
    assert len(working) <= history.state.wanted
    assert history.comes(TimePassed()) == [], "and then it is still"
