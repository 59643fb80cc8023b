"""`train.Run` on a stream in one process: what it takes, how it ends, and what it says of what cannot be."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import training
from springtide import data, train
from springtide.data.streams import Stream, open_stream
from springtide.spec import SpringtideError, UserError

ROOM = 1000


class Seen(nn.Module):
    """Counts samples by their id."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Parameter(torch.zeros(ROOM, dtype=torch.float64))


def records(first: int, count: int) -> list[bytes]:
    return [json.dumps({"id": number}).encode() for number in range(first, first + count)]


@pytest.fixture
def stream(tmp_path: Path) -> Any:
    made = open_stream(f"log://{tmp_path}/records", create=True, partitions=2, sync="os")
    yield made
    made.close()


def of_id(batch: Any) -> Tensor:
    return batch["id"] if isinstance(batch, dict) else batch


def trained(
    source: Any, batch: int = 10, of: Callable[[Any], Tensor] = of_id, **given: Any
) -> tuple[train.Run, list[int]]:
    """A run to its end, and how often each id came."""
    model = Seen()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    run = training.elastic(
        model, optimizer, source, lambda m, samples: -m.seen[of(samples)].mean(), batch, microbatches=5, **given
    )
    return run, (model.seen * batch).round().int().tolist()


def audit(run: train.Run) -> tuple[int, int]:
    """(samples counted twice, samples lost)."""
    from springtide.train import alone

    assert run._worker is not None
    step, buffer = run._worker.reached
    return alone.audit(run.order, step, run._worker.arena.position(buffer))


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


# --- ends


