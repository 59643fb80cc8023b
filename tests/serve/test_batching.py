"""Which requests are computed together, that none is harmed by it, and what happens when too many come."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serve.a_server import Scale, call, infer, served, tensor
from springtide.serve.server import batching
from springtide.serve.server.loaded import Loaded
from springtide.serve.server.queue import Limits

INFER = "/v2/models/scale/infer"


@dataclass(frozen=True)
class One:
    number: int
    key: Hashable
    rows: int


waiting = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(1, 5)), min_size=1, max_size=20)


@given(waiting, st.integers(1, 8))
def test_the_oldest_goes_with_its_like_and_nobody_is_lost_or_overtaken(said: list[Any], most: int) -> None:
    everybody = [One(at, key, rows) for at, (key, rows) in enumerate(said)]
    left, gone = deque(everybody), []
    while left:
        first, before = left[0], list(left)
        batch = batching.take(left, most)
        assert batch[0] is first
        assert len({one.key for one in batch}) == 1
        assert len(batch) == 1 or (first.key is not None and sum(one.rows for one in batch) <= most)
        assert list(left) == [one for one in before if one not in batch]  # in the order in which they came
        assert [one.number for one in batch] == sorted(one.number for one in batch)
        gone += batch
    assert sorted(gone, key=lambda one: one.number) == everybody


def test_only_equal_names_kinds_and_shapes_are_alike() -> None:
    def key(**inputs: torch.Tensor) -> tuple[Hashable, int]:
        return batching.key_of(inputs)

    assert key(x=torch.zeros(2, 3)) != key(x=torch.zeros(1, 3))
    assert key(x=torch.zeros(2, 3))[0] == key(x=torch.zeros(1, 3))[0]
    assert key(x=torch.zeros(2, 3))[0] != key(x=torch.zeros(2, 4))[0]
    assert key(x=torch.zeros(2, 3))[0] != key(x=torch.zeros(2, 3, dtype=torch.int64))[0]
    assert key(x=torch.zeros(2, 3))[0] != key(y=torch.zeros(2, 3))[0]
    assert key(x=torch.zeros(2), y=torch.zeros(3)) == (None, 1)  # no number of rows
    assert key(x=torch.tensor(1.0)) == (None, 1)


class Counting(Scale):
    """Remembers how many rows it was asked for at a time."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__(scale)
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        return super().forward(x)


def _many(module: torch.nn.Module, bodies: list[bytes], **words: Any) -> list[tuple[int, Any]]:
    """Asked at one instant."""

    async def do(app: Any) -> Any:
        replies = await asyncio.gather(*(call(app, "POST", INFER, body) for body in bodies))
        return [(status, json.loads(said)) for status, _, said in replies]

    return served(module, do=do, **words)


def test_requests_that_come_together_are_computed_together_and_each_gets_its_own() -> None:
    module = Counting()
    answers = _many(module, [infer(tensor([float(at)], [1, 1])) for at in range(20)])
    assert [said["outputs"][0]["data"] for _, said in answers] == [[2.0 * at] for at in range(20)]
    assert max(module.seen) == 20


def test_a_batch_has_no_more_rows_than_are_allowed() -> None:
    module = Counting()
    _many(module, [infer(tensor([1.0] * 3, [3, 1]))] * 10, limits=Limits(rows=8))
    assert max(module.seen) <= 8 and sum(module.seen) >= 30
    module = Counting()
    module.batch = 4  # type: ignore[assignment]  # the module's own limit
    _many(module, [infer(tensor([1.0], [1, 1]))] * 10)
    assert max(module.seen) <= 4


def test_lengths_are_not_mixed_and_nothing_is_padded() -> None:
    module = Counting()
    answers = _many(module, [infer(tensor([1.0] * (at % 3 + 1), [1, at % 3 + 1])) for at in range(12)])
    assert [said["outputs"][0]["shape"] for _, said in answers] == [[1, at % 3 + 1] for at in range(12)]


def test_one_that_the_model_does_not_take_harms_no_other() -> None:
    class Picky(Scale):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool((x < 0).any()):
                raise ValueError("a number is negative")
            return super().forward(x)

    answers = _many(Picky(), [infer(tensor([float(at)], [1, 1])) for at in (1, -1, 2)])
    assert [status for status, _ in answers] == [200, 400, 200]
    assert answers[1][1]["error"] == "version 1 of scale does not take x FP32 [1, 1]: a number is negative"


@pytest.mark.parametrize(
    "module",
    [
        type("Mixes", (Scale,), {"forward": lambda self, x: torch.softmax(x, 0)}),
        type("Sums", (Scale,), {"forward": lambda self, x: x.sum()}),
        type("Refuses", (Counting,), {"batch": False}),
    ],
)
def test_a_model_whose_answers_depend_on_neighbours_is_asked_one_by_one(module: Any) -> None:
    made = module()
    bodies = [infer(tensor([float(at)], [1, 1])) for at in range(6)]
    together = _many(made, bodies)
    alone = [_many(module(), [body])[0] for body in bodies]
    assert [said["outputs"] for _, said in together] == [said["outputs"] for _, said in alone]


