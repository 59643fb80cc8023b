"""The arena's words: what one process writes, every other that maps it reads; sleepers are woken."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Iterator

import pytest

from springtide.spec import SpringtideError
from springtide.train import arena as arenas
from springtide.train import futex
from springtide.train.arena import RING, Arena, Row, Shape, StepRecord
from springtide.train.protocol import Header, Kind

SHAPE = Shape(4, 3, 5, 4096, 4096, 100, 0)


@pytest.fixture
def pair() -> Iterator[tuple[Arena, Arena]]:
    """One arena, mapped twice, as by two processes."""
    descriptor = arenas.create()
    arenas.allocate(descriptor, SHAPE)
    yield Arena(descriptor, SHAPE), Arena(descriptor, SHAPE)
    os.close(descriptor)


def test_what_one_writes_the_other_reads(pair: tuple[Arena, Arena]) -> None:
    mine, theirs = pair
    header = Header(7, Kind.TRAIN, 6, 2, 1, 0, 2, 3, 5)
    mine.write_header(header)
    assert theirs.header(1) == header
    assert theirs.header(0).tick == 0
    mine.table(5).write(5, [0, 1, 2, 3], [3, 3, 1])
    assert theirs.table(5).generation == 5
    assert theirs.table(5).names(1)
    assert not theirs.table(5).names(9)
    mine.write_record(0, {"best": {"value": math.inf}})
    mine.carry_record(0)
    assert theirs.record(1) == {"best": {"value": math.inf}}
    mine.describe({"name": "run"})
    assert theirs.description() == {"name": "run"}


def test_counts_of_a_position_keep_all_their_bits(pair: tuple[Arena, Arena]) -> None:
    mine, theirs = pair
    for checksum in (0, 1 << 63, (1 << 64) - 1):
        mine.write_position(2, 9, 10, checksum, 1, {"settings": {"lr": 0.1}})
        position = theirs.position(2)
        assert (position["step"], position["samples"], position["checksum"], position["skipped"]) == (
            9,
            10,
            checksum,
            1,
        )
        assert theirs.travelling(2) == {"settings": {"lr": 0.1}}


def test_the_ring_holds_the_last_steps(pair: tuple[Arena, Arena]) -> None:
    mine, theirs = pair
    last = RING + 10
    for step in range(1, last + 1):
        mine.write_step(StepRecord(step, 100.0 + step, 1 / step, 2, 24, 1, step % 2 == 0))
        mine.stamp_step(step, 200.0 + step)
    found = list(theirs.steps_after(0, last))
    assert [record.step for record in found] == list(range(last - RING + 2, last + 1))
    assert found[-1] == StepRecord(last, 200.0 + last, 1 / last, 2, 24, 1, last % 2 == 0, True)
    assert [record.step for record in theirs.steps_after(last - 3, last)] == [last - 2, last - 1, last]


def test_what_does_not_fit_is_said_and_not_written(pair: tuple[Arena, Arena]) -> None:
    mine, theirs = pair
    mine.write_evaluation(4, {"samples": 1})
    with pytest.raises(SpringtideError, match=r"bytes of many do not fit into"):
        mine.write_evaluation(4, {"many": "x" * 2000})
    assert theirs.evaluation(4) == {"samples": 1}


def test_sleepers_are_woken_and_a_bell_that_rang_is_not_slept_through(pair: tuple[Arena, Arena]) -> None:
    mine, theirs = pair
    seen = mine.bell()
    woken = threading.Event()

    def sleep() -> None:
        while mine.bell() == seen:
            mine.sleep(seen, 60.0)
        woken.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    theirs.ring(77)
    assert woken.wait(30)
    sleeper.join()
    mine.sleep(seen)  # the bell is another already: this returns at once
    before = mine.rows[3][Row.WAKE]
    theirs.summon(3)
    mine.park(3, before)


def test_a_sleep_may_end_by_itself(pair: tuple[Arena, Arena]) -> None:
    mine, _ = pair
    mine.sleep(mine.bell(), 0.01)
    mine.look_on(mine.watch(), 0.01)


def test_pages_can_be_mapped_ahead() -> None:
    memory = mmap.mmap(-1, 1 << 20)
    assert futex.populate(futex.address_of(memory), 1 << 20) in (True, False)
    assert memory[:8] == bytes(8)
    memory[:5] = b"still"
    futex.populate(futex.address_of(memory), 1 << 20, write=False)
    assert memory[:5] == b"still"
