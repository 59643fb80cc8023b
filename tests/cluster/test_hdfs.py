"""Data on a real HDFS, by webhdfs: the same samples, names and weights as from this machine's disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hdfs import Hdfs, hdfs
from PIL import Image
from pyarrow import parquet as parquet_format

import running
from running import Running
from springtide import data
from springtide.data.cache import LIMIT
from springtide.data.files import File
from springtide.spec import UserError

__all__ = ["hdfs"]
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("hdfs")]

SCRIPT = """
import sys, time
import torch
from torch import nn
from springtide import data, train

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
rows = data.json_lines(sys.argv[1], "y", sequence="x")
run = train.Run(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), rows, 32, steps=int(sys.argv[2]))
for x, y in run:
    time.sleep(0.001)
    run.backward(nn.functional.cross_entropy(model(x), y))
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this machine keeps of far files, from nothing."""
    monkeypatch.setenv("TIDE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache" / "data"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def shards(folder: Path, count: int = 4, rows: int = 200) -> Path:
    drawn = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for number in range(count):
        records = ({"x": drawn.normal(size=8).tolist(), "y": int(drawn.integers(3))} for _ in range(rows))
        (folder / f"part-{number}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def every_kind(folder: Path) -> None:
    (folder / "t").mkdir()
    for part in range(3):
        rows = range(part * 50, part * 50 + 50)
        (folder / "t" / f"a-{part}.csv").write_text("x,y\n" + "".join(f"{i / 7},{i % 3}\n" for i in rows))
        (folder / "t" / f"a-{part}.jsonl").write_text("".join(f'{{"t": "é{i}", "y": {i}}}\n' for i in rows))
        table = pyarrow.table({"x": [i / 3 for i in rows], "z": [str(i) for i in rows], "y": list(rows)})
        parquet_format.write_table(table, folder / "t" / f"a-{part}.parquet", row_group_size=20)
    np.save(folder / "t" / "x.npy", np.random.default_rng(0).normal(size=(150, 3)))
    for kind in ("cat", "dog"):
        (folder / "pets" / kind).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (5, 4), 10 * number).save(folder / "pets" / kind / f"{number}.png")


def readers(place: str) -> dict[str, Any]:
    return {
        "csv": data.csv(f"{place}/t/a-*.csv", "y"),
        "json_lines": data.json_lines(f"{place}/t/*.jsonl", "y", text="t"),
        "parquet": data.parquet(f"{place}/t/a-*.parquet", "y", ["x"]),
        "npy": data.npy(f"{place}/t/x.npy"),
        "images": data.images(f"{place}/pets", mode="L"),
    }


def test_each_reader_gives_the_samples_and_the_name_that_it_gives_here(hdfs: Hdfs, kept: Path, tmp_path: Path) -> None:
    every_kind(tmp_path)
    hdfs.put(tmp_path / "t", "/kinds/t")
    hdfs.put(tmp_path / "pets", "/kinds/pets")
    near = readers(str(tmp_path))
    for name, far in readers(f"{hdfs.url}/kinds").items():
        assert len(far) == len(near[name]), name
        assert repr([far[i] for i in range(len(far))]) == repr([near[name][i] for i in range(len(far))]), name
        assert data.fingerprint(far) == data.fingerprint(near[name]), name
    assert any(kept.glob("??/*"))


def test_what_is_missing_on_hdfs_is_told_as_it_is_here(hdfs: Hdfs, kept: Path, tmp_path: Path) -> None:
    hdfs.put(shards(tmp_path / "s", 1), "/missing")
    shown = f"webhdfs://localhost:{hdfs.port}/missing"
    for path, said in [
        ("part-1.jsonl", f"{shown}/part-1.jsonl: there is no such JSON lines file; did you mean 'part-0.jsonl'?"),
        ("other-*.jsonl", f"{shown}/other-*.jsonl: no JSON lines file fits this pattern"),
        ("", f"{shown}/: this is a folder; give the path of a JSON lines file"),
    ]:
        with pytest.raises(UserError) as raised:
            data.json_lines(f"{hdfs.url}/missing/{path}")
        assert str(raised.value) == said


def test_a_file_that_was_written_anew_is_named(hdfs: Hdfs, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdfs.system.pipe_file("/changing/a", bytes(3 << 20))
    file = File(f"{hdfs.url}/changing/a")
    assert file.read(0, 10) == bytes(10)
    hdfs.system.pipe_file("/changing/a", b"1" * (3 << 20))
    with pytest.raises(UserError, match="/changing/a: this file changed while it was being read: other bytes may be"):
        file.read(2 << 20, 10)
    assert file.read(0, 10) == bytes(10)  # a block that is here is of the version that was opened
    hdfs.system.rm("/changing/a")
    with pytest.raises(UserError, match="/changing/a: this file was there and is gone"):
        file.read(1 << 20, 10)


def test_a_cluster_that_stands_still_for_a_while_is_waited_for(hdfs: Hdfs, kept: Path) -> None:
    content = np.random.default_rng(0).bytes(2 << 20)
    hdfs.system.pipe_file("/still/a", content)
    file, found = File(f"{hdfs.url}/still/a"), []
    hdfs.stop()
    try:
        reading = threading.Thread(target=lambda: found.append(file.read(1 << 20, 100)))
        reading.start()
        reading.join(0.5)
        assert reading.is_alive()
    finally:
        hdfs.go_on()
    reading.join(60)
    assert found == [content[1 << 20 :][:100]]


def test_training_on_hdfs_under_kills_gives_the_weights_of_local_files(
    hdfs: Hdfs, script: Path, home: Path, tmp_path: Path
) -> None:
    hdfs.put(shards(tmp_path / "s"), "/killed")
    wanted = running.alone(script, tmp_path / "s" / "part-*.jsonl", 120, home=tmp_path / "alone")["digest"]
    options = ("--chaos", "kill=1,every=10steps")
    run = Running(script, f"{hdfs.url}/killed/part-*.jsonl", 120, home=home, workers="2", options=options)
    report = run.finish()
    assert (report["exit"], report["digest"]) == (0, wanted), run.story()
    assert len(run.of("generation")) > 3
    assert any((home / "cache" / "data").glob("??/*"))


def test_a_shard_lost_during_training_ends_it_with_its_name_and_once_back_all_goes_on(
    hdfs: Hdfs, script: Path, home: Path, tmp_path: Path
) -> None:
    hdfs.put(shards(tmp_path / "s", 2), "/lost")
    wanted = running.alone(script, tmp_path / "s" / "part-*.jsonl", 20, home=tmp_path / "alone")["digest"]
    words: dict[str, Any] = {"home": home, "workers": "2", "options": ("--every", "2steps"), LIMIT: "0"}
    run = Running(script, f"{hdfs.url}/lost/part-*.jsonl", 20, **words)
    run.until("checkpoint")
    aside = "/kept-aside"
    hdfs.system.mv("/lost/part-1.jsonl", aside)
    assert run.finish()["exit"] == 2, run.story()
    assert f"webhdfs://localhost:{hdfs.port}/lost/part-1.jsonl: this file was there and is gone" in run.errors
    assert "Traceback" not in run.errors
    hdfs.system.mv(aside, "/lost/part-1.jsonl")
    again = Running(script, f"{hdfs.url}/lost/part-*.jsonl", 20, **words)
    assert again.until("start")["resumed_step"] > 0
    report = again.finish()
    assert (report["exit"], report["digest"]) == (0, wanted), again.story()


def test_a_shard_lost_after_it_was_read_is_not_missed(hdfs: Hdfs, script: Path, home: Path, tmp_path: Path) -> None:
    hdfs.put(shards(tmp_path / "s", 2), "/unmissed")
    wanted = running.alone(script, tmp_path / "s" / "part-*.jsonl", 60, home=tmp_path / "alone")["digest"]
    run = Running(script, f"{hdfs.url}/unmissed/part-*.jsonl", 60, home=home, workers="2")
    run.until("step")
    hdfs.system.rm("/unmissed", recursive=True)
    report = run.finish()
    assert (report["exit"], report["digest"]) == (0, wanted), run.story()
