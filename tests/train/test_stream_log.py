"""The step log: found by halving, whole after any crash, one writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.spec import SpringtideError
from springtide.train import step_log
from springtide.train.step_log import Beginning, Planned, Writer
from springtide.train.step_reader import Reader


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "steps.log")
    yield writer
    writer.close()


def steps(count: int, first: int = 0) -> list[Planned]:
    """Two partitions, of which the second has every third step."""
    return [
        Planned(((0, k * 4, k * 4 + 4), (1, k, k + 1)) if k % 3 == 0 else ((0, k * 4, k * 4 + 4),), k)
        for k in range(first, first + count)
    ]


def test_each_step_is_found_wherever_one_looks_first(log: Writer) -> None:
    log.begin(Beginning("run", 7, {0: 0, 1: 0}))
    for first in range(0, 3000, 100):
        log.append(steps(100, first))
    reader = Reader(log.path)
    for step in (3007, 8, 1500, 1501, 9, 2900, 9999, 3007):
        found = reader.entry(step)
        if step == 9999:
            assert found is None
        else:
            assert found is not None and (found.step, found.ranges) == (step, steps(1, step - 8)[0].ranges)
    assert reader.entry(7) is None and reader.entry(0) is None
    assert reader.last() == reader.entry(3007)


def test_a_log_goes_on_where_its_last_writer_stopped(log: Writer) -> None:
    log.begin(Beginning("run", 5, {0: 3}, samples=60, checksum=9))
    log.append(steps(70))
    offsets = log.offsets
    log.close()
    again = Writer(log.path)
    try:
        assert again.beginning == Beginning("run", 5, {0: 3}, samples=60, checksum=9)
        assert (again.step, again.offsets, again.last) == (75, offsets, log.last)
        again.append(steps(1, 70))
        assert again.step == 76 and again.last is not None
        assert again.last.records == sum(end - begin for s in steps(71) for _, begin, end in s.ranges)
        assert again.last.checksum == sum(range(71))
    finally:
        log._handle = os.dup(again._handle)
        again.close()


@given(count=st.integers(0, 200), begun=st.integers(0, 90), at=st.integers(0, 200))
@settings(max_examples=40)
def test_offsets_after_any_step_are_what_the_steps_up_to_it_took(
    tmp_path_factory: pytest.TempPathFactory, count: int, begun: int, at: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "steps.log"
    writer = Writer(path)
    writer.begin(Beginning("run", begun, {0: 0, 5: 17}))
    writer.append(steps(count))
    at = min(at, count)
    expected = {0: 0, 5: 17}
    for planned in steps(at):
        expected |= {partition: end for partition, _, end in planned.ranges}
    assert writer.offsets_after(begun + at) == expected
    writer.cut_after(begun + at)
    assert (writer.step, writer.offsets) == (begun + at, expected)
    writer.close()


@given(cut=st.integers(0, 4000), garbage=st.binary(max_size=40))
@settings(max_examples=60)
def test_what_a_crash_tore_is_cut_off_and_all_before_it_stays(
    tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "steps.log"
    writer = Writer(path)
    writer.begin(Beginning("run", 0, {0: 0, 1: 0}))
    writer.append(steps(64))
    writer.close()
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[:cut] + garbage)
    whole = content[:cut].count(b"\n") - 1  # steps
    again = Writer(path)
    assert again.step == max(0, whole) and (again.beginning is None) == (whole < 0)
    kept = content[:cut]
    assert path.read_bytes() == kept[: kept.rfind(b"\n") + 1]
    again.close()


def test_a_second_writer_is_refused_while_the_first_lives(log: Writer) -> None:
    with pytest.raises(SpringtideError, match="is written by another process"):
        Writer(log.path)


def test_a_changed_line_is_named(log: Writer) -> None:
    log.begin(Beginning("run"))
    log.append(steps(3))
    content = log.path.read_bytes()
    log.path.write_bytes(content.replace(b"[2,[[0,4,8]]", b"[2,[[0,4,9]]"))
    with pytest.raises(SpringtideError, match=r"steps.log was changed at byte \d+"):
        Reader(log.path).entry(2)


def test_a_reader_asks_for_nothing_that_may_still_be_taken_back(log: Writer) -> None:
    durable = 2
    reader = Reader(log.path, lambda: durable)
    log.begin(Beginning("run"))
    log.append(steps(5))
    assert reader.entry(2) is not None and reader.entry(3) is None
    log.cut_after(2)
    log.append(steps(4, 9))
    durable = 6
    found = reader.entry(3)
    assert found is not None and found.ranges == steps(1, 9)[0].ranges


def test_a_writer_that_is_killed_leaves_whole_steps_and_the_lease(tmp_path: Path) -> None:
    path = tmp_path / "steps.log"
    script = (
        "import sys; from pathlib import Path; from springtide.train.step_log import *\n"
        "log = Writer(Path(sys.argv[1])); log.begin(Beginning('run')); k = 0\n"
        "while True:\n"
        "    log.append([Planned(((0, k, k + 1),), k)]); k += 1; print(k, flush=True)\n"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(20)][-1]
        child.send_signal(signal.SIGKILL)
        told = ([told, *child.stdout.read().split()])[-1]
        child.wait()
        child.stdout.close()
        log = Writer(path)
        assert log.step in (int(told), int(told) + 1), "what was acknowledged is there"
        assert log.offsets == {0: log.step}
        log.close()


def test_many_partitions_are_told_in_full_only_now_and_then(log: Writer) -> None:
    log.begin(Beginning("run", 0, dict.fromkeys(range(100), 0)))
    log.append(steps(200))
    lengths = [len(line) for line in log.path.read_bytes().splitlines()[1:]]
    assert sum(length > 500 for length in lengths) == 200 // step_log.MAP_EVERY


def test_what_does_not_fit_on_the_disk_is_told_and_nothing_of_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "steps.log"
    script = (
        "import resource, signal, sys; from pathlib import Path; from springtide.train.step_log import *\n"
        "from springtide.spec import SpringtideError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); log = Writer(Path(sys.argv[1])); log.begin(Beginning('run'))\n"
        "log.append([Planned(((0, 0, 4),), 0)]); size = log.path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))\n"
        "try:\n"
        "    log.append([Planned(((0, 4, 8),), 0)] * 20)\n"
        "except SpringtideError as error:\n"
        "    print(error, log.path.stat().st_size == size, log.step)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"the step log {path} cannot be written: file too large True 1\n"