def test_a_row_does_not_depend_on_what_its_neighbours_hold() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(37, 101), torch.nn.ReLU(), torch.nn.Linear(101, 7)).eval()
    torch.set_num_threads(1)
    loaded = Loaded("m", 1, module)
    for rows in (2, 3, 8, 17):
        own = torch.randn(1, 37)
        found = []
        for _ in range(2):
            inputs = [{"input": own}, *({"input": torch.randn(1, 37)} for _ in range(rows - 1))]
            answer = loaded.compute(inputs, [1] * rows)[0]
            assert isinstance(answer, dict)
            found.append(answer["output"])
        assert torch.equal(found[0], found[1])  # type: ignore[arg-type]


class Slow(Scale):
    """Answers once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.shapes: list[torch.Size] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(x.shape)
        self.begun.set()
        assert self.go.wait(60)
        return super().forward(x)


def test_a_full_queue_turns_requests_away_and_says_when_to_come_back() -> None:
    module = Slow()

    async def do(app: Any) -> Any:
        body = infer(tensor([1.0], [1, 1]))
        first = asyncio.create_task(call(app, "POST", INFER, body))
        await asyncio.to_thread(module.begun.wait, 60)
        waits = [asyncio.create_task(call(app, "POST", INFER, body)) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await call(app, "POST", INFER, body)
        module.go.set()
        return refused, [await one for one in (first, *waits)]

    refused, answered = served(module, do=do, limits=Limits(waiting=3))
    assert refused[0] == 429 and int(refused[1]["retry-after"]) >= 1
    assert "3 requests to scale wait already; come back in" in json.loads(refused[2])["error"]
    assert [status for status, _, _ in answered] == [200] * 4


def test_a_deadline_that_passes_in_the_queue_is_told_and_costs_no_computing() -> None:
    module = Slow()

    async def do(app: Any) -> Any:
        body = infer(tensor([1.0], [1, 1]))
        first = asyncio.create_task(call(app, "POST", INFER, body))
        await asyncio.to_thread(module.begun.wait, 60)
        late = await call(app, "POST", INFER, infer(tensor([1.0, 2.0], [1, 2])), {"X-Deadline-Ms": "20"})
        module.go.set()
        return late, await first

    late, first = served(module, do=do)
    assert late[0] == 504 and "no answer within the time that the request allows" in json.loads(late[2])["error"]
    assert first[0] == 200
    assert module.shapes == [(1, 1)]


class Where(Scale):
    """Remembers by which thread it was called."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.threads: list[str] = []
        self._pause_s = pause_s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.threads.append(threading.current_thread().name)
        time.sleep(self._pause_s)
        return super().forward(x)


def test_only_a_model_that_is_quick_is_computed_between_reading_two_requests_and_only_alone() -> None:
    async def do(app: Any) -> Any:
        body = infer(tensor([1.0], [1, 1]))
        for _ in range(30):
            await call(app, "POST", INFER, body)
        queue = app.house.models["scale"].queue
        busy = asyncio.create_task(queue.run(lambda: threading.Event().wait(0.1)))
        await asyncio.sleep(0)
        await call(app, "POST", INFER, body)  # the module is in use: its turn comes in the thread
        await busy
        await asyncio.gather(*(call(app, "POST", INFER, body) for _ in range(2)))

    quick, slow = Where(0.0), Where(0.003)
    for module in (quick, slow):
        served(module, do=do)
    here = threading.current_thread().name
    assert here in quick.threads[8:30] and quick.threads[30] != here and quick.threads[31] != here
    assert here not in slow.threads


def test_a_connection_that_is_old_is_closed_with_an_answer_so_that_new_replicas_are_met() -> None:
    async def do(app: Any) -> Any:
        body = infer(tensor([1.0], [1]))
        young = await call(app, "POST", INFER, body, state={"since_s": time.monotonic()})
        return young, await call(app, "POST", INFER, body, state={"since_s": time.monotonic() - 60})

    young, old = served(Scale(), do=do)
    assert young[0] == old[0] == 200 and "connection" not in young[1] and old[1]["connection"] == "close"


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "0", "inf"])
def test_a_deadline_is_a_number_of_milliseconds(text: str) -> None:
    async def do(app: Any) -> Any:
        return await call(app, "POST", INFER, infer(tensor([1.0], [1])), {"X-Deadline-Ms": text})

    status, _, body = served(Scale(), do=do)
    assert status == 400 and f"X-Deadline-Ms is {text}" in json.loads(body)["error"]


@pytest.mark.parametrize("headers", [{"Content-Length": "5000"}, {}])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(headers: dict[str, str]) -> None:
    async def do(app: Any) -> Any:
        return await call(app, "POST", INFER, b" " * 5000, headers, parts=10)

    status, _, body = served(Scale(), do=do, most_bytes=1000)
    assert status == 413 and "larger than 1,000 bytes" in json.loads(body)["error"]
