"""From requests and corrections to training records: each pair once, every tenth id aside, whatever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from running import strike, wait_until
from springtide.data.streams import Stream, open_stream
from springtide.serve.loop.holdout import held_out
from springtide.serve.loop.places import Places
from springtide.serve.prepare import Preparing, hook
from springtide.spec.errors import UserError

LOOP = (
    "kind: loop\nname: words\nbuild: model:build\nprepare: sounds:record\ntrain: {script: t.py}\nserve: {port: 8080}\n"
)
SOUNDS = (
    'def record(pair):\n    return None if pair["correct"] == "noise" else {"x": pair["input"], "y": pair["correct"]}\n'
)


def asked(number: int) -> dict[str, Any]:
    return {"kind": "request", "id": f"r{number}", "input": number, "output": "up", "version": 2, "time": 1.0}


def corrected(number: int, word: str = "down") -> dict[str, Any]:
    return {"kind": "feedback", "id": f"r{number}", "correct": word, "version": 2, "time": 2.0}


@pytest.fixture
def there(tmp_path: Path) -> Places:
    places = Places(tmp_path / "loops" / "words")
    places.folder.mkdir(parents=True)
    places.file.write_text(LOOP)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sounds.py").write_text(SOUNDS)
    for url in (places.stream("requests"), places.training, places.held_out):
        open_stream(url, create=True).close()
    return places


@contextmanager
def opened(url: str) -> Iterator[Stream]:
    stream = open_stream(url)
    try:
        yield stream
    finally:
        stream.close()


def append(there: Places, *entries: dict[str, Any] | bytes) -> None:
    with opened(there.stream("requests")) as stream:
        stream.append([entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries])


def held(url: str) -> list[dict[str, Any]]:
    with opened(url) as stream:
        return [json.loads(one.value) for one in stream.read(0, 0, limit=100_000)]


def started(there: Places) -> subprocess.Popen[bytes]:
    code = there.folder.parents[1] / "code"
    words = [sys.executable, "-P", "-m", "springtide.serve.prepare", str(there.folder)]
    return subprocess.Popen(words, cwd=code, env=os.environ | {"TIDE_HOME": str(there.folder.parents[1])},
                            stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip


def finish(process: subprocess.Popen[bytes], there: Places) -> None:
    with opened(there.stream("requests")) as stream:
        stream.seal()
    assert process.wait(60) == 0


def test_pairs_become_training_records_and_every_tenth_is_held_out_whole(there: Places) -> None:
    append(there, *(entry for number in range(100) for entry in (asked(number), corrected(number))))
    append(there, corrected(3, "left"), corrected(1000), b"no json", asked(101), corrected(101, "noise"))
    process = started(there)
    finish(process, there)
    aside = [number for number in range(100) if held_out(f"r{number}")]
    assert held(there.training) == [{"x": number, "y": "down"} for number in range(100) if number not in aside]
    found = held(there.held_out)
    assert [one["x"] for one in found] == aside and len(aside) > 3
    assert found[0] == {
        "id": f"r{aside[0]}", "input": aside[0], "output": "up", "correct": "down", "version": 2, "time": 2.0,
        "x": aside[0], "y": "down",
    }  # fmt: skip


def test_killed_again_and_again_each_pair_comes_once(there: Places) -> None:
    process = started(there)
    for turn in range(4):
        begin = turn * 200
        append(there, *(asked(number) for number in range(begin, begin + 200)))
        append(there, *(corrected(number) for number in range(begin, begin + 200)))
        wanted = sum(not held_out(f"r{number}") for number in range(begin + 1 + 37 * turn))
        wait_until(lambda wanted=wanted: len(held(there.training)) >= wanted, "some pairs are there")  # type: ignore[misc]
        strike(process.pid)
        process.wait()
        process = started(there)
    finish(process, there)
    training, aside = held(there.training), held(there.held_out)
    assert [one["x"] for one in training] == [number for number in range(800) if not held_out(f"r{number}")]
    assert [one["x"] for one in aside] == [number for number in range(800) if held_out(f"r{number}")]


def test_a_function_that_fails_on_a_record_drops_it_and_says_so() -> None:
    def failing(pair: dict[str, Any]) -> dict[str, Any]:
        return {"x": pair["input"]["sound"]}

    made = Preparing(failing)
    assert made({"id": "a", "input": 3}, {"correct": "up"}) is None
    assert made.complaints == ["a: prepare failed: TypeError: 'int' object is not subscriptable"]
    assert Preparing(lambda pair: 7)({"id": "a"}, {"correct": "up"}) is None  # type: ignore[arg-type, return-value]


def test_without_a_function_training_sees_input_and_correction() -> None:
    number = next(n for n in range(100) if not held_out(f"r{n}"))
    assert Preparing()(asked(number), corrected(number)) == (
        "training", {"id": f"r{number}", "input": number, "correct": "down"},
    )  # fmt: skip


def test_a_function_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "hearing.py").write_text("def record(pair): return pair\n")
    with pytest.raises(UserError, match='prepare: hearing has no function recrod; did you mean "record"'):
        hook("hearing:recrod", tmp_path)
    with pytest.raises(UserError, match="prepare: nowhere cannot be imported: ModuleNotFoundError"):
        hook("nowhere:record", tmp_path)
