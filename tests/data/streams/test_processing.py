"""Records in, records out, each exactly once, whoever is killed while it is done."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import a_log, ended, forked, kill

from running import wait_until
from springtide.data.streams import Join, Record, open_stream, process, processing
from springtide.data.streams.leases import share
from springtide.data.streams.listing import stat
from springtide.data.streams.log import LogStream
from springtide.data.streams.sinks import LogSink
from springtide.spec import SpringtideError, UserError


def records(log: LogStream) -> list[dict[str, Any]]:
    """All of all partitions."""
    found = []
    for partition, bounds in log.bounds().items():
        offset = bounds.first
        while more := log.read(partition, offset):
            found += [json.loads(record.value) for record in more]
            offset = more[-1].offset + 1
    return found


def of(url: str) -> list[dict[str, Any]]:
    log = open_stream(url)
    assert isinstance(log, LogStream)
    found = records(log)
    log.close()
    return found


def fill(log: LogStream, count: int, first: int = 0) -> None:
    partitions = len(log.bounds())
    for partition in range(partitions):
        mine = [b'{"id": %d}' % at for at in range(first, first + count) if at % partitions == partition]
        log.append(mine, partition=partition)


@pytest.fixture
def source(tmp_path: Path) -> LogStream:
    return a_log(tmp_path / "source", 2, sync="os")


def test_each_record_goes_through_the_function_to_the_sink(source: LogStream, tmp_path: Path) -> None:
    fill(source, 2000)
    source.seal()
    done = process(source.url, f"log://{tmp_path}/sink", lambda record: {"id": record["id"], "twice": 2 * record["id"]})
    assert (done.read, done.written) == (2000, {"": 2000})
    found = of(f"log://{tmp_path}/sink")
    assert sorted(found, key=lambda one: one["id"]) == [{"id": at, "twice": 2 * at} for at in range(2000)]


def test_a_function_may_make_nothing_or_several_for_several_sinks(source: LogStream, tmp_path: Path) -> None:
    fill(source, 100)
    source.seal()

    def split(record: dict[str, Any]) -> Any:
        if record["id"] % 10 == 0:
            return "held-out", record
        return [("train", record), ("train", record)] if record["id"] % 2 else None

    sinks = {"train": f"log://{tmp_path}/train", "held-out": f"log://{tmp_path}/held-out"}
    done = process(source.url, sinks, split)
    assert done.written == {"train": 100, "held-out": 10}
    assert Counter(one["id"] for one in of(sinks["train"])) == {at: 2 for at in range(100) if at % 2}
    assert [one["id"] for one in of(sinks["held-out"])] == list(range(0, 100, 10))


def test_what_was_done_is_not_done_again(source: LogStream, tmp_path: Path) -> None:
    sink = f"log://{tmp_path}/sink"
    fill(source, 100)
    for _ in range(2):
        process(source.url, sink, lambda record: record, idle_seconds=0.1)
    fill(source, 50, first=100)
    assert process(source.url, sink, lambda record: record, idle_seconds=0.1).read == 50
    assert sorted(one["id"] for one in of(sink)) == list(range(150))


def test_two_processors_of_one_sink_have_each_their_own_progress(source: LogStream, tmp_path: Path) -> None:
    fill(source, 100)
    for name in ("a", "b"):
        process(source.url, f"log://{tmp_path}/sink", lambda record: record, name=name, idle_seconds=0.1)
    assert Counter(one["id"] for one in of(f"log://{tmp_path}/sink")) == dict.fromkeys(range(100), 2)


def test_latest_begins_with_what_comes_and_stays_there(source: LogStream, tmp_path: Path) -> None:
    sink = f"log://{tmp_path}/sink"
    fill(source, 100)
    process(source.url, sink, lambda record: record, start="latest", idle_seconds=0.1)
    fill(source, 10, first=100)
    process(source.url, sink, lambda record: record, start="latest", idle_seconds=0.1)
    assert sorted(one["id"] for one in of(sink)) == list(range(100, 110))


def test_progress_outlives_the_retention_of_the_sink(source: LogStream, tmp_path: Path) -> None:
    sink = a_log(tmp_path / "sink", sync="os", segment=4096, retain_bytes=9000)
    for first in range(0, 3000, 500):
        fill(source, 500, first)
        assert process(source.url, sink.url, lambda record: record, idle_seconds=0.05).read == 500
    assert sink.bounds()[0].first > 0
    assert sink.bounds()[0].end == 3000
    sink.close()


def test_a_record_that_cannot_be_processed_is_named_or_skipped(source: LogStream, tmp_path: Path) -> None:
    fill(source, 10)
    source.append([b"no json"], partition=0)
    sink = f"log://{tmp_path}/sink"
    with pytest.raises(SpringtideError, match=r"record 5 of partition 0 could not be processed \(JSONDecodeError: "):
        process(source.url, sink, lambda record: record, idle_seconds=0.1)
    done = process(source.url, sink, lambda record: record, on_bad="skip", idle_seconds=0.1)
    assert done.bad == 1
    assert sorted(one["id"] for one in of(sink)) == list(range(10))


@pytest.mark.parametrize(
    ("sink", "function", "said"),
    [
        ({}, lambda record: record, "there is no sink"),
        ({"a": "log:///a", "b": "log:///a"}, lambda record: record, "log:///a is named twice"),
    ],
)
def test_sinks_that_make_no_sense_are_one_sentence(sink: Any, function: Any, said: str, source: LogStream) -> None:
    with pytest.raises(UserError, match=said):
        process(source.url, sink, function)


def test_results_that_make_no_sense_are_one_sentence(source: LogStream, tmp_path: Path) -> None:
    fill(source, 2)
    sinks = {"a": f"log://{tmp_path}/a", "b": f"log://{tmp_path}/b"}
    for made, said in (
        (("c", {}), 'no sink "c"; return'),
        ({}, "does not say for which sink"),
        (7, "int was returned"),
    ):
        with pytest.raises(UserError, match=said):
            process(source.url, sinks if made != 7 else f"log://{tmp_path}/c", lambda _, made=made: made)


def test_a_killed_processor_writes_each_record_once(tmp_path: Path) -> None:
    kill_processors(tmp_path, rounds=12, seed=random.randrange(10**6))


@pytest.mark.parametrize("dies_before", [True, False])
def test_a_processor_that_dies_between_its_sinks_writes_each_record_once(dies_before: bool, tmp_path: Path) -> None:
    """At each write to a sink in turn, before it or just after it."""
    source = a_log(tmp_path / "source", sync="os")
    sinks = {name: f"log://{tmp_path}/{name}" for name in ("a", "b", "c")}
    for name in sinks:
        a_log(tmp_path / name, sync="os").close()
    put = LogSink.put

    def die_at(writes: int) -> None:
        left = itertools.count(writes, -1)

        def dying(self: LogSink, *words: Any) -> None:
            last = next(left) == 0
            if not (last and dies_before):
                put(self, *words)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        LogSink.put = dying  # type: ignore[method-assign]
        process(source.url, sinks, lambda record: [(name, record) for name in sinks])

    for round_number in range(12):
        fill(source, 1000, 1000 * round_number)
        assert ended(forked(lambda writes=round_number % 6: die_at(writes))) == -signal.SIGKILL
    source.seal()
    process(source.url, sinks, lambda record: [(name, record) for name in sinks])
    for url in sinks.values():
        assert [one["id"] for one in of(url)] == list(range(12_000))
    source.close()


@pytest.mark.slow
def test_a_killed_processor_writes_each_record_once_in_100_rounds(tmp_path: Path) -> None:
    for part in range(5):
        kill_processors(tmp_path / str(part), rounds=20, seed=random.randrange(10**6))


def kill_processors(folder: Path, rounds: int, seed: int) -> None:
    """Two replicas with three sinks, killed at random while records come; then one that ends it."""
    chance = random.Random(seed)
    source = a_log(folder / "source", 3, sync="os")
    sinks = {name: f"log://{folder}/{name}" for name in ("a", "b", "c")}
    for name in sinks:
        a_log(folder / name, 2, sync=chance.choice(["os", "2ms"]), segment=20_000).close()

    def sort(record: dict[str, Any]) -> Any:
        number = record["id"]
        return [("a", record)] * (number % 3) + ([("b", record)] if number % 5 == 0 else []) + [("c", record)]

    count = 0
    for _ in range(rounds):
        pids = [forked(lambda: process(source.url, sinks, sort)) for _ in range(2)]
        for _ in range(3):
            fill(source, 200, count)
            count += 200
            time.sleep(chance.random() * 0.03)
        for pid in pids:
            time.sleep(chance.random() * 0.1)
            kill(pid)
    source.seal()
    process(source.url, sinks, sort)
    found = {name: Counter(one["id"] for one in of(url)) for name, url in sinks.items()}
    assert found["a"] == {at: at % 3 for at in range(count) if at % 3}, f"seed {seed}"
    assert found["b"] == dict.fromkeys(range(0, count, 5), 1), f"seed {seed}"
    assert found["c"] == dict.fromkeys(range(count), 1), f"seed {seed}"
    source.close()


def test_replicas_divide_the_partitions_and_take_over_from_the_dead(tmp_path: Path) -> None:
    source = a_log(tmp_path / "source", 4, sync="os")
    sink = a_log(tmp_path / "sink", 4, sync="os")

    def signed() -> None:
        process(source.url, sink.url, lambda record: {"by": os.getpid()})

    def everybody() -> set[int]:
        for partition in range(4):
            source.append([b"{}"], partition=partition)
        return {one["by"] for one in records(sink)[-8:]}

    def last_of_each() -> list[int]:
        ends = sink.bounds()
        return [
            json.loads(sink.read(number, one.end - 1)[0].value)["by"]
            for number, one in ends.items()
            if one.end > one.first
        ]

    pids = [forked(signed) for _ in range(2)]
    try:
        wait_until(lambda: everybody() and sorted(Counter(last_of_each()).values()) == [2, 2], "two partitions each")
        kill(pids.pop())
        wait_until(lambda: everybody() and set(last_of_each()) == {pids[0]}, "one has all of them")
        source.seal()
        assert ended(pids.pop()) == 0
    finally:
        for pid in pids:
            kill(pid)
    assert len(records(sink)) == sum(one.end for one in source.bounds().values())


def test_a_share_is_what_is_left_for_nobody_else() -> None:
    assert [share(4, replicas) for replicas in range(1, 7)] == [4, 2, 2, 1, 1, 1]
    assert share(0, 3) == 0


def test_stat_says_how_far_behind_a_processor_is(source: LogStream, tmp_path: Path) -> None:
    sink = f"log://{tmp_path}/sink"
    fill(source, 100)
    process(source.url, sink, lambda record: None, name="prepare", idle_seconds=0.05)
    fill(source, 30, first=100)
    (told,) = stat(sink)["processors"]
    assert told == {"name": "prepare", "source": source.url, "position": 100, "lag": 30}


# --- joining


def event(kind: str, identity: object, **more: object) -> bytes:
    return json.dumps({"kind": kind, "id": identity, **more}).encode()


def joined(request: Any, feedback: Any) -> dict[str, Any]:
    return {"id": request["id"], "input": request.get("input"), "correct": feedback.get("correct")}


def test_feedback_meets_its_request_in_either_order(tmp_path: Path) -> None:
    source = a_log(tmp_path / "source", sync="os")
    source.append(
        [
            event("request", 1, input="one"), event("request", 2, input="two"), event("feedback", 3, correct="3"),
            event("feedback", 1, correct="1"), event("feedback", 1, correct="again"), event("feedback", 9, correct="?"),
            event("request", 3, input="three"), event("other", 2), event("feedback", 3, correct="twice"),
        ]
    )  # fmt: skip
    source.seal()
    done = process(source.url, f"log://{tmp_path}/sink", Join(joined))
    assert done.written == {"": 2}
    assert of(f"log://{tmp_path}/sink") == [
        {"id": 1, "input": "one", "correct": "1"},
        {"id": 3, "input": "three", "correct": "3"},
    ]


def test_what_lies_too_far_apart_is_not_joined() -> None:
    def met(distance: int, seconds: float = 0.0, size: int = 1, **rules: Any) -> bool:
        see = Join(joined, **rules).fresh()
        see(Record(0, 0, b"x" * size, 0.0), {"kind": "request", "id": 1})
        for offset in range(1, distance):
            see(Record(0, offset, b"x" * size, 0.0), {"kind": "request", "id": f"other {offset}"})
        return see(Record(0, distance, b"", seconds), {"kind": "feedback", "id": 1}) is not None

    assert [met(distance, within_records=5) for distance in (1, 5, 6)] == [True, True, False]
    assert [met(1, seconds, within_seconds=10.0) for seconds in (9.0, 11.0)] == [True, False]
    assert [met(distance, size=100, within_bytes=1000) for distance in (9, 10, 11)] == [True, True, False]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["request", "feedback", "other"]), st.integers(0, 3), st.integers(0, 20)), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, within=st.integers(1, 6), size=st.sampled_from([30, 10**6]), place=st.integers(0, 60))
def test_who_takes_over_joins_as_if_nobody_had_died(
    events: list[tuple[str, int, int]], within: int, size: int, place: int
) -> None:
    rules = Join(lambda request, feedback: (request["at"], feedback["at"]), within, 15.0, size)
    made = []
    told = [
        (Record(0, at, b"x" * seconds, float(seconds)), {"kind": kind, "id": identity, "at": at})
        for at, (kind, identity, seconds) in enumerate(events)
    ]
    whole = rules.fresh()
    made = [whole(*one) for one in told]
    after = rules.fresh()
    again = [after(*one) for one in told[max(0, place - rules.replay_records) :]]
    beyond = max(0, len(told) - place)
    assert again[len(again) - beyond :] == made[len(made) - beyond :]


def test_a_killed_join_joins_each_pair_once(tmp_path: Path) -> None:
    source = a_log(tmp_path / "source", sync="os")
    sink, chance, open_ids, number = f"log://{tmp_path}/sink", random.Random(3), [], 0
    LogStream(f"{tmp_path}/sink", create=True, sync="os").close()
    answered = set()
    for _ in range(10):
        pid = forked(lambda: process(source.url, sink, Join(joined, within_records=400)))
        for _ in range(20):
            batch = []
            for _ in range(20):
                if chance.random() < 0.4 and len(open_ids) > 5:
                    identity = open_ids.pop(chance.randrange(len(open_ids) - 5, len(open_ids)))
                    batch.append(event("feedback", identity, correct=str(identity)))
                    answered.add(identity)
                else:
                    batch.append(event("request", number, input=number))
                    open_ids.append(number)
                    number += 1
            source.append(batch)
            time.sleep(0.002)
        kill(pid)
    source.seal()
    process(source.url, sink, Join(joined, within_records=400))
    found = of(sink)
    assert sorted(one["id"] for one in found) == sorted(answered)
    assert all(one["correct"] == str(one["input"]) for one in found)


@given(st.integers(1, 500), st.floats(0.0, 1e4))
def test_a_batch_is_as_large_as_its_time_allows(records: int, took_s: float) -> None:
    most = processing._fitting(records, took_s)
    assert 1 <= most <= processing._BATCH
    assert most == 1 or took_s / records * most <= processing._BATCH_S * (1 + 1e-9)