def test_a_sealed_stream_ends_the_run_and_what_is_less_than_a_batch_is_left(
    stream: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.append(records(0, 60), partition=0)
    stream.append(records(60, 47), partition=1)
    stream.seal()
    run, seen = trained(data.stream(stream.url))
    assert run.steps == 10 and sum(seen) == 100 and max(seen) == 1
    assert audit(run) == (0, 0)
    assert "the run ends with step 10 (the stream is sealed); 7 records are left in the stream" in told(capsys)


def test_so_many_records_end_the_run_at_the_last_whole_batch(stream: Stream) -> None:
    stream.append(records(0, 500))
    run, seen = trained(data.stream(stream.url, records=35))
    assert (run.steps, sum(seen)) == (3, 30)


def test_steps_end_it_too(stream: Stream) -> None:
    stream.append(records(0, 500))
    run, seen = trained(data.stream(stream.url), steps=4)
    assert (run.steps, sum(seen)) == (4, 40)


def test_when_no_record_comes_for_a_while_the_run_ends(stream: Stream) -> None:
    stream.append(records(0, 25))
    run, seen = trained(data.stream(stream.url, idle_seconds=0.2))
    assert (run.steps, sum(seen)) == (2, 20)


def test_after_so_many_seconds_the_run_ends_though_records_go_on(stream: Stream) -> None:
    over = threading.Event()

    def append() -> None:
        for number in itertools.count():
            if over.wait(0.001):
                return
            stream.append(records(number % ROOM, 1))

    thread = threading.Thread(target=append)
    thread.start()
    run, seen = trained(data.stream(stream.url, seconds=0.5))
    over.set()
    thread.join()
    assert run.steps is not None and 0 < run.steps * 10 == sum(seen)


def test_a_run_waits_for_records_that_come_later(stream: Stream) -> None:
    def append() -> None:
        for number in range(0, 200, 8):
            threading.Event().wait(0.01)
            stream.append(records(number, 8))
        stream.seal()

    thread = threading.Thread(target=append)
    thread.start()
    run, seen = trained(data.stream(stream.url))
    thread.join()
    assert run.steps == 20 and seen[:200] == [1] * 200


def test_the_last_step_is_looked_at_though_nobody_knew_that_it_would_be_the_last(stream: Stream) -> None:
    stream.append(records(0, 50))
    stream.seal()
    steps = list[int]()

    def judge(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        return {"seen": model.seen.sum() + 0 * x.sum()}

    for every in (2, "end"):
        looked = train.Evaluate(TensorDataset(torch.zeros(3)), judge, every=every)
        run, _ = trained(data.stream(stream.url), evaluate=looked)
        assert run._worker is not None
        steps = [found["step"] for found in run._worker.arena.record(run._worker.now.tick % 2)["recent"]]
        assert steps == ([2, 4, 5] if every == 2 else [5])
        assert run.metrics == {"seen": 5.0}


# --- what is taken


def test_a_run_may_begin_with_what_comes_from_now_on_or_anywhere(stream: Stream) -> None:
    stream.append(records(0, 100), partition=0)
    stream.append(records(100, 30), partition=1)
    _, seen = trained(data.stream(stream.url, start={0: 70}), steps=6)
    assert seen[70:130] == [1] * 60 and sum(seen) == 60
    timer = threading.Timer(0.3, lambda: stream.append(records(500, 10), partition=1))
    timer.start()
    _, seen = trained(data.stream(stream.url, start="latest"), steps=1)
    timer.join()
    assert seen[500:510] == [1] * 10 and sum(seen) == 10


def test_quarantined_records_are_passed_over(stream: Stream, tmp_path: Path) -> None:
    stream.append(records(0, 100), partition=0)
    stream.seal()
    (tmp_path / "q.json").write_text('{"0": [[10, 25], [90, 95]]}')
    run, seen = trained(data.stream(stream.url, quarantine=tmp_path / "q.json"))
    assert run.steps == 8 and not any(seen[10:25]) and not any(seen[90:95])
    assert sum(seen) == 80 and audit(run) == (0, 0)


def test_a_share_comes_from_another_set_in_an_order_of_its_own(stream: Stream) -> None:
    stream.append(records(0, 300))
    stream.seal()
    bulk = [{"id": 900 + k} for k in range(50)]
    runs = [trained(data.stream(stream.url, mix=bulk, ratio=0.4), seed=seed) for seed in (0, 0, 1)]
    for run, seen in runs:
        assert run.steps == 50 and seen[:300] == [1] * 300 and sum(seen[900:950]) == 200
        assert set(seen[900:950]) == {4}, "each as often as any other"
        assert audit(run) == (0, 0)
    orders = [[run.order.indices(step, m).tolist() for step in (1, 9) for m in range(5)] for run, _ in runs]
    assert orders[0] == orders[1] != orders[2]


def test_a_decoder_makes_samples_of_any_bytes(stream: Stream) -> None:
    stream.append([bytes([number]) for number in range(20)])
    _, seen = trained(data.stream(stream.url, decoder=lambda value: value[0]), steps=2)
    assert seen[:20] == [1] * 20


@pytest.mark.parametrize("loading", ["thread", "process:1"])
def test_records_that_are_read_ahead_are_the_same(stream: Stream, loading: str) -> None:
    stream.append(records(0, 200))
    stream.seal()
    run, seen = trained(data.stream(stream.url), loading=loading)
    assert run.steps == 20 and seen[:200] == [1] * 200


# --- what cannot be


def test_a_bad_record_is_named_by_partition_and_offset(stream: Stream) -> None:
    stream.append([*records(0, 13), b"{", *records(14, 6)], partition=1)
    with pytest.raises(UserError, match=r"partition 1, offset 13: the record b'\{' is not a JSON object"):
        trained(data.stream(stream.url), steps=2)


def test_a_bad_record_can_be_passed_over_and_is_counted(stream: Stream) -> None:
    stream.append([*records(0, 13), b"[]", *records(14, 6)], partition=1)
    run, seen = trained(data.stream(stream.url, on_bad="skip"), steps=2)
    assert seen[13] == 0 and sum(seen) == 20
    assert run._worker is not None and run._worker.arena.position(run._worker.reached[1])["skipped"] == 1


def test_records_that_do_not_go_together_are_named(stream: Stream) -> None:
    stream.append([*records(0, 11), b'{"name": 1}', *records(12, 8)], partition=0)
    with pytest.raises(UserError, match=r"partition 0, offsets 10 to 11: the records cannot be made into one batch"):
        trained(data.stream(stream.url), steps=2)


def _shortened(tmp_path: Path) -> Stream:
    """Of 1,500 records, retention has left the last few hundred."""
    folder = tmp_path / "short"
    made = open_stream(f"log://{folder}", create=True, sync="os")
    made.append(records(0, 500))
    made.close()
    settings = json.loads((folder / "log.json").read_text())
    (folder / "log.json").write_text(json.dumps(settings | {"segment": 4096, "retain_bytes": 12_000}))
    again = open_stream(f"log://{folder}")
    for first in range(500, 1500, 50):
        again.append(records(first % ROOM, 50))
    return again


def test_what_retention_took_ends_the_run_or_is_passed_over_as_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = _shortened(tmp_path)
    bounds = short.bounds()[0]
    assert 500 < bounds.first < bounds.end == 1500, bounds
    lost = f"retention removed records before the run came to them: {bounds.first - 20:,} of partition 0"
    with pytest.raises(SpringtideError, match=lost) as stopped:
        trained(data.stream(short.url, start={0: 20}), steps=3)
    assert stopped.value.exit_code == 1
    run, seen = trained(data.stream(short.url, start={0: 20}, expired="skip"), steps=3)
    assert sum(seen) == 30 and audit(run) == (0, 0)
    assert lost in told(capsys)
    short.close()


def test_a_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path / "none")):
        trained(data.stream(f"log://{tmp_path}/none"), steps=1)


@pytest.mark.parametrize(
    ("rules", "given", "why"),
    [
        ({"start": "now"}, {}, 'write "earliest", "latest"'),
        ({"records": 0}, {}, "records=0; give a whole number above 0"),
        ({"ratio": 0.5}, {}, "mix= and ratio= belong together"),
        ({"mix": [1], "ratio": 1}, {}, "ratio=1 is no share"),
        ({"expired": "no"}, {}, "write 'stop' or 'skip'"),
        ({"start": {0: 99}}, {"steps": 1}, "beyond the end of partition 0"),
        ({}, {"epochs": 1}, "a stream has no epochs"),
        ({}, {"sample": 0.5}, "a stream has no end"),
        ({}, {"evaluate": train.Evaluate([1], dict)}, "a stream has no epochs; give train.Evaluate"),
    ],
)
def test_what_a_stream_does_not_have_is_refused(stream: Stream, rules: Any, given: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        trained(data.stream(stream.url, **rules), **given)
