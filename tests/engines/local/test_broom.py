"""What is thrown away is gone; of what is over the newest logs and results stay."""

from __future__ import annotations

import os
from pathlib import Path

from springtide.engines.local.broom import KEPT_RESULTS, Broom


def _result(folder: Path, job: str, age: int, content: str = "weights") -> Path:
    at = folder / "results" / job
    at.mkdir(parents=True)
    if content:
        (at / "model").write_text(content)
    os.utime(at, (1000 - age, 1000 - age))
    return at


def _swept(folder: Path, *keep: str) -> None:
    (folder / "jobs").mkdir(exist_ok=True)
    broom = Broom(folder / "jobs", folder / "logs", folder / "results")
    broom.sweep(keep)
    broom.close()


def test_of_each_name_the_newest_results_stay(tmp_path: Path) -> None:
    nightly = [_result(tmp_path, f"nightly-{at}", age=10 - at) for at in range(KEPT_RESULTS + 2)]
    other = _result(tmp_path, "asr-7", age=99)
    _swept(tmp_path)
    assert [path.exists() for path in nightly] == [False, False] + [True] * KEPT_RESULTS
    assert other.exists()


def test_results_of_a_job_that_is_not_over_stay_however_old(tmp_path: Path) -> None:
    old = _result(tmp_path, "nightly-1", age=500)
    for at in range(2, KEPT_RESULTS + 3):
        _result(tmp_path, f"nightly-{at}", age=10)
    _swept(tmp_path, "nightly-1")
    assert old.exists()


def test_a_job_that_left_nothing_leaves_no_folder(tmp_path: Path) -> None:
    empty = _result(tmp_path, "hello-1", age=0, content="")
    _swept(tmp_path)
    assert not empty.exists()


def test_what_was_thrown_away_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "a-1"
    (folder / "deep").mkdir(parents=True)
    broom = Broom(tmp_path / "jobs", tmp_path / "logs", tmp_path / "results")
    broom.throw(folder)
    assert not folder.exists()
    broom.sweep(())
    broom.close()
    assert not list((tmp_path / "jobs" / ".gone").iterdir())
