"""Drift is watched on the streams as they come: told once when it begins, and once when it ends."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from springtide.data.streams import Stream, open_stream
from springtide.pool.circle_drift import Watching
from springtide.serve.loop import telling
from springtide.serve.loop.places import Places
from springtide.spec import job_file_from_text
from springtide.spec.loop import Drift, Gate, Loop

TEXT = "kind: loop\nname: words\nbuild: model:build\ntrain: {script: t.py}\nserve: {port: 8080}\n"
LOOP = replace(job_file_from_text(TEXT).loops[0], drift=Drift(window=200, inputs=0.25, accuracy=0.2))


@pytest.fixture
def there(tmp_path: Path) -> Places:
    places = Places(tmp_path / "loops" / "words")
    places.folder.mkdir(parents=True)
    return places


@pytest.fixture
def requests(there: Places) -> Iterator[Stream]:
    stream = open_stream(there.stream("requests"), create=True)
    yield stream
    stream.close()


class Users:
    """Ask about numbers around a mean, and say how right the answers were."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.draw, self.number = stream, random.Random(3), 0

    def ask(self, many: int, mean: float = 0.0, right: float | None = None) -> None:
        entries: list[dict[str, object]] = []
        for _ in range(many):
            self.number += 1
            id, wanted = f"r{self.number}", self.number % 3
            given = {"x": self.draw.gauss(mean, 1.0)}
            output = wanted if right is None or self.draw.random() < right else wanted + 1
            entries.append({"kind": "request", "id": id, "input": given, "output": output, "version": 4})
            if right is not None:
                entries.append({"kind": "feedback", "id": id, "correct": wanted})
        self.stream.append([json.dumps(entry).encode() for entry in entries])


def told(watching: Watching) -> list[str]:
    return [event.sentence for event in watching.look()]


def test_inputs_that_move_are_told_once_and_once_when_they_are_back(there: Places, requests: Stream) -> None:
    users, watching = Users(requests), Watching(LOOP, there)
    users.ask(200)
    assert told(watching) == []
    users.ask(200)
    assert told(watching) == []
    users.ask(200, mean=3.0)
    (said,) = told(watching)
    assert said.startswith("drift: input.x differs from the first 200 requests (stability index ")
    users.ask(50, mean=3.0)
    assert told(watching) == []
    users.ask(200)
    (said,) = told(watching)
    assert said.startswith("drift: input.x is again as it was")
    watching.close()


def test_the_reference_outlives_the_process_that_took_it(there: Places, requests: Stream) -> None:
    users, first = Users(requests), Watching(LOOP, there)
    users.ask(200)
    first.look()
    first.close()
    users.ask(400, mean=3.0)
    second = Watching(LOOP, there)
    assert len(told(second)) == 1
    second.close()


def test_the_loops_own_file_is_the_reference_where_it_has_inputs(
    there: Places, requests: Stream, tmp_path: Path
) -> None:
    draw = random.Random(1)
    file = tmp_path / "held.jsonl"
    file.write_text(
        "".join(json.dumps({"input": {"x": draw.gauss(5.0, 1.0)}, "correct": 1}) + "\n" for _ in range(200))
    )
    users, watching = Users(requests), Watching(replace(LOOP, gate=Gate(data=str(file))), there)
    users.ask(200)
    (said,) = told(watching)
    assert "differs from the 200 records of held.jsonl" in said
    watching.close()


def test_answers_that_are_right_less_often_are_told_and_shown(there: Places, requests: Stream) -> None:
    users, watching = Users(requests), Watching(LOOP, there)
    users.ask(400, right=0.95)
    assert told(watching) == []
    users.ask(200, right=0.3)
    (said,) = told(watching)
    assert said.startswith("drift: answers are right less often than before: ")
    lines = "\n".join(telling.drift(json.loads(there.drift.read_bytes())))
    assert "of the last 200 corrected answers; 1 fall was noticed" in lines
    assert "accuracy of version 4 on feedback:" in lines
    watching.close()


def test_who_is_far_behind_goes_on_near_the_end(there: Places, requests: Stream) -> None:
    entry = json.dumps({"kind": "request", "id": "a", "input": {"x": 1.0}}).encode()
    for _ in range(30):
        requests.append([entry] * 1000)
    watching = Watching(LOOP, there)
    for _ in range(5):
        watching.look()
    assert watching._at == {0: 30_000}
    watching.close()


def test_a_stream_that_is_not_there_yet_is_no_error(there: Places) -> None:
    watching = Watching(_with_source(there), there)
    assert watching.look() == []
    watching.close()


def _with_source(there: Places) -> Loop:
    return replace(LOOP, source=f"log://{there.folder}/nowhere")
