"""Where `process` writes in Kafka: records and progress in one transaction of the producer's name.

The name is the transaction's id: who takes over fences off whoever had it before, also what that one had on the way.
Progress is an offset committed for a group of that name; the last record of each transaction tells it as well, for
brokers forget offsets that nobody committed for a week.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka as rd

from springtide.data.streams.kafka import ANSWER_S, APPEND_S, KafkaStream, Topic, deliver
from springtide.data.streams.stream import LARGEST_BYTES
from springtide.spec.errors import SpringtideError

_HEADER = "springtide-from"


class KafkaSink:
    """A `Sink`."""

    leases: Path | None = None

    def __init__(self, url: str) -> None:
        self.url = url
        self._topic = Topic(url.removeprefix("kafka://"))
        self._stream = KafkaStream(url.removeprefix("kafka://"), create=True)
        self._place = rd.TopicPartition(self._topic.name, 0)  # under which a group's one offset is kept
        self._groups: dict[str, Any] = {}
        self._producers: dict[str, Any] = {}

    def progress(self, producer: str) -> int | None:
        try:
            offset = self._group(producer).committed([self._place], timeout=ANSWER_S)[0].offset
        except rd.KafkaException as error:
            raise self._topic.away(error.args[0]) from None
        return int(offset) if offset >= 0 else self._told(producer)

    def take_over(self, producer: str) -> int | None:
        client = rd.Producer(
            self._topic.settings(
                transactional_id=f"{producer}>{self._topic.name}", message_max_bytes=LARGEST_BYTES,
                transaction_timeout_ms=int(1000 * APPEND_S), linger_ms=0, queue_buffering_max_messages=1_000_000,
            )
        )  # fmt: skip
        self._again(lambda: client.init_transactions(ANSWER_S))
        self._producers[producer] = client
        return self.progress(producer)

    def put(self, producer: str, partition: int, values: Sequence[bytes], position: int) -> None:
        client, group = self._producers[producer], self._group(producer)
        at = rd.TopicPartition(self._topic.name, 0, position)
        to = partition % len(self._stream.bounds())
        self._again(client.begin_transaction)
        if values:
            last = [(_HEADER, f"{producer}={position}".encode())]
            try:
                deliver(self._topic, client, values[:-1], to, None, [])
                deliver(self._topic, client, values[-1:], to, None, last)
            except SpringtideError:
                self._again(lambda: client.abort_transaction(ANSWER_S))  # says so if another has taken over
                raise
        self._again(lambda: client.send_offsets_to_transaction([at], group.consumer_group_metadata(), ANSWER_S))
        self._again(lambda: client.commit_transaction(ANSWER_S))

    def close(self) -> None:
        for group in self._groups.values():
            group.close()
        self._producers.clear()
        self._stream.close()

    def _group(self, producer: str) -> Any:
        if producer not in self._groups:
            self._groups[producer] = rd.Consumer(self._topic.settings(group_id=producer, enable_auto_commit=False))
        return self._groups[producer]

    def _told(self, producer: str) -> int | None:
        """What the records themselves tell; asked for only where no offset is committed."""
        found = None
        for number, bounds in self._stream.bounds().items():
            if bounds.end > bounds.first:
                for name, value in self._stream.headers(number, bounds):
                    of, _, position = value.decode().rpartition("=")
                    if name == _HEADER and of == producer:
                        found = max(int(position), found or 0)
        return found

    def _again(self, call: Callable[[], object]) -> None:
        """Until the broker has done it, as long as trying again is right."""
        limit_s = time.monotonic() + APPEND_S
        while True:
            try:
                call()
                return
            except rd.KafkaException as error:
                said = error.args[0]
                if said.name() in ("_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"):
                    raise SpringtideError(f"{self.url}: another processor of this name writes there now") from None
                if not said.retriable() or time.monotonic() > limit_s:
                    raise self._topic.away(said) from None
