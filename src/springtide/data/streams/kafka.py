"""A topic of Kafka as a stream: partitions and offsets are Kafka's own, no consumer groups.

Only records of committed transactions are read. Offsets that hold no record (the marks of transactions, what was
compacted away) are passed over. The seal is a record of its own with a header, the last of each partition.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from springtide.data.streams.stream import (
    LARGEST_BYTES,
    Away,
    Bounds,
    Expired,
    Record,
    Sealed,
    partition_of,
)
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.quantities import nearest

try:
    import confluent_kafka as rd
    from confluent_kafka import admin
except ImportError:
    raise UserError("streams in Kafka need one more package; pip install 'springtide[kafka]'") from None

T = TypeVar("T")
rd_admin: Any = admin
SEAL_HEADER = "springtide-sealed"
ANSWER_S = 10.0  # how long a broker may take to answer
APPEND_S = 60.0  # how long an append may take: a broker that is started again meanwhile is waited for
_AGAIN_S = 0.2
_READ_OVER = 1000  # records that a watcher reads rather than to begin anew behind them
_PARTITIONS_S = 2.0  # how soon a partition that was added is noticed
_AWAY = (
    "_DESTROY_BROKER", "_DESTROY", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC",
    "_WAIT_COORD", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
    "_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "_MSG_TIMED_OUT", "REQUEST_TIMED_OUT",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tail:
    """What is known of the end of a partition while its high watermark is `watermark`."""

    watermark: int
    end: int
    sealed: bool


class Topic:
    """`host:port[,host:port...]/topic`, and clients made for it that say nothing by themselves."""

    def __init__(self, rest: str) -> None:
        self.brokers, _, self.name = rest.partition("/")
        self.url = f"kafka://{rest}"
        if not self.brokers or not self.name or "/" in self.name:
            raise UserError(f"{self.url}: a topic is named by its broker and its name; write kafka://host:9092/topic")

    def settings(self, **more: object) -> dict[str, Any]:
        """Of any client; names of settings with `_` for `.`."""
        common = {
            "bootstrap.servers": self.brokers, "log_level": 0, "error_cb": lambda error: None,
            "reconnect.backoff.max.ms": 500, "client.id": "springtide",
        }  # fmt: skip
        return common | {name.replace("_", "."): value for name, value in more.items()}

    def consumer(self, wait_ms: int, **more: object) -> Any:
        """One that reads where it is told; `wait_ms` is how long the broker may wait for news before it answers."""
        return rd.Consumer(
            self.settings(
                group_id="springtide", enable_auto_commit=False, auto_offset_reset="error",
                isolation_level="read_committed", enable_partition_eof=True, fetch_wait_max_ms=wait_ms,
                fetch_max_bytes=2 * LARGEST_BYTES, **more,
            )
        )  # fmt: skip

    def away(self, error: rd.KafkaError) -> SpringtideError:
        """What a client's error means."""
        if error.name() in _AWAY or error.retriable():
            return Away(f"{self.url}: the broker does not answer ({error.str()})")
        return SpringtideError(f"{self.url}: the broker refused it ({error.str()})")


