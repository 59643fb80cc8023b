"""Torn writes, flipped bits, full and failing disks, machines that restart: what is lost is named, and is all."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from logs import a_log, ended, flip, forked, last_segment, restart_the_machine

from springtide.data.streams import Damaged, Expired, Full, frames, open_stream, segments
from springtide.data.streams.log import LogStream
from springtide.data.streams.marks import Marks, Word
from springtide.spec import SpringtideError, UserError

VALUES = [b"%d-" % at + b"v" * (at % 50) for at in range(30)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogStream]:
    """Thirty records, each in a frame of its own."""
    made = a_log(tmp_path / "log", sync="os")
    for value in VALUES:
        made.append([value])
    yield made
    made.close()


def values_of(log: LogStream) -> list[bytes]:
    return [record.value for record in log.read(0, 0)]


# --- torn writes


def test_a_torn_tail_is_cut_off_wherever_it_tore(log: LogStream) -> None:
    path = last_segment(log)
    whole, row = path.read_bytes(), Marks(log.folder).rows[0]
    frame = frames.encode([b"torn"], offset=30, time_us=1, durable=30, seed=segments.seed(log.settings.identity, 0, 0))
    for size in range(len(frame)):
        path.write_bytes(whole + frame[:size])
        row[Word.DIRTY] = 1
        assert log.append([b"next"]) == [(0, 30)]
        assert values_of(log) == [*VALUES, b"next"]
        path.write_bytes(whole)
        row[Word.BYTES], row[Word.WRITTEN], row[Word.DURABLE] = len(whole), 30, 30


def test_a_frame_that_was_whole_when_its_writer_died_is_kept(log: LogStream) -> None:
    path = last_segment(log)
    seed = segments.seed(log.settings.identity, 0, 0)
    with path.open("ab") as file:
        file.write(frames.encode([b"a", b"b"], offset=30, time_us=1, durable=30, seed=seed))
    Marks(log.folder).rows[0][Word.DIRTY] = 1
    assert log.append([b"next"]) == [(0, 32)]
    assert values_of(log) == [*VALUES, b"a", b"b", b"next"]


@pytest.mark.parametrize("stale", [0, 7, 30])
def test_after_a_restart_of_the_machine_all_that_reached_the_disk_is_there(log: LogStream, stale: int) -> None:
    with last_segment(log).open("ab") as file:
        file.write(b"\0" * 5000)  # what file systems leave of a write that was under way
    found = restart_the_machine(log, durable=stale)
    assert values_of(found) == VALUES
    assert found.append([b"next"]) == [(0, 30)]
    found.close()


def test_what_lies_behind_a_tear_was_never_acknowledged(log: LogStream) -> None:
    """A disk may keep the second of two writes, and not the first."""
    seed = segments.seed(log.settings.identity, 0, 0)
    first, second = (frames.encode([b"x"], offset=at, time_us=1, durable=30, seed=seed) for at in (30, 31))
    with last_segment(log).open("ab") as file:
        file.write(b"\0" * len(first) + second)
    found = restart_the_machine(log, durable=0)
    assert values_of(found) == VALUES
    assert found.append([b"next"]) == [(0, 30)]
    found.close()


def test_the_words_may_be_lost_altogether(log: LogStream) -> None:
    log.close()
    (log.folder / "marks").unlink()
    found = open_stream(log.url)
    assert [record.value for record in found.read(0, 0)] == VALUES
    assert found.append([b"next"]) == [(0, 30)]
    found.close()


def test_an_offset_is_never_used_twice_though_acknowledged_records_are_missing(log: LogStream) -> None:
    path = last_segment(log)
    os.truncate(path, path.stat().st_size // 2)
    Marks(log.folder).rows[0][Word.DIRTY] = 1
    assert log.append([b"next"]) == [(0, 30)]
    found = log.read(0, 0)
    lost = len(found)
    assert [record.value for record in found] == VALUES[:lost]
    with pytest.raises(Damaged, match=rf"records {lost} to 29 of partition 0 cannot be read; .* go on at 30") as caught:
        log.read(0, lost)
    assert log.read(0, caught.value.next_offset)[0].value == b"next"


# --- flipped bits


def test_every_flipped_bit_is_named_and_nothing_wrong_is_handed_out(log: LogStream) -> None:
    path, chance = last_segment(log), random.Random(5)
    size = path.stat().st_size
    for position in sorted(chance.sample(range(size), 300)):
        flip(path, position)
        reader = LogStream(str(log.folder))
        found, offset, named = [], 0, []
        while offset < 30:
            try:
                more = reader.read(0, offset, limit=4)
                found += [(record.offset, record.value) for record in more]
                offset = more[-1].offset + 1
            except Damaged as error:
                named.append(error)
                offset = error.next_offset
        assert len(named) == 1, position
        assert named[0].file == str(path)
        assert named[0].position <= position < named[0].position + 200
        assert named[0].next_offset == named[0].offset + 1
        assert found == [(at, value) for at, value in enumerate(VALUES) if at != named[0].offset]
        for beyond in (named[0].offset + 1, 29):
            if named[0].offset != beyond < 30:
                assert reader.read(0, beyond, limit=1)[0].value == VALUES[beyond]  # by the index and headers alone
        reader.close()
        flip(path, position)


def test_damage_is_never_taken_for_a_torn_tail(log: LogStream) -> None:
    """Not even where the words of an earlier boot know less than the segment."""
    flip(last_segment(log), 100)
    found = restart_the_machine(log, durable=0)
    assert found.bounds()[0].end == 30
    assert found.append([b"next"]) == [(0, 30)]
    with pytest.raises(Damaged):
        [found.read(0, at, limit=1) for at in range(30)]
    assert [record.value for record in found.read(0, 20)] == [*VALUES[20:], b"next"]
    found.close()


def test_a_stored_frame_inside_a_record_is_no_frame(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os")
    inner = frames.encode([b"inner"] * 9, offset=1, time_us=1, durable=9, seed=segments.seed("another", 0, 0))
    log.append([inner])
    log.append([b"second"])
    flip(last_segment(log), 2)
    with pytest.raises(Damaged, match=r"record 0 of partition 0"):
        log.read(0, 0)
    assert log.read(0, 1)[0].value == b"second"
    log.close()


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os", segment=4096)
    for at in range(30):
        log.append([b"%d" % at + b"x" * 1000])
    bases = segments.bases(log.folder / "0")
    segments.remove(log.folder / "0", bases[1])
    reader = LogStream(str(log.folder))
    assert [record.offset for record in reader.read(0, 0)] == list(range(bases[1]))
    with pytest.raises(Damaged, match=rf"records {bases[1]} to {bases[2] - 1} .* go on at {bases[2]}"):
        reader.read(0, bases[1])
    assert reader.read(0, bases[2])[0].offset == bases[2]
    reader.close()
    log.close()


# --- no room


def test_a_full_disk_is_one_sentence_and_leaves_nothing_torn(log: LogStream) -> None:
    before = last_segment(log).stat().st_size

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 150, before + 150))
        own = open_stream(log.url)
        own.append([b"fits"])
        with pytest.raises(Full, match=r"there is no room left for what was to be appended .* nothing of it was kept"):
            own.append([b"x" * 1000])
        assert own.append([b"y"]) == [(0, 31)]

    assert ended(forked(fill)) == 0
    assert values_of(log) == [*VALUES, b"fits", b"y"]
    assert log.append([b"z" * 1000]) == [(0, 32)]


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_full_file_system_is_one_sentence_and_leaves_nothing_torn(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount a file system")
    try:
        log = a_log(place / "log", sync="each", segment=200_000)
        count = 0
        with pytest.raises(Full):  # in a segment or when one is begun, whichever comes first
            while True:
                log.append([b"x" * 7000])
                count += 1
        assert len(log.read(0, 0)) == count > 50
        assert log.bounds()[0].end == count
        for path in sorted((log.folder / "0").glob("*.log"))[:1]:
            path.unlink()
        log.append([b"there is room again"])
        log.close()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_does_not_take_a_sync_acknowledges_nothing_and_takes_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells of a lost write once, so a second sync that succeeds means nothing."""
    log = a_log(tmp_path / "log", sync="each")
    log.append([b"kept"])

    def failing(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", failing)
        with pytest.raises(SpringtideError, match=r"the disk did not keep what was appended \(Input/output error\)"):
            log.append([b"lost"])
    assert log.bounds()[0].end == 1
    assert log.append([b"next"]) == [(0, 1)]
    assert values_of(log) == [b"kept", b"next"]
    log.close()


# --- retention, indexes, settings


def test_retention_by_size_removes_whole_segments_and_says_how_much_is_lost(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os", segment=4096, retain_bytes=20_000)
    for at in range(100):
        log.append([b"%d" % at + b"x" * 1000])
    bounds = log.bounds()[0]
    assert bounds.end == 100
    assert 70 < bounds.first < 90
    with pytest.raises(Expired) as caught:
        log.read(0, 10)
    assert caught.value.first == bounds.first
    lost = bounds.first - 10
    assert f"records 10 to {bounds.first - 1} of partition 0 ({lost} of them) were removed" in str(caught.value)
    assert [record.offset for record in log.read(0, bounds.first)] == list(range(bounds.first, 100))
    log.close()


def test_retention_by_age_removes_what_is_old(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os", segment=4096, retain="1h")
    for _ in range(20):
        log.append([b"x" * 1000])
    folder = log.folder / "0"
    bases = segments.bases(folder)
    for base in bases[:2]:
        os.utime(segments.path(folder, base), (0, 0))
    for _ in range(5):
        log.append([b"x" * 1000])
    assert log.bounds()[0].first == bases[2]
    log.close()


def test_a_reader_is_overtaken_by_retention_without_reading_anything_wrong(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os", segment=4096, retain_bytes=9000)
    reader, done, seen = open_stream(log.url), threading.Event(), []

    def follow() -> None:
        offset = 0
        while not done.is_set() or offset < reader.bounds()[0].end:
            try:
                for record in reader.read(0, offset, limit=3):
                    assert record.value == b"%d" % record.offset + b"x" * 500
                    seen.append(record.offset)
                    offset = record.offset + 1
            except Expired as error:
                offset = error.first

    thread = threading.Thread(target=follow)
    thread.start()
    for at in range(300):
        log.append([b"%d" % at + b"x" * 500])
    done.set()
    thread.join()
    assert seen == sorted(set(seen))
    assert seen[-1] == 299
    reader.close()
    log.close()


def test_an_index_is_made_again_where_it_is_missing_and_not_believed_where_it_is_wrong(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", sync="os", segment=1_000_000)
    for at in range(3000):
        log.append([b"%d" % at + b"x" * 400])
    folder = log.folder / "0"
    index = segments.index_path(folder, 0)
    assert index.stat().st_size >= 16 * 10
    for content in (None, b"", b"\xff" * 160, index.read_bytes()[3:], os.urandom(160)):
        index.unlink() if content is None else index.write_bytes(content)
        reader = open_stream(log.url)
        for offset in (0, 1, 1000, 1999, 2999):
            assert reader.read(0, offset, limit=1)[0].value.startswith(b"%dx" % offset)
        reader.close()
    index.unlink()
    reader = open_stream(log.url)
    reader.read(0, 1900, limit=1)
    assert index.exists()
    reader.close()
    log.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('{"sync": "soon"}', 'sync: "soon" is no sync policy; write each, os, or a time such as 10ms'),
        ('{"synk": "each"}', '"synk" is no setting of a log; did you mean "sync"?'),
        ('{"retain": 7}', 'retain: "7" has no unit'),
        ("[", "Expecting value"),
        ("[]", "there is no object"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: str, said: str, tmp_path: Path) -> None:
    log = a_log(tmp_path / "log")
    (log.folder / "log.json").write_text(settings)
    with pytest.raises(UserError) as caught:
        LogStream(str(log.folder))
    assert said in str(caught.value)
    assert str(log.folder / "log.json") in str(caught.value)
    log.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("log:///nowhere/at/all", "there is no log; `tide stream append"),
        ("log://relative/path", "a log is named by an absolute path"),
        ("/srv/requests", "is no stream; write log:///absolute/path or kafka://host:9092/topic"),
        ("logs:///srv", 'no stream is kept by "logs"; did you mean "log"?'),
    ],
)
def test_a_stream_that_cannot_be_opened_is_one_sentence(url: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_stream(url)
    assert said in str(caught.value)


def test_a_record_that_is_too_large_is_refused(log: LogStream) -> None:
    with pytest.raises(UserError, match=r"a record of 67,108,865 bytes is too large; the most is 67,108,864"):
        log.append([bytes((64 << 20) + 1)])
    assert log.bounds()[0].end == 30
