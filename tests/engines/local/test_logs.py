"""Logs by their files alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from springtide.engines.local import logs
from springtide.engines.local.logs import Bucket, Writer, follow, tail


def test_the_last_lines_come_from_older_files_where_the_newest_has_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ROTATE_BYTES", 40)
    writer = Writer(tmp_path, "r1")
    for number in range(30):
        writer.write(f"line {number}\n".encode())
    writer.close()
    assert len(list(tmp_path.glob("r1.log*"))) == logs.KEPT
    assert tail(tmp_path, "r1", 7) == [f"line {number}" for number in range(23, 30)]
    assert tail(tmp_path, "r2", 7) == []


def test_following_an_ended_log_ends_with_its_last_line(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "r1")
    writer.write(b"one\ntwo\nthree")
    writer.close()
    assert list(follow(tmp_path, "r1", threading.Event())) == ["one", "two", "three"]
    assert list(follow(tmp_path, "r1", threading.Event(), lines=1)) == ["two", "three"]


def test_a_stopped_follower_comes_back(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert list(follow(tmp_path, "nobody", stop)) == []


def test_a_bucket_lets_a_burst_through_and_holds_a_flood_to_its_rate() -> None:
    bucket = Bucket(rate=100.0, room=100.0, left=100.0, at_s=0.0)
    assert bucket.take(100, 0.0) == 0.0
    assert bucket.take(50, 0.0) == 0.5
    assert bucket.take(100, 1.5) == 0.0