class KafkaStream:
    """A `Stream` kept by Kafka. For any number of threads, and not across a fork."""

    def __init__(self, rest: str, *, create: bool = False, partitions: int = 1) -> None:
        self._topic = Topic(rest)
        self.url = self._topic.url
        self._lock = threading.RLock()
        self._probe = self._topic.consumer(5)
        self._watcher: Any = None
        self._watched: dict[int, int] = {}  # how far it has seen each partition
        self._readers: dict[int, _Reader] = {}
        self._producer: Any = None
        self._tails: dict[int, _Tail] = {}
        self._counted_s, self._count = 0.0, 0
        self._turn = itertools.count(os.getpid())
        try:
            if create:
                _make(self._topic, partitions)
            self._partitions()
        except BaseException:
            self.close()
            raise

    def bounds(self) -> dict[int, Bounds]:
        with self._lock:
            return {number: self._bounds(number) for number in range(self._partitions())}

    def append(
        self, values: Sequence[bytes], *, partition: int | None = None, key: bytes | None = None
    ) -> list[tuple[int, int]]:
        """As any stream does: all replicas in sync have it.

        A broker that goes away is waited for, and nothing is doubled. `Away`: for too long; then nobody knows whether
        the records will be there.
        """
        if not values:
            return []
        with self._lock:
            count = self._patiently(self._partitions)
            if partition is None:
                partition = partition_of(key, count) if key is not None else next(self._turn) % count
            to = partition
            if self._patiently(lambda: self._bounds(to)).sealed:
                raise Sealed(f"{self.url} is sealed: nothing more can be appended")
            return [(partition, offset) for offset in self._produce(values, partition, key)]

    def read(self, partition: int, offset: int, *, limit: int = 1000) -> list[Record]:
        with self._lock:
            self._partitions(partition)
            if partition not in self._readers:
                self._readers[partition] = _Reader(self._topic, partition)
            reader = self._readers[partition]
            found = reader.at_hand(offset, limit)
            if found:
                return found
            bounds = self._bounds(partition)
            if offset < bounds.first:
                raise Expired(partition, offset, bounds.first, self.url)
            if offset >= bounds.end:
                return []
            return reader.next(offset, bounds.end, limit)

    def wait(self, beyond: Mapping[int, int], timeout_s: float) -> bool:
        limit_s = time.monotonic() + timeout_s
        sealed = {number for number, bounds in self.bounds().items() if bounds.sealed}
        while True:
            found = self.bounds()
            if any(one.end > beyond.get(number, -1) for number, one in found.items()):
                return True
            if any(one.sealed and number not in sealed for number, one in found.items()):
                return True
            left_s = limit_s - time.monotonic()
            if left_s <= 0:
                return False
            watermarks = {number: self._tails[number].watermark for number in found}
            self._watch(watermarks, min(left_s, _PARTITIONS_S))  # of new partitions nobody tells

    def headers(self, number: int, bounds: Bounds) -> Iterator[tuple[str, bytes]]:
        """Of all records of a partition, the oldest first."""
        with self._lock:
            for message in _until_end(self._topic, self._probe, number, bounds.first):
                yield from message.headers() or ()
                if message.offset() + 1 >= bounds.end:
                    return

    def seal(self) -> None:
        with self._lock:
            for number, bounds in self.bounds().items():
                if not bounds.sealed:
                    self._produce([b""], number, None, [(SEAL_HEADER, b"1")])

    def close(self) -> None:
        for client in (self._probe, self._watcher, *(reader.consumer for reader in self._readers.values())):
            if client is not None:
                client.close()
        self._readers.clear()
        self._watcher = self._producer = None

    # --- what there is

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while the broker is away, as long as an append may take."""
        limit_s = time.monotonic() + APPEND_S
        while True:
            try:
                return ask()
            except Away:
                if time.monotonic() > limit_s:
                    raise
                time.sleep(_AGAIN_S)  # nobody tells when a broker comes back

    def _partitions(self, asked: int | None = None) -> int:
        """How many there are. Raises UserError where `asked` is none of them, or where there is no topic."""
        if time.monotonic() - self._counted_s > _PARTITIONS_S:
            found = _metadata(self._topic, self._probe)
            if found is None:
                raise UserError(_no_topic(self._topic, self._probe))
            self._count, self._counted_s = found, time.monotonic()
        if asked is not None and not 0 <= asked < self._count:
            raise UserError(f"{self.url} has no partition {asked}: there are {self._count}, counted from 0")
        return self._count

    def _bounds(self, number: int) -> Bounds:
        self._partitions(number)
        at = rd.TopicPartition(self._topic.name, number)
        try:
            first, watermark = self._probe.get_watermark_offsets(at, timeout=ANSWER_S)
        except rd.KafkaException as error:
            raise self._topic.away(error.args[0]) from None
        known = self._tails.get(number)
        if known is None or known.watermark != watermark:
            known = self._tails[number] = self._look(number, first, watermark)
        return Bounds(first, max(first, known.end), known.sealed)

    def _look(self, number: int, first: int, watermark: int) -> _Tail:
        """Whether the last offsets hold records, or only a seal or the marks of transactions."""
        back = 1
        while watermark - back >= first:
            last = None
            for message in _until_end(self._topic, self._probe, number, watermark - back):
                last = message
                if back == 1:
                    break
            if last is not None and _is_seal(last):
                return _Tail(watermark, last.offset(), True)
            if last is not None:
                return _Tail(watermark, last.offset() + 1, False)
            if watermark - back == first:
                break
            back = min(2 * back, watermark - first)
        return _Tail(watermark, first, False)

    def _watch(self, watermarks: Mapping[int, int], timeout_s: float) -> None:
        """Sleep until something comes behind these offsets, or the time is over."""
        if self._watcher is None:
            self._watcher = self._topic.consumer(500, queued_min_messages=1, fetch_queue_backoff_ms=1)
        seen = self._watched
        if any(not 0 <= at - seen.get(number, -_READ_OVER) < _READ_OVER for number, at in watermarks.items()):
            self._watched = seen = dict(watermarks)
            self._watcher.assign([rd.TopicPartition(self._topic.name, number, at) for number, at in seen.items()])
        limit_s = time.monotonic() + timeout_s
        while (left_s := limit_s - time.monotonic()) > 0 and (message := self._watcher.poll(left_s)) is not None:
            error, number = message.error(), message.partition()
            if error is None:
                seen[number] = message.offset() + 1
            elif error.code() == rd.KafkaError._PARTITION_EOF:
                seen[number] = max(seen[number], message.offset())
            else:
                self._watched = {}
                return
            if seen[number] > watermarks[number]:
                return

    # --- appending

    def _produce(
        self, values: Sequence[bytes], partition: int, key: bytes | None, headers: list[tuple[str, bytes]] | None = None
    ) -> list[int]:
        if self._producer is None:
            self._producer = rd.Producer(
                self._topic.settings(
                    enable_idempotence=True, acks="all", linger_ms=0, message_max_bytes=LARGEST_BYTES,
                    message_timeout_ms=int(1000 * APPEND_S), queue_buffering_max_messages=1_000_000,
                )
            )  # fmt: skip
        offsets = deliver(self._topic, self._producer, values, partition, key, headers or [])
        end = offsets[-1] + 1
        if headers is None:
            self._tails[partition] = _Tail(end, end, False)
        return offsets


class _Reader:
    """One partition, read on from where it was read before."""

    def __init__(self, topic: Topic, number: int) -> None:
        self._topic, self._number = topic, number
        self.consumer = topic.consumer(100)
        self._next = -1

    def at_hand(self, offset: int, limit: int) -> list[Record]:
        """Records from `offset` on that were fetched ahead; perhaps none."""
        if offset != self._next:
            return []
        messages = self.consumer.consume(limit, 0)
        return self._records([message for message in messages if message.error() is None])

    def next(self, offset: int, end: int, limit: int) -> list[Record]:
        """At least one record from `offset` on, where there is one below `end`."""
        if offset != self._next:
            self.consumer.assign([rd.TopicPartition(self._topic.name, self._number, offset)])
            self._next = offset
        limit_s = time.monotonic() + ANSWER_S
        while self._next < end:
            message = self.consumer.poll(max(0.0, limit_s - time.monotonic()))
            if message is None:
                self._next = -1
                raise Away(f"{self._topic.url}: the broker has not answered for {ANSWER_S:.0f} s")
            error = message.error()
            if error is None:
                more = self.consumer.consume(limit - 1, 0) if limit > 1 else []
                if found := self._records([message, *(one for one in more if one.error() is None)]):
                    return found
            elif error.code() == rd.KafkaError._PARTITION_EOF:
                self._next = message.offset()
            elif error.code() == rd.KafkaError._AUTO_OFFSET_RESET:
                self._next = -1
                low, _ = self.consumer.get_watermark_offsets(
                    rd.TopicPartition(self._topic.name, self._number), ANSWER_S
                )
                raise Expired(self._number, offset, low, self._topic.url)
            else:
                self._next = -1
                raise self._topic.away(error)
        return []

    def _records(self, messages: Sequence[Any]) -> list[Record]:
        if messages:
            self._next = messages[-1].offset() + 1
        return [
            Record(self._number, message.offset(), message.value() or b"", message.timestamp()[1] / 1e3, message.key())
            for message in messages
            if not _is_seal(message)
        ]


def topics(rest: str) -> list[str]:
    """URLs of all topics of a broker, `host:port[/...]`. Raises `Away`."""
    topic = Topic(f"{rest.partition('/')[0]}/-")
    client = rd_admin.AdminClient(topic.settings())
    try:
        found = client.list_topics(timeout=ANSWER_S).topics
    except rd.KafkaException as error:
        raise topic.away(error.args[0]) from None
    return [f"kafka://{topic.brokers}/{name}" for name in found if not name.startswith("__")]


def deliver(
    topic: Topic, producer: Any, values: Sequence[bytes], partition: int, key: bytes | None, headers: list[Any]
) -> list[int]:
    """Give records to a broker and wait until it has them; their offsets. Raises UserError, `Away`."""
    offsets: list[int] = []
    failed: list[rd.KafkaError] = []

    def told(error: rd.KafkaError | None, message: Any) -> None:
        if error is None:
            offsets.append(message.offset())
        else:
            failed.append(error)

    try:
        for value in values:
            while True:
                try:
                    producer.produce(topic.name, value, key, partition, on_delivery=told, headers=headers)
                    break
                except BufferError:
                    producer.poll(1.0)
        producer.flush()
    except rd.KafkaException as error:
        failed.append(error.args[0])
    if failed:
        if failed[0].name() in ("MSG_SIZE_TOO_LARGE", "INVALID_RECORD"):
            raise UserError(f"{topic.url}: the broker takes no record as large as one of these ({failed[0].str()})")
        raise topic.away(failed[0])
    return offsets


def _make(topic: Topic, partitions: int) -> None:
    """Make the topic, or give it the partitions that it lacks."""
    client = rd_admin.AdminClient(topic.settings())
    found = _metadata(topic, client)
    if found is not None and found >= partitions:
        return
    if found is None:
        asked = client.create_topics([rd_admin.NewTopic(topic.name, partitions)])
    else:
        asked = client.create_partitions([rd_admin.NewPartitions(topic.name, partitions)])
    try:
        asked[topic.name].result(ANSWER_S)
    except rd.KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise topic.away(error.args[0]) from None
    limit_s = time.monotonic() + ANSWER_S
    while (_metadata(topic, client) or 0) < partitions and time.monotonic() < limit_s:
        time.sleep(0.05)  # brokers learn of it one after the other, and none tells


def _metadata(topic: Topic, client: Any) -> int | None:
    """How many partitions there are; None: no such topic."""
    try:
        found = client.list_topics(topic.name, timeout=ANSWER_S).topics.get(topic.name)
    except rd.KafkaException as error:
        raise topic.away(error.args[0]) from None
    if found is None or found.error is not None:
        if found is not None and found.error.name() not in ("UNKNOWN_TOPIC_OR_PART", "LEADER_NOT_AVAILABLE"):
            raise topic.away(found.error)
        return None
    return len(found.partitions)


def _no_topic(topic: Topic, client: Any) -> str:
    known = [name for name in client.list_topics(timeout=ANSWER_S).topics if not name.startswith("__")]
    hint = nearest(topic.name, known) or f"; `tide stream append {topic.url} FILE.jsonl` makes one"
    return f'{topic.url}: the broker has no topic "{topic.name}"{hint}'


def _is_seal(message: Any) -> bool:
    return any(name == SEAL_HEADER for name, _ in message.headers() or ())


def _until_end(topic: Topic, consumer: Any, number: int, offset: int) -> Iterator[Any]:
    """Messages from `offset` on, as they are now. Raises `Away`."""
    consumer.assign([rd.TopicPartition(topic.name, number, offset)])
    while True:
        message = consumer.poll(ANSWER_S)
        if message is None:
            raise Away(f"{topic.url}: the broker has not answered for {ANSWER_S:.0f} s")
        error = message.error()
        if error is None:
            yield message
        elif error.code() in (rd.KafkaError._PARTITION_EOF, rd.KafkaError._AUTO_OFFSET_RESET):
            return
        else:
            raise topic.away(error)
