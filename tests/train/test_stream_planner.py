"""The planner on a real stream and a real log: where it goes on, what it takes back, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from springtide.data.streams import Stream, open_stream
from springtide.data.streams.source import Rules
from springtide.spec import SpringtideError, UserError
from springtide.train import planner
from springtide.train.planner import AHEAD, Planner, Task
from springtide.train.protocol import UNLIMITED
from springtide.train.step_reader import Reader

Plans = Callable[[Task], Planner]


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    made = open_stream(f"log://{tmp_path}/records", create=True, sync="os")
    made.append([b"{}"] * 500)
    yield made
    made.close()


@pytest.fixture
def task(stream: Stream, tmp_path: Path) -> Task:
    return Task(Rules(stream.url), 10, UNLIMITED, tmp_path / "steps.log", "run")


@pytest.fixture
def plans() -> Iterator[Plans]:
    """Each new planner is there after the death of the one before."""
    living = list[Planner]()

    def plan(task: Task) -> Planner:
        if living:
            living.pop().close()
        living.append(Planner(task, lambda _: None))
        living[0].advance(max(task.step, task.handed_out))
        return living[0]

    yield plan
    living.pop().close()


def ranges(task: Task, step: int) -> tuple[tuple[int, int, int], ...]:
    found = Reader(task.log).entry(step)
    assert found is not None
    return found.ranges


def test_all_that_is_there_is_planned_but_not_too_far(task: Task, stream: Stream, plans: Plans) -> None:
    one = plans(task)
    assert one.planned == 50 and one.advance(0) is False
    stream.append([b"{}"] * 1000)
    assert one.advance(0) is False, "enough is planned until more steps are made"
    assert one.advance(20) is True and one.planned == 20 + AHEAD


def test_after_a_death_the_next_one_goes_on_with_the_same_log(task: Task, stream: Stream, plans: Plans) -> None:
    plans(task)
    before = task.log.read_bytes()
    stream.append([b"{}"] * 10)
    assert plans(replace(task, handed_out=50)).planned == 51
    assert task.log.read_bytes().startswith(before)


def test_a_resumed_run_takes_the_steps_that_were_planned_for_it(task: Task, plans: Plans) -> None:
    plans(task)
    before = task.log.read_bytes()
    assert plans(replace(task, step=30, offsets={0: 300}, samples=300)).planned == 50
    assert task.log.read_bytes() == before


def test_steps_with_records_that_are_quarantined_now_are_planned_anew(task: Task, tmp_path: Path, plans: Plans) -> None:
    plans(task)
    (tmp_path / "q.json").write_text(json.dumps({"0": [[405, 415]]}))
    rules = replace(task.rules, quarantine=str(tmp_path / "q.json"))
    again = replace(task, rules=rules, step=30, offsets={0: 300}, samples=300)
    assert plans(again).planned == 49
    assert [ranges(again, step) for step in (40, 41, 42)] == [
        ((0, 390, 400),), ((0, 400, 405), (0, 415, 420)), ((0, 420, 430),)
    ]  # fmt: skip


def test_what_workers_may_have_seen_is_never_taken_back(task: Task, tmp_path: Path, plans: Plans) -> None:
    plans(task)
    before = task.log.read_bytes()
    (tmp_path / "q.json").write_text(json.dumps({"0": [[405, 415]]}))
    rules = replace(task.rules, quarantine=str(tmp_path / "q.json"))
    assert plans(replace(task, rules=rules, handed_out=50)).planned == 50
    assert task.log.read_bytes() == before


@pytest.mark.parametrize("changed", [{"run_id": "another"}, {"offsets": {0: 290}}, {"step": 60, "offsets": {0: 300}}])
def test_a_log_that_does_not_lead_to_the_checkpoint_is_begun_anew_there(
    task: Task, plans: Plans, changed: dict[str, object]
) -> None:
    plans(task)
    resumed = replace(task, **{"step": 30, "offsets": {0: 300}, "samples": 300, **changed})  # type: ignore[arg-type]
    plans(resumed)
    begun = Reader(task.log).beginning()
    assert begun is not None and (begun.step, begun.offsets) == (resumed.step, resumed.offsets)
    assert resumed.offsets is not None
    assert ranges(task, resumed.step + 1) == ((0, resumed.offsets[0], resumed.offsets[0] + 10),)


def test_an_end_that_was_said_stays_the_end(task: Task, stream: Stream, plans: Plans) -> None:
    stream.seal()
    assert plans(task).last == 50
    assert plans(replace(task, handed_out=50, last=50)).over


def test_a_stream_that_was_made_anew_is_refused(task: Task, plans: Plans) -> None:
    with pytest.raises(UserError, match=r"partition 0 ends at 500, and the run is at 700 already"):
        plans(replace(task, step=70, offsets={0: 700}))


def test_two_do_not_plan_at_once(task: Task, plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "_LEASE_SECONDS", 0.0)
    plans(task)
    with pytest.raises(SpringtideError, match="is written by another process"):
        Planner(task, lambda _: None).advance(0)


def test_time_ends_a_run_though_much_is_planned(task: Task, plans: Plans) -> None:
    one = plans(replace(task, rules=replace(task.rules, seconds=3600.0), began=0.0))
    assert (one.planned, one.last) == (50, 1)
