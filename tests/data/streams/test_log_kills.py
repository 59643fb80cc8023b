"""Writers killed at random instants: no acknowledged record is lost, none is there twice, readers see nothing else."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from logs import a_log, ended, forked, kill

from springtide.data.streams import Stream, open_stream
from springtide.data.streams.log import LogStream

WRITERS = 3
LONGEST_S = 0.12  # until the kill


def write_for_ever(url: str, writer: int, told: int, seed: int) -> None:
    """Append batches of numbered records; tell of each batch when it is acknowledged."""
    log, chance, number = open_stream(url), random.Random(seed), 0
    while True:
        count = chance.choice((1, 1, 1, 5, 50))
        values = [b"%d %d %s" % (writer, number + at, b"x" * chance.randrange(200)) for at in range(count)]
        places = log.append(values)
        assert [offset for _, offset in places] == list(range(places[0][1], places[0][1] + count))
        number += count
        os.write(told, struct.pack("<II", number, count))


def read_for_ever(url: str, told: int) -> None:
    """Follow the stream, and tell of each record, with its partition."""
    log: Stream = open_stream(url)
    places = dict.fromkeys(log.bounds(), 0)
    while True:
        for partition, offset in places.items():
            for record in log.read(partition, offset):
                assert record.offset == places[partition]
                places[partition] = record.offset + 1
                os.write(told, b"%d %s\n" % (partition, b" ".join(record.value.split()[:2])))
        log.wait(places, 1.0)


def contents(log: LogStream) -> dict[int, list[tuple[int, int]]]:
    """By partition, (writer, number) of each record in order."""
    found: dict[int, list[tuple[int, int]]] = {}
    for partition, bounds in log.bounds().items():
        found[partition], offset = [], bounds.first
        while more := log.read(partition, offset):
            for record in more:
                writer, number = record.value.split()[:2]
                found[partition].append((int(writer), int(number)))
            offset = more[-1].offset + 1
        assert offset == bounds.end
    return found


def drained(descriptor: int) -> bytes:
    """All that was written into a pipe whose writers are dead."""
    os.set_blocking(descriptor, False)
    parts = []
    while select.select([descriptor], [], [], 0)[0] and (part := os.read(descriptor, 1 << 20)):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def one_round(log: LogStream, round_number: int, seed: int) -> dict[int, int]:
    """Writers and a reader, killed after a while: how many records of each writer were acknowledged."""
    chance = random.Random(seed)
    pipes = {round_number * WRITERS + at: os.pipe() for at in range(WRITERS)}
    pids = {
        writer: forked(lambda writer=writer, end=ends[1]: write_for_ever(log.url, writer, end, seed + writer))
        for writer, ends in pipes.items()
    }  # fmt: skip
    seen, end = os.pipe()
    reader = forked(lambda: read_for_ever(log.url, end))
    order = list(pids.values())
    chance.shuffle(order)
    for pid in order:
        time.sleep(chance.random() * LONGEST_S)
        kill(pid)
    time.sleep(0.01)
    kill(reader)
    os.close(end)
    acknowledged = {}
    for writer, (told, other) in pipes.items():
        os.close(other)
        said = drained(told)
        acknowledged[writer] = max((number for number, _ in struct.iter_unpack("<II", said)), default=0)
    check_reader(log, drained(seen))
    return acknowledged


def check_reader(log: LogStream, said: bytes) -> None:
    """What it saw is how the partitions begin."""
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for line in said.splitlines()[:-1]:  # the last may be torn: it was killed, too
        partition, writer, number = (int(word) for word in line.split())
        seen[partition].append((writer, number))
    for partition, found in contents(log).items():
        assert seen[partition] == found[: len(seen[partition])]


def run(folder: Path, rounds: int, seed: int, **settings: object) -> None:
    log = a_log(folder / "log", 2, **settings)
    acknowledged: dict[int, int] = {}
    for number in range(rounds):
        acknowledged |= one_round(log, number, seed + 1000 * number)
        found = contents(log)
        numbers: dict[int, list[int]] = defaultdict(list)
        for records in found.values():
            for writer in {writer for writer, _ in records}:
                mine = [at for of, at in records if of == writer]
                assert mine == sorted(mine), f"seed {seed}, round {number}: out of order"
                numbers[writer] += mine
        for writer, count in acknowledged.items():
            mine = sorted(numbers[writer])
            assert len(mine) == len(set(mine)), f"seed {seed}, round {number}: doubled"
            missing = set(range(count)) - set(mine)
            assert not missing, f"seed {seed}, round {number}: acknowledged and lost: {sorted(missing)[:10]}"
    assert sum(acknowledged.values()) > 0
    log.close()


@pytest.mark.parametrize("sync", ["5ms", "each", "os"])
def test_killed_writers_lose_and_double_nothing(sync: str, tmp_path: Path) -> None:
    run(tmp_path, 3, seed=random.randrange(10**6), sync=sync, segment=30_000)


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["5ms", "each", "os"])
def test_killed_writers_lose_and_double_nothing_in_200_rounds(sync: str, tmp_path: Path) -> None:
    for part in range(7):
        run(tmp_path / str(part), 10, seed=random.randrange(10**6), sync=sync, segment=30_000)


@pytest.mark.parametrize("sync", ["each", "os"])
def test_a_writer_may_die_at_many_lines(sync: str, tmp_path: Path) -> None:
    die_at_lines(a_log(tmp_path / "log", sync=sync, segment=4096), random.randrange(11), 11)


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["each", "os"])
def test_a_writer_may_die_at_any_line(sync: str, tmp_path: Path) -> None:
    die_at_lines(a_log(tmp_path / "log", sync=sync, segment=4096), 0, 1)


def die_at_lines(log: LogStream, lines: int, stride: int) -> None:
    """Of appending, syncing, beginning a segment and of the recovery that the one before it made necessary."""
    acknowledged: set[int] = set()
    code, next_number = -signal.SIGKILL, 0

    def die_at(count: int, first: int, told: int) -> None:
        left = itertools.count(count, -1)

        def look(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
            if not frame.f_code.co_filename.endswith("streams/partition.py"):
                return None
            if event == "line" and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return look

        sys.settrace(look)
        for number in range(first, first + 3):
            log.append([b"%d " % number + b"x" * 900], note=b'{"who": %d}' % number)
            os.write(told, struct.pack("<I", number))

    while code == -signal.SIGKILL:
        told, end = os.pipe()
        pid = forked(lambda count=lines, first=next_number, end=end: die_at(count, first, end))
        code = ended(pid)
        os.close(end)
        acknowledged |= {number for (number,) in struct.iter_unpack("<I", drained(told))}
        next_number, lines = next_number + 3, lines + stride
    assert code == 0
    log.append([b"last"])
    numbers = [int(record.value.split()[0]) for record in log.read(0, 0, limit=10**6)[:-1]]
    assert numbers == sorted(set(numbers))
    assert acknowledged <= set(numbers)
    assert log.positions()[0] == {"who": numbers[-1]}
    log.close()


def test_what_a_killed_writer_had_not_synced_is_synced_by_who_waits_for_it(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="300ms")
    log.append([b"first"])
    log.wait({0: 0}, 10.0)

    def append_and_die() -> None:
        open_stream(log.url).append([b"second"])
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(forked(append_and_die)) == -signal.SIGKILL
    assert log.wait({0: 1}, 60.0)
    log.append([b"third"])
    assert [record.value for record in log.read(0, 0)] == [b"first", b"second", b"third"]
    log.close()


def test_a_fork_of_a_writer_is_a_writer_of_its_own(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os")
    log.append([b"parent"])

    def work() -> None:
        for at in range(50):
            log.append([b"child %d" % at])

    pid = forked(work)
    for at in range(50):
        log.append([b"parent %d" % at])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    values = [record.value for record in log.read(0, 0)]
    assert sorted(values) == sorted(
        [b"parent", *(b"%s %d" % (who, at) for who in (b"child", b"parent") for at in range(50))]
    )
    log.close()
