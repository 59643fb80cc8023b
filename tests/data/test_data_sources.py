"""Where bytes come from: by range, once a machine, and never of another version than the one that was opened."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faraway
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet as parquet_format

from springtide import data
from springtide.data import sources
from springtide.data.cache import LIMIT
from springtide.data.files import File, resolve
from springtide.data.sources import BLOCK_BYTES
from springtide.spec import SpringtideError


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are far away at `faraway://NAME`; this machine keeps parts of them in a home of its own."""
    folder = tmp_path / "far"
    folder.mkdir()
    monkeypatch.setenv(faraway.ROOT, str(folder))
    monkeypatch.setenv("TIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_PAUSES_S", (0.0, 0.0))
    yield folder


def some_lines(count: int, width: int = 1000) -> str:
    return "".join(json.dumps({"n": number, "t": "x" * width}) + "\n" for number in range(count))


def told(action: Any) -> str:
    with pytest.raises(SpringtideError) as raised:
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- by range, once


def test_only_the_blocks_that_are_asked_for_come_and_they_come_once(far: Path) -> None:
    content = np.random.default_rng(0).bytes(10 * BLOCK_BYTES + 77)
    (far / "a").write_bytes(content)
    file = File("faraway://a")
    assert file.read(3 * BLOCK_BYTES + 5, 10) == content[3 * BLOCK_BYTES + 5 :][:10]
    assert file.read(3 * BLOCK_BYTES - 5, 10) == content[3 * BLOCK_BYTES - 5 :][:10]
    assert File("faraway://a").read(10 * BLOCK_BYTES, 1000) == content[10 * BLOCK_BYTES :]
    assert [(start // BLOCK_BYTES, end) for _, start, end in faraway.requests()] == [
        (3, 4 * BLOCK_BYTES),
        (2, 3 * BLOCK_BYTES),
        (10, len(content)),
    ]
    faraway.forget()
    assert b"".join(file.blocks()) == content  # neighbours come together, and what is here is not asked for
    assert faraway.requests() == [("/a", 0, 2 * BLOCK_BYTES), ("/a", 4 * BLOCK_BYTES, 8 * BLOCK_BYTES),
                                  ("/a", 8 * BLOCK_BYTES, 10 * BLOCK_BYTES)]  # fmt: skip
    assert file.read(len(content), 5) == b""


def test_without_a_cache_exactly_the_range_is_asked_for(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (far / "a").write_bytes(bytes(100))
    monkeypatch.setenv(LIMIT, "0")
    assert File("faraway://a").read(10, 20) == bytes(20)
    assert faraway.requests() == [("/a", 10, 30)]


def test_lines_are_found_once_and_read_by_range_by_all_that_come_later(far: Path) -> None:
    (far / "a.jsonl").write_text(some_lines(5000))
    first = data.json_lines("faraway://a.jsonl", "n", text="t")
    name = first.fingerprint
    assert sum(end - start for _, start, end in faraway.requests()) == first._files[0].size_bytes
    faraway.forget()
    second = data.json_lines("faraway://a.jsonl", "n", text="t")
    assert [second[number][1] for number in (4999, 17, 2500)] == [4999, 17, 2500]
    assert second.fingerprint == name == data.json_lines(far / "a.jsonl", "n", text="t").fingerprint
    assert faraway.requests() == []


def test_of_a_parquet_file_only_the_columns_asked_for_come(far: Path) -> None:
    drawn = np.random.default_rng(0)
    columns = {f"c{number}": drawn.normal(size=400_000) for number in range(10)}
    parquet_format.write_table(pyarrow.table(columns), far / "a.parquet", row_group_size=200_000, compression="none")
    table = data.parquet("faraway://a.parquet", "c3", ["c7"])
    assert table[300_000][0] == np.float32(columns["c7"][300_000])
    came = sum(end - start for _, start, end in faraway.requests())
    assert came < 0.25 * table._files[0].size_bytes  # two columns of one row group, in whole blocks


def test_processes_at_once_fetch_each_block_once(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (far / "a").write_bytes(np.random.default_rng(0).bytes(12 * BLOCK_BYTES))
    monkeypatch.setenv(faraway.SLOW, "0.02")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import faraway; from springtide.data.files import File\n"
        "import hashlib; f = File('faraway://a'); print(hashlib.sha256(b''.join(f.blocks())).hexdigest())"
    )
    words = [sys.executable, "-c", script, str(Path(__file__).parent)]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({child.communicate(timeout=60)[0] for child in children}) == 1
    asked = [block for _, start, end in faraway.requests() for block in range(start, end, BLOCK_BYTES)]
    assert sorted(asked) == list(range(0, 12 * BLOCK_BYTES, BLOCK_BYTES))


def test_a_damaged_block_is_fetched_again(far: Path, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(BLOCK_BYTES)
    (far / "a").write_bytes(content)
    file = File("faraway://a")
    file.read(0, 1)
    (kept,) = (tmp_path / "home" / "cache" / "data").glob("??/*")
    damaged = bytearray(kept.read_bytes())
    damaged[500_000] ^= 1
    kept.write_bytes(damaged)
    assert file.read(0, BLOCK_BYTES) == content
    assert len(faraway.requests()) == 2


def test_data_larger_than_the_cache_is_read_all_the_same(far: Path, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(9 * BLOCK_BYTES)
    (far / "a").write_bytes(content)
    file = File("faraway://a", disk_cache_bytes=3 * BLOCK_BYTES)
    for _ in range(2):
        assert b"".join(file.blocks()) == content
    kept = list((tmp_path / "home" / "cache" / "data").glob("??/*"))
    assert sum(path.stat().st_size for path in kept) <= 3 * BLOCK_BYTES


def test_images_far_away_come_from_the_cache_the_second_time(far: Path) -> None:
    for number in range(3):
        (far / "pets" / "cat").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(far / "pets" / "cat" / f"{number}.png")
    pictures = data.images("faraway://pets", mode="L")
    near = data.images(far / "pets", mode="L")
    assert [int(pictures[i][0][0, 0, 0]) for i in (2, 0, 1)] == [2, 0, 1]
    assert pictures.fingerprint == near.fingerprint
    faraway.forget()
    assert int(data.images("faraway://pets", mode="L")[2][0][0, 0, 0]) == 2
    assert faraway.requests() == []


def test_a_request_that_brings_too_little_is_made_again(far: Path) -> None:
    (far / "a").write_bytes(b"0123456789")
    Path(f"{far}.trouble").touch()
    assert File("faraway://a").read(0, 10) == b"0123456789"
    assert len(faraway.requests()) == 2


# --- what changed


def rewrite(path: Path, content: bytes) -> None:
    """In place, at another time than before, however coarse the clock of the disk is."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize("place", ["faraway://", ""])
def test_a_file_that_changed_is_named(place: str, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_descriptors", sources.Descriptors(1))
    for name in ("a", "b"):
        (far / name).write_bytes(bytes(3 * BLOCK_BYTES))
    where = place or f"{far}/"
    file = File(f"{where}a")
    file.read(0, 10)
    rewrite(far / "a", bytes(3 * BLOCK_BYTES - 1) + b"1")
    assert told(lambda: file.read(BLOCK_BYTES, 10)) == (
        f"{where}a: this file changed while it was being read: other bytes may be in it now; put it back as it was, "
        "or train on a copy that nobody writes to"
    )
    file = File(f"{where}a")
    rewrite(far / "a", bytes(100))
    said = told(lambda: file.read(BLOCK_BYTES, 10))
    assert f"{where}a: this file changed while it was being read: it was cut from 3145728 to 100 bytes" in said
    file = File(f"{where}a")
    rewrite(far / "a", bytes(101))
    assert "it grew from 100 to 101 bytes" in told(lambda: file.read(0, 10))
    file = File(f"{where}a")
    File(f"{where}b").read(0, 10)  # one file is open at a time
    (far / "a").unlink()
    assert told(lambda: file.read(0, 10)) == (
        f"{where}a: this file was there and is gone; put it back as it was, and start the run again"
    )


def test_what_was_kept_before_a_change_goes_on_being_read(far: Path) -> None:
    (far / "a").write_bytes(b"before")
    file = File("faraway://a")
    file.read(0, 6)
    rewrite(far / "a", b"after!")
    assert file.read(0, 6) == b"before"
    assert File("faraway://a").read(0, 6) == b"after!"


def test_a_mapped_array_that_changed_is_named(far: Path) -> None:
    np.save(far / "x.npy", np.zeros((1000, 3)))
    rows = data.npy(far / "x.npy")
    assert rows[5].tolist() == [0, 0, 0]
    np.save(far / "other.npy", np.ones((10, 3)))
    rewrite(far / "x.npy", (far / "other.npy").read_bytes())
    assert "x.npy: this file changed" in told(lambda: rows[999])


def test_a_parquet_file_and_an_image_that_changed_are_named(far: Path) -> None:
    table = pyarrow.table({"a": np.arange(10_000.0), "b": np.arange(10_000)})
    parquet_format.write_table(table, far / "a.parquet", row_group_size=100)
    rows = data.parquet(far / "a.parquet", "b", ["a"], cache_bytes=1)
    assert rows[5_000][1] == 5_000
    rewrite(far / "a.parquet", (far / "a.parquet").read_bytes()[:-10])
    assert "a.parquet: this file changed while it was being read: it was cut" in told(lambda: rows[17])
    (far / "pets" / "cat").mkdir(parents=True)
    Image.new("L", (4, 4), 1).save(far / "pets" / "cat" / "1.png")
    pictures = data.images(far / "pets")
    Image.new("L", (40, 4), 1).save(far / "pets" / "cat" / "1.png")
    assert "cat/1.png: this file changed while it was being read: it grew" in told(lambda: pictures[0])


# --- many files


def test_more_files_than_a_process_may_open_are_one_dataset(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"part-{number:03}.jsonl").write_text(f'{{"n": {number}, "t": "a"}}\n{{"n": 0, "t": "b"}}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 160, hard))
    try:
        rows = data.json_lines(tmp_path / "part-*.jsonl", "n", text="t")
        assert len(rows) == 600
        assert [int(rows[number][1]) for number in (0, 1, 598, 300)] == [0, 0, 299, 150]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_of_a_pattern_far_away_are_listed_once(far: Path) -> None:
    for number in range(4):
        (far / f"part-{number}.csv").write_text(f"a\n{number}\n{number + 10}\n")
    rows = data.csv("faraway://part-*.csv")
    assert [rows[i].item() for i in range(8)] == [0, 10, 1, 11, 2, 12, 3, 13]
    assert [file.path for file in rows._files] == [f"faraway://part-{number}.csv" for number in range(4)]


# --- what cannot be reached


def test_what_is_missing_for_a_storage_is_one_sentence() -> None:
    assert told(lambda: data.csv("s3://bucket/a.csv")) == (
        "s3://bucket/a.csv: files at s3:// are read by the package s3fs, which is not here; "
        "pip install 'springtide[s3]'"
    )
    assert "gs://b/a.npy: files at gs:// are read by the package gcsfs" in told(lambda: data.npy("gs://b/a.npy"))
    assert "s3fs" in told(lambda: data.parquet("s3://bucket/*.parquet"))
    assert "s3fs" in told(lambda: data.images("s3://bucket/pets"))
    assert "no storage is called webhdsf://; did you mean 'webhdfs'?" in told(lambda: data.csv("webhdsf://a/b.csv"))
    assert told(lambda: data.csv("webhdfs:///a.csv")).endswith("write webhdfs://HOST:9870/PATH")


@pytest.mark.skipif("HADOOP_HOME" in os.environ, reason="Hadoop's native library may be here")
def test_hdfs_without_its_library_names_the_way_that_needs_none() -> None:
    said = told(lambda: data.csv("hdfs://name/a.csv"))
    assert said.startswith("hdfs://name/a.csv: Hadoop's native library is not here")
    assert said.endswith("write webhdfs://HOST:9870/PATH, which needs none")


def test_a_password_is_never_shown(far: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    said = told(lambda: data.csv(f"webhdfs://me:secret@127.0.0.1:{port}/a.csv"))
    assert f"webhdfs://127.0.0.1:{port}/a.csv cannot be reached" in said
    assert "secret" not in said


def test_a_name_node_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springtide.data.files._TIME_LIMIT_S", (5.0, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        taking = threading.Thread(target=lambda: accepted.append(silent.accept()[0]))
        taking.start()
        said = told(lambda: data.csv(f"webhdfs://127.0.0.1:{silent.getsockname()[1]}/a.csv"))
        taking.join(10)
        accepted[0].close()
    assert "cannot be reached" in said


def test_who_asks_a_name_node_is_this_user_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "hannah")
    system, inner = resolve("webhdfs://name/a/b.csv")
    assert (system.url, system.user, inner) == ("http://name:9870/webhdfs/v1", "hannah", "/a/b.csv")
    assert resolve("webhdfs://olga@name:50070/a")[0].user == "olga"
