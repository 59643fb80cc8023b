"""Real runs on a real stream under kills: every record once in the weights, and the bits of the undisturbed run."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from streaming import ROOM

from running import Running, alone, of_home, strike, tide, wait_until
from springtide.data.streams import open_stream
from springtide.train import offsets, process, runs
from springtide.train.launched import Launched
from springtide.train.protocol import Kind

SCRIPT = Path(__file__).with_name("streaming.py")


def records(first: int, count: int) -> list[bytes]:
    return [json.dumps({"id": number}).encode() for number in range(first, first + count)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"log://{tmp_path}/records"


@contextmanager
def arriving(url: str, count: int, *, partitions: int = 3, seed: int = 0) -> Iterator[None]:
    """Records 0 ... count - 1 are appended while the body runs, in uneven handfuls; then the stream is sealed."""
    stream, rng, over = open_stream(url, create=True, partitions=partitions), random.Random(seed), threading.Event()

    def append() -> None:
        done = 0
        while done < count and not over.is_set():
            handful = min(rng.randint(1, 60), count - done)
            stream.append(records(done, handful), partition=rng.randrange(partitions))
            done += handful
            over.wait(rng.random() * 0.02)
        stream.seal()

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        stream.close()


def counted(out: Path, count: int) -> bool:
    """Whether each of so many records is in the weights once."""
    found = json.loads(out.read_text())
    return found[:count] == [1] * count and not any(found[count:])


def repeated(run: Running, url: str, home: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The digest of an undisturbed run by the same step log."""
    monkeypatch.setenv("TIDE_STEPS", str(run.folder / "steps.log"))
    digest: str = alone(SCRIPT, url, home / "again.json", *words, home=home)["digest"]
    return digest


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_kills_while_records_arrive_lose_none_and_change_no_bit(
    seed: int, url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, out, count = random.Random(seed), home / "out.json", 4000
    with arriving(url, count, seed=seed):
        run = Running(SCRIPT, url, out, "pause=0.004", home=home, options=("--every", "40steps"))
        for step in sorted(rng.sample(range(5, 150), 6)):
            if not run.until_step(step):
                break
            cast = run.cast()
            working = list(cast.working.values())
            strike(rng.sample(working, rng.randint(0, len(working))))
            if rng.random() < 0.4:
                strike(cast.supervisor)
        report = run.finish()
    assert (report["state"], report["steps"]) == ("done", count // 20), run.story()
    assert (report["samples_lost"], report["samples_twice"]) == (0, 0), run.story()
    assert counted(out, count)
    assert report["digest"] == repeated(run, url, home, monkeypatch)


def test_after_all_processes_were_killed_the_run_goes_on_by_its_step_log(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, count = home / "out.json", 3000
    with arriving(url, count):
        first = Running(SCRIPT, url, out, "pause=0.004", home=home, workers="3", options=("--every", "10steps"))
        first.until("checkpoint")
        first.until_step(first.step + 5)
        strike([first.process.pid, *of_home(home)])
        wait_until(lambda: not of_home(home), "the end of all processes")
        first.process.wait()
        planned = (first.folder / "steps.log").read_bytes()
        again = Running(SCRIPT, url, out, "pause=0", home=home, workers="2", options=("--every", "10steps"))
        begun = again.until("start")["resumed_step"]
        report = again.finish()
    assert begun >= 10 and report["state"] == "done", again.story()
    assert (report["samples_lost"], report["samples_twice"]) == (0, 0), again.story()
    assert counted(out, count)
    assert (again.folder / "steps.log").read_bytes().startswith(planned[: planned.rfind(b"\n") + 1])
    assert report["digest"] == repeated(again, url, home, monkeypatch)


@pytest.mark.slow
def test_a_run_whose_step_log_is_gone_goes_on_at_the_offsets_of_its_checkpoint(url: str, home: Path) -> None:
    out, stream = home / "out.json", open_stream(url, create=True, partitions=2)
    stream.append(records(0, 1000), partition=0)
    run = Running(SCRIPT, url, out, "pause=0.002", home=home, options=("--every", "1h"))
    run.until_step(12)
    run.ask(do="stop")
    assert run.finish()["state"] == "stopped"
    kept = offsets.of(run.folder)
    assert kept[0] == 20 * run.step
    (run.folder / "steps.log").unlink()
    stream.append(records(1000, 500), partition=1)
    stream.seal()
    report = Running(SCRIPT, url, out, home=home).finish()
    assert (report["state"], report["samples_lost"], report["samples_twice"]) == ("done", 0, 0)
    assert counted(out, 1500)
    stream.close()


def test_who_waits_for_records_uses_nothing_and_is_resized_kept_and_stopped_at_once(url: str, home: Path) -> None:
    out, stream = home / "out.json", open_stream(url, create=True)
    stream.append(records(0, 107))
    run = Running(SCRIPT, url, out, home=home, workers="1:3", options=("--workers", "1:3", "--every", "200ms"))
    run.until_step(5)
    wait_until(lambda: _kind(run) == Kind.IDLE, "an idle tick")
    run.until("checkpoint", step=5)
    run.ask(do="resize", workers=1)
    wait_until(lambda: len(run.cast().working) == 1, "one worker")
    run.ask(do="resize", workers=3)
    wait_until(lambda: len(run.cast().working) == 3, "three workers")
    before = _ticks(run)
    threading.Event().wait(1.0)
    assert _ticks(run) - before <= 6, "hundredths of a second in one, of three workers and their heartbeats"
    assert [event["step"] for event in run.of("checkpoint")] == [5]
    stream.append(records(107, 13))
    run.until_step(6)
    run.ask(do="stop")
    report = run.finish()
    assert (report["state"], report["steps"], report["samples_lost"]) == ("stopped", 6, 0), run.story()
    assert offsets.of(run.folder) == {0: 120}
    stream.close()


def test_a_partition_that_comes_late_is_taken_in(url: str, home: Path) -> None:
    out, stream = home / "out.json", open_stream(url, create=True)
    stream.append(records(0, 200))
    run = Running(SCRIPT, url, out, home=home)
    run.until_step(10)
    more = open_stream(url, create=True, partitions=3)
    more.append(records(200, 100), partition=2)
    run.until_step(15)
    more.seal()
    assert run.finish()["state"] == "done" and counted(out, 300)
    more.close()
    stream.close()


@pytest.mark.slow
def test_a_share_of_a_bulk_set_gives_the_same_bits_with_any_number_of_workers(url: str, home: Path) -> None:
    stream = open_stream(url, create=True)
    stream.append(records(0, 750))
    stream.seal()
    out = home / "out.json"
    report = Running(SCRIPT, url, out, "ratio=0.25", home=home, workers="3").finish()
    found = json.loads(out.read_text())
    assert found[:750] == [1] * 750 and sum(found[ROOM - 100 :]) == 250
    assert (report["steps"], report["samples_lost"], report["samples_twice"]) == (50, 0, 0)
    assert report["digest"] == alone(SCRIPT, url, home / "alone.out", "ratio=0.25", home=home)["digest"]
    stream.close()


def test_what_cannot_work_is_one_sentence(url: str, home: Path) -> None:
    missing = tide("run", "--quiet", SCRIPT, url, home / "out.json", home=home)
    assert missing.returncode == 2 and len(missing.stderr.strip().splitlines()) == 1, missing.stderr
    assert url.removeprefix("log://") in missing.stderr
    stream = open_stream(url, create=True)
    stream.append([*records(0, 37), b"[1, 2]", *records(38, 2)])
    bad = tide("run", "--quiet", "--fresh", SCRIPT, url, home / "out.json", home=home)
    assert bad.returncode == 2 and f"{url}, partition 0, offset 37: the record b'[1, 2]' is not" in bad.stderr
    stream.close()


def _kind(run: Running) -> int:
    arena = runs.open_arena(Launched.read(run.folder))
    assert arena is not None
    now = arena.now()
    os.close(arena.descriptor)
    return now.kind if now is not None else 0


def _ticks(run: Running) -> int:
    """CPU time that the workers have used, in hundredths of a second."""
    seen = [process.stat(pid) for pid in run.cast().working.values()]
    return sum(one.cpu_ticks for one in seen if one is not None)
