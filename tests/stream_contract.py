"""What every stream does, whoever keeps it. A module of tests takes these in and has a fixture `a_stream`.

`a_stream(partitions=1)` makes a new one and returns its URL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from springtide.data.streams import Bounds, Record, Sealed, Stream, open_stream
from springtide.spec import UserError

MakesStreams = Callable[..., str]
HANGS_S = 60.0


def everything(stream: Stream, partition: int = 0) -> list[Record]:
    """All records of a partition, by reading on."""
    found: list[Record] = []
    offset = stream.bounds()[partition].first
    while more := stream.read(partition, offset, limit=7):
        found += more
        offset = more[-1].offset + 1
    return found


def test_a_new_stream_is_empty(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream(partitions=3))
    assert stream.bounds() == {number: Bounds(0, 0) for number in range(3)}
    assert stream.read(2, 0) == []
    stream.close()


def test_records_come_back_as_they_were_appended(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream(partitions=2))
    values = [b"", b"x", "ä\n".encode(), bytes(range(256)), b"y" * 100_000]
    assert stream.append(values, partition=1) == [(1, offset) for offset in range(5)]
    found = stream.read(1, 0)
    assert [record.value for record in found] == values
    assert [(record.partition, record.offset, record.key) for record in found] == [(1, at, None) for at in range(5)]
    assert all(record.time_s > 1e9 for record in found)
    stream.close()


def test_reading_begins_anywhere_and_stops_at_the_limit(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream())
    for batch in range(5):
        stream.append([b"%d" % (10 * batch + at) for at in range(10)], partition=0)
    assert [record.value for record in stream.read(0, 17, limit=6)] == [b"17", b"18", b"19", b"20", b"21", b"22"]
    assert [record.value for record in stream.read(0, 3, limit=2)] == [b"3", b"4"]
    assert [int(record.value) for record in everything(stream)] == list(range(50))
    assert stream.read(0, 50) == []
    stream.close()


def test_records_of_one_key_lie_in_one_partition(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream(partitions=4))
    places = {key: {stream.append([b"v"], key=key)[0][0] for _ in range(3)} for key in (b"a", b"b", b"c", b"d", b"e")}
    assert all(len(found) == 1 for found in places.values())
    assert stream.read(next(iter(places[b"a"])), 0)[0].key is not None
    stream.close()


def test_nothing_appended_is_nothing(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream())
    assert stream.append([]) == []
    assert stream.bounds()[0].end == 0
    stream.close()


def test_another_reader_sees_what_is_acknowledged(a_stream: MakesStreams) -> None:
    url = a_stream()
    writer, reader = open_stream(url), open_stream(url)
    for number in range(20):
        writer.append([b"%d" % number], partition=0)
        assert reader.bounds()[0].end == number + 1
        assert reader.read(0, number)[0].value == b"%d" % number
    writer.close()
    reader.close()


def test_who_waits_is_woken_by_a_record_in_any_partition(a_stream: MakesStreams) -> None:
    url = a_stream(partitions=3)
    stream, other = open_stream(url), open_stream(url)
    ends = {number: bounds.end for number, bounds in stream.bounds().items()}
    timer = threading.Timer(0.3, lambda: other.append([b"news"], partition=2))
    timer.start()
    assert stream.wait(ends, HANGS_S)
    assert stream.bounds()[2].end == 1
    timer.join()
    stream.close()
    other.close()


def test_who_waits_where_nothing_comes_is_told_so(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream())
    stream.append([b"old"], partition=0)
    assert not stream.wait({0: 1}, 0.2)
    assert stream.wait({0: 0}, 0.0)
    stream.close()


def test_a_seal_ends_a_stream_for_everybody(a_stream: MakesStreams) -> None:
    url = a_stream(partitions=2)
    stream, other = open_stream(url), open_stream(url)
    stream.append([b"last"], partition=0)
    stream.seal()
    stream.seal()
    assert other.bounds() == {0: Bounds(0, 1, True), 1: Bounds(0, 0, True)}
    assert [record.value for record in everything(other)] == [b"last"]
    assert other.read(0, 1) == []
    with pytest.raises(Sealed, match=r"is sealed: nothing more can be appended"):
        other.append([b"late"])
    assert not other.wait({0: 1, 1: 0}, 0.1)
    stream.close()
    other.close()


def test_a_seal_wakes_who_waits(a_stream: MakesStreams) -> None:
    url = a_stream()
    stream, other = open_stream(url), open_stream(url)
    timer = threading.Timer(0.3, other.seal)
    timer.start()
    assert stream.wait({0: 0}, HANGS_S)
    assert stream.bounds()[0].sealed
    timer.join()
    stream.close()
    other.close()


def test_a_partition_that_was_added_is_found(a_stream: MakesStreams) -> None:
    url = a_stream()
    stream = open_stream(url)
    assert list(stream.bounds()) == [0]
    timer = threading.Timer(0.2, lambda: open_stream(url, create=True, partitions=2).close())
    timer.start()
    assert stream.wait({0: 0}, HANGS_S)
    assert list(stream.bounds()) == [0, 1]
    timer.join()
    stream.close()


def test_a_partition_that_is_not_there_is_named(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream(partitions=2))
    for act in (lambda: stream.read(2, 0), lambda: stream.append([b"x"], partition=2)):
        with pytest.raises(UserError, match=r"has no partition 2: there are 2, counted from 0"):
            act()
    stream.close()


def test_many_threads_append_at_once(a_stream: MakesStreams) -> None:
    stream = open_stream(a_stream(partitions=2))

    def work(number: int) -> None:
        for at in range(10):
            stream.append([b"%d-%d" % (number, at)], partition=number % 2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for partition in (0, 1):
        found = [record.value.decode().split("-") for record in everything(stream, partition)]
        for number in range(partition, 6, 2):
            assert [int(at) for of, at in found if int(of) == number] == list(range(10))
    stream.close()
