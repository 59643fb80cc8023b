"""The embedded log against Kafka 4.1 on this machine: appends, reads and the way from a writer to a reader.

Both on the same disk, one partition, records of 200 bytes. *each*: an append is on the disk when it returns (Kafka:
`flush.messages=1`). *10ms*: it is on the disk within 10 ms (Kafka: `flush.ms=10`); no death of a process loses it.
Kafka is driven by its own client, confluent-kafka.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.kafka_broker import Broker, Missing

from benchmarks import table
from benchmarks.table import Row
from springtide.data.streams import open_stream

RECORD_BYTES = 200
LOG, KAFKA = "embedded log", "Kafka 4.1"
POLICIES = {"each": {"flush.messages": "1"}, "10ms": {"flush.ms": "10"}}
Append = Callable[[Sequence[bytes]], object]


def main() -> None:
    arguments = table.parse("streams", __doc__)
    seconds = 1.0 if arguments.quick else 4.0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tide-bench-", dir=Path.home()) as folder:
        rows += embedded(Path(folder), seconds)
        try:
            with _broker(Path(folder)) as broker:
                rows += kafka(broker, seconds)
        except Missing as missing:
            table.progress(f"without Kafka: {missing}")
    for metric in dict.fromkeys(row.metric for row in rows):
        table.show(metric, rows, metric, KAFKA)
    table.save(arguments.json, rows)


def embedded(folder: Path, seconds: float) -> list[Row]:
    """All figures of the log."""
    rows: list[Row] = []
    for policy in POLICIES:
        url = f"log://{folder / policy}"
        log = open_stream(url, create=True, sync=policy)
        rows += appends(LOG, policy, lambda log=log: log.append, seconds)
        log.close()
    log = open_stream(f"log://{folder / 'read'}", create=True, sync="os")
    _fill(log.append)
    rows += reads(LOG, lambda limit: _read_log(log.url, limit))
    log.close()
    for policy in POLICIES:
        log = open_stream(f"log://{folder / policy}")
        rows += latency(LOG, policy, log, log.append, int(50 * seconds))
        log.close()
    return rows


def kafka(broker: Broker, seconds: float) -> list[Row]:
    """The same of Kafka."""
    rows: list[Row] = []
    for policy, settings in POLICIES.items():
        _topic(broker, policy, settings)
        rows += appends(KAFKA, policy, lambda policy=policy: _producer(broker, policy), seconds)
    _topic(broker, "read", {})
    _fill(_producer(broker, "read"))
    rows += reads(KAFKA, lambda limit: _read_kafka(broker, "read", limit))
    for policy in POLICIES:
        stream = open_stream(broker.topic(policy))
        rows += latency(KAFKA, policy, stream, _producer(broker, policy), int(50 * seconds))
        stream.close()
    return rows


def appends(system: str, policy: str, connect: Callable[[], Append], seconds: float) -> list[Row]:
    """Records a second: one writer that appends so many at once, and sixteen of one record each."""
    rows = []
    for count in (1, 100, 10_000):
        table.progress(f"{system}, {policy}: appends of {count:,}")
        append, values, done = connect(), [b"x" * RECORD_BYTES] * count, 0
        append(values)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            append(values)
            done += count
        work = f"{policy}, {count:,} at once"
        rows.append(Row(work, system, 0, "appends", done / (time.perf_counter() - began), "records/s"))
    table.progress(f"{system}, {policy}: sixteen writers")
    return [*rows, _many(system, policy, connect, seconds)]


def _many(system: str, policy: str, connect: Callable[[], Append], seconds: float) -> Row:
    counts = [0] * 16
    until = time.perf_counter() + seconds

    def write(number: int, append: Append) -> None:
        while time.perf_counter() < until:
            append([b"x" * RECORD_BYTES])
            counts[number] += 1

    threads = [threading.Thread(target=write, args=(at, connect())) for at in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Row(f"{policy}, 16 writers of 1", system, 0, "appends", sum(counts) / seconds, "records/s")


def _fill(append: Append) -> None:
    for _ in range(40):
        append([b"x" * RECORD_BYTES] * 10_000)


def reads(system: str, read: Callable[[int], Iterator[int]]) -> list[Row]:
    """Records a second, from the first of 400,000, a thousand at once; the first thousand do not count."""
    table.progress(f"{system}: reads")
    got = read(1000)
    next(got)
    began = time.perf_counter()
    done = sum(got)
    return [Row("1,000 at once", system, 0, "reads", done / (time.perf_counter() - began), "records/s")]


def _read_log(url: str, limit: int) -> Iterator[int]:
    log, offset = open_stream(url), 0
    while found := log.read(0, offset, limit=limit):
        offset = found[-1].offset + 1
        yield len(found)
    log.close()


def _read_kafka(broker: Broker, topic: str, limit: int) -> Iterator[int]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    done = 0
    while done < 400_000:
        found = consumer.consume(min(limit, 400_000 - done), 10.0)
        values = [(message.offset(), message.value(), message.timestamp()) for message in found]
        done += len(values)
        yield len(values)
    consumer.close()


def latency(system: str, policy: str, stream: Any, append: Append, times: int) -> list[Row]:
    """From before the append of one record until a reader that waited for it has it; one every 20 ms."""
    table.progress(f"{system}, {policy}: from writer to reader")
    begun: dict[int, float] = {}
    delays: list[float] = []
    first = stream.bounds()[0].end

    def follow() -> None:
        offset = first
        while len(delays) < times:
            stream.wait({0: offset}, 10.0)
            for record in stream.read(0, offset):
                delays.append(time.perf_counter() - begun[int(record.value)])
                offset = record.offset + 1

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(times):
        time.sleep(0.02)
        begun[number] = time.perf_counter()
        append([b"%d" % number])
    thread.join()
    ordered = sorted(delays)
    return [
        Row(policy, system, 0, "writer to reader, p50", statistics.median(ordered), "s"),
        Row(policy, system, 0, "writer to reader, p99", ordered[round(0.99 * (len(ordered) - 1))], "s"),
    ]


@contextmanager
def _broker(folder: Path) -> Iterator[Broker]:
    broker = Broker(folder / "kafka")
    try:
        yield broker.start()
    finally:
        broker.kill()
        shutil.rmtree(folder / "kafka", ignore_errors=True)


def _topic(broker: Broker, name: str, settings: dict[str, str]) -> None:
    from confluent_kafka import admin

    client = admin.AdminClient({"bootstrap.servers": broker.address})
    asked = client.create_topics([admin.NewTopic(name, 1, config=settings)])  # type: ignore[attr-defined]
    asked[name].result()
    open_stream(broker.topic(name)).close()


def _producer(broker: Broker, topic: str) -> Append:
    """Kafka's own client, at its best: all of a batch is given to it, and then waited for."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": broker.address, "acks": "all", "enable.idempotence": True, "linger.ms": 0,
            "queue.buffering.max.messages": 100_000,
        }
    )  # fmt: skip

    def append(values: Sequence[bytes]) -> None:
        for value in values:
            producer.produce(topic, value, partition=0)
        producer.flush()

    return append


if __name__ == "__main__":
    main()
