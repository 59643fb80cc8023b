"""A loop as jobs: what each is told, what is judged as what, and that day and night are the planner's own matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from springtide.core import plan
from springtide.engines.engine import LoadSeen
from springtide.pool.picture import Picture
from springtide.pool.records import JobRecord
from springtide.serve.judging import GateRule, Scores, Slice, Verdict, judge
from springtide.serve.loop import expansion
from springtide.serve.loop.circle import Outcome
from springtide.serve.loop.expansion import Ground
from springtide.serve.loop.verdict import rule, understood
from springtide.spec import Kind, Load, Node, Pool, Priority, Range, Resources
from springtide.spec.files import jobs_from_text, to_json
from springtide.spec.loop import Gate, Loop, Serving, Training
from springtide.spec.resources import UNLIMITED

GROUND = Ground(Path("/home/tide"), "/home/tide/pool/pool.sock")
LOOP = Loop(
    name="words", build="model:build", folder="/code",
    train=Training(script="/code/train.py", workers=Range(1, 7), environment={"MODE": "fast"}),
    serve=Serving(port=8080, replicas=Range(1, 6), load=Load(requests_per_second=10.0, headroom=0.0)),
)  # fmt: skip


def test_its_jobs_are_ordinary_ones_that_the_pool_can_be_sent() -> None:
    found = expansion.jobs(LOOP, GROUND, generation=3, serving=True)
    kinds = {job.name: job.kind for job in found}
    assert kinds == {
        "words-serve": Kind.SERVICE, "words-train": Kind.TRAINING, "words-prepare": Kind.STREAM,
        "words-circle": Kind.STREAM,
    }  # fmt: skip
    for job in found:
        assert jobs_from_text(to_json(job)) == [job]
        assert job.labels == {"loop": "words"}


def test_nothing_is_served_before_there_is_a_version_to_serve() -> None:
    assert "words-serve" not in [job.name for job in expansion.jobs(LOOP, GROUND, generation=0, serving=False)]


def test_training_is_told_its_stream_what_to_skip_and_where_its_generation_begins() -> None:
    train = expansion.train(LOOP, GROUND, generation=3)
    assert train.environment == {
        "MODE": "fast", "TIDE_LOOP": "words", "TIDE_LOOP_STREAM": "log:///home/tide/loops/words/streams/training",
        "TIDE_LOOP_HELD_OUT": "log:///home/tide/loops/words/streams/held-out", "TIDE_LOOP_GENERATION": "3",
        "TIDE_LOOP_QUARANTINE": "/home/tide/loops/words/generations/3/quarantine.json",
    }  # fmt: skip
    assert train.checkpoint.folder == "/home/tide/loops/words/checkpoints/3"
    assert train.priority is Priority.EXPERIMENT


def test_requests_go_to_the_source_that_is_named() -> None:
    assert expansion.serve(LOOP, GROUND).requests == "log:///home/tide/loops/words/streams/requests"
    named = replace(LOOP, source="kafka://broker:9092/asked")
    assert expansion.serve(named, GROUND).requests == "kafka://broker:9092/asked"


def test_by_day_the_service_grows_and_training_shrinks_and_by_night_the_reverse() -> None:
    pool = Pool(nodes=(Node(name="a", resources=replace(UNLIMITED, cpu=9, gpu=0.0)),), scale_down_s=60.0)
    shown = Picture(pool)
    records = {
        job.name: JobRecord(id=f"{job.name}-1", job=replace(job, resources=_whole(job.resources)), submitted_s=0.0)
        for job in expansion.jobs(LOOP, GROUND, generation=0, serving=True)
    }
    now_s = 1_800_000_000.0
    for record in records.values():
        shown.sync(record, now_s)

    def sizes(load: float, at_s: float) -> tuple[int, int]:
        shown.observed(records["words-serve"], LoadSeen(load, "requests"), at_s)
        shown.apply(plan(shown.snapshot(at_s)), at_s)
        held = [len(shown.cluster.held[shown.row(f"words-{part}-1") or 0]) for part in ("serve", "train")]
        return held[0], held[1]

    night = sizes(5.0, now_s)
    day = sizes(55.0, now_s + 3600.0)
    sizes(5.0, now_s + 7200.0)
    again = sizes(5.0, now_s + 7300.0)
    assert night[0] == 1 and night[1] >= 4
    assert day == (6, 1)
    assert again[0] == 1 and again[1] >= 4


def _whole(asked: Resources) -> Resources:
    return Resources(cpu=max(1.0, asked.cpu))


def verdict(candidate: Scores, production: Scores | None, **said: object) -> Verdict:
    return judge(candidate, production, GateRule(least_count=20, margin=0.02, **said))  # type: ignore[arg-type]


def scores(accuracy: float, count: int = 100, **slices: float) -> Scores:
    return Scores({"accuracy": accuracy}, count, {name: Slice({"accuracy": one}, 50) for name, one in slices.items()})


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (verdict(scores(0.9), scores(0.9)), Outcome.PROMOTED),
        (verdict(scores(0.8), scores(0.9)), Outcome.REFUSED),
        (verdict(scores(float("nan")), scores(0.9)), Outcome.REFUSED),
        (verdict(scores(0.9, old=0.5), scores(0.9, old=0.9), slices=("old",)), Outcome.REFUSED),
        (verdict(scores(0.8, count=19), scores(0.9)), Outcome.WAITING),
        (verdict(scores(0.5), None, bound=0.8), Outcome.WAITING),
        (verdict(scores(0.5), scores(0.4), bound=0.8), Outcome.WAITING),
        (verdict(scores(0.9, old=0.9), scores(0.9, old=0.9), slices=("old",), slice_least_count=60), Outcome.WAITING),
    ],
)
def test_only_what_is_worse_than_production_on_enough_records_is_refused(said: Verdict, outcome: Outcome) -> None:
    assert understood(said).outcome is outcome


def test_a_verdict_keeps_its_numbers() -> None:
    assert understood(verdict(scores(0.8), scores(0.9))).numbers == {
        "records": 100.0, "accuracy": 0.8, "production accuracy": 0.9,
    }  # fmt: skip


def test_records_of_the_loops_own_file_are_a_slice_on_which_nothing_may_be_worse() -> None:
    with_file = replace(LOOP, gate=Gate(data="/code/held_out.jsonl", slices=("english",)))
    assert rule(with_file, "/judged.jsonl").slices == ("english", "fixed")
    assert rule(LOOP, "/judged.jsonl").slices == ()
