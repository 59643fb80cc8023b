"""A stream job has as many replicas as its lag asks for, and each record comes out once all the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sharing.world import MEMORY_BYTES, World
from springtide.data.streams import open_stream
from springtide.spec import Job, Kind, Priority, Range, Resources

PARTITIONS, RECORDS = 3, 3600
PREPARE = '''"""Takes its time with each record."""
import sys, time
from springtide.data import streams

def slowly(record):
    time.sleep(0.004)
    return record

streams.process(sys.argv[1], sys.argv[2], slowly, name="prepare")
'''


@pytest.mark.slow
def test_replicas_grow_with_a_backlog_and_go_when_it_is_worked_off(world: World, tmp_path: Path) -> None:
    source, sink = f"log://{tmp_path}/source", f"log://{tmp_path}/sink"
    _fill(source)
    (world.folder / "prepare.py").write_text(PREPARE)
    world.up("4x1cpu,2Gi", "scale_down: 3s\n")
    job = Job(
        kind=Kind.STREAM, name="prepare", priority=Priority.STANDARD, replicas=Range(1, 4), lag=300,
        resources=Resources(cpu=1, memory=MEMORY_BYTES), folder=str(world.folder),
        command=("python", "prepare.py", source, sink), grace_s=5.0,
    )  # fmt: skip
    world.submit(job)
    world.until(lambda: len(world.pids("prepare")) == PARTITIONS, "it grows to as many as there are partitions")
    world.until(lambda: "one replica may be 300 behind" in _explained(world), "and it says why")
    world.until(lambda: len(world.pids("prepare")) == 1, "it shrinks when little waits")
    assert "its load needs no more than 1 replica since 3 s" in world.told("prepare", "shrink")
    world.until(lambda: len(_of(sink)) >= RECORDS, "all is processed")
    assert Counter(_of(sink)) == Counter(range(RECORDS))
    assert "grows to 4" not in world.told("prepare")


def _explained(world: World) -> str:
    return " ".join(str(world.tide("explain", "prepare").stdout).split())


def _fill(url: str) -> None:
    stream = open_stream(url, create=True, partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        mine = range(partition, RECORDS, PARTITIONS)
        stream.append([json.dumps({"id": at}).encode() for at in mine], partition=partition)
    stream.close()


def _of(url: str) -> list[int]:
    stream = open_stream(url)
    found = []
    for partition, bounds in stream.bounds().items():
        offset = bounds.first
        while more := stream.read(partition, offset):
            found += [json.loads(record.value)["id"] for record in more]
            offset = more[-1].offset + 1
    stream.close()
    return found
