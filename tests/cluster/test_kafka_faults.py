"""Kafka is killed, stopped, forgets, and is not there: nothing is lost or doubled, and it is said in a sentence."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from kafka_broker import Broker, free_port

from running import wait_until
from springtide.data.streams import Away, Expired, open_stream, process
from springtide.data.streams.kafka import KafkaStream
from springtide.spec import UserError
from stream_contract import everything

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("kafka")]
PROCESSOR = """
import sys
from springtide.data import streams
source, train, held_out = sys.argv[1:]
streams.process(source, {"train": train, "held-out": held_out},
                lambda record: ("held-out" if record["id"] % 10 == 0 else "train", record))
"""


def a_topic(kafka: Broker, partitions: int = 1) -> KafkaStream:
    url = kafka.topic(f"faults-{secrets.token_hex(4)}")
    found = open_stream(url, create=True, partitions=partitions)
    assert isinstance(found, KafkaStream)
    return found


def test_appends_go_on_through_a_broker_that_is_killed_and_started_again(kafka: Broker) -> None:
    stream, places, done = a_topic(kafka), [], threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set() or number < 50:
            places.extend(stream.append([b"%d" % number]))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()

    def until_more() -> None:
        before = len(places)
        wait_until(lambda: len(places) > before + 5, "records are appended")

    for _ in range(2):
        until_more()
        kafka.kill()
        kafka.start()
    until_more()
    done.set()
    thread.join()
    found = everything(stream)
    assert [int(record.value) for record in found] == list(range(len(places)))
    assert [(0, record.offset) for record in found] == places
    stream.close()


def test_who_waits_for_a_record_gets_it_after_the_broker_was_killed(kafka: Broker) -> None:
    stream = a_topic(kafka)
    stream.append([b"before"])
    assert stream.read(0, 0)[0].value == b"before"
    kafka.kill()
    kafka.start()
    writer = open_stream(stream.url)
    timer = threading.Timer(0.5, lambda: writer.append([b"after"]))
    timer.start()
    assert stream.wait({0: 1}, 60.0)
    assert [record.value for record in everything(stream)] == [b"before", b"after"]
    timer.join()
    writer.close()
    stream.close()


def test_a_broker_that_does_not_answer_is_away_and_back_again(kafka: Broker) -> None:
    stream = a_topic(kafka)
    kafka.stop()
    try:
        with pytest.raises(Away, match=rf"{stream.url}: the broker does not answer"):
            stream.bounds()
    finally:
        kafka.go_on()
    assert stream.append([b"there again"]) == [(0, 0)]
    stream.close()


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    url = f"kafka://localhost:{free_port()}/topic"
    with pytest.raises(Away, match=rf"{url}: the broker does not answer"):
        open_stream(url)


def test_a_topic_that_does_not_exist_is_one_sentence(kafka: Broker) -> None:
    stream = a_topic(kafka)
    mistyped = stream.url[:-1] + ("x" if stream.url[-1] != "x" else "y")
    with pytest.raises(UserError, match=r'the broker has no topic "faults-.*"; did you mean "faults-'):
        open_stream(mistyped)
    with pytest.raises(UserError, match=r"a topic is named by its broker and its name"):
        open_stream(f"kafka://{kafka.address}")
    stream.close()


def test_retention_that_overtakes_a_reader_says_how_much_is_lost(kafka: Broker) -> None:
    stream = a_topic(kafka)
    for at in range(20):
        stream.append([b"%d" % at + b"x" * 1000])
    settings = {"retention.ms": "1", "segment.ms": "100", "file.delete.delay.ms": "1"}
    name = stream.url.rpartition("/")[2]
    client = AdminClient({"bootstrap.servers": kafka.address})
    for result in client.alter_configs([ConfigResource(ResourceType.TOPIC, name, set_config=settings)]).values():
        result.result()
    time.sleep(0.2)
    stream.append([b"rolls the segment"])
    wait_until(lambda: stream.bounds()[0].first >= 20, "the broker removes what is old")
    with pytest.raises(Expired, match=r"records 3 to \d+ of partition 0 \(\d+ of them\) were removed") as caught:
        stream.read(0, 3)
    assert caught.value.first == stream.bounds()[0].first
    stream.close()


def test_processing_into_a_topic_is_exactly_once_under_kills(kafka: Broker, tmp_path: Path) -> None:
    """Of processors, and of the broker."""
    chance, source = random.Random(secrets.randbits(32)), a_topic(kafka, 2)
    sinks = [a_topic(kafka, 2).url, f"log://{tmp_path}/held-out"]
    environment = os.environ | {"TIDE_HOME": str(tmp_path)}
    words = [sys.executable, "-c", PROCESSOR, source.url, *sinks]
    count = 0
    for round_number in range(6):
        one = subprocess.Popen(words, env=environment)
        for _ in range(10):
            for partition in range(2):
                source.append([b'{"id": %d}' % (count + at) for at in range(partition, 100, 2)], partition=partition)
            count += 100
            time.sleep(chance.random() * 0.2)
        if round_number == 3:
            kafka.kill()
            kafka.start()
        time.sleep(chance.random())
        one.send_signal(signal.SIGKILL)
        one.wait()
    source.seal()
    assert subprocess.run(words, env=environment, timeout=240, check=False).returncode == 0
    found = [Counter(), Counter()]
    for url, ids in zip(sinks, found, strict=True):
        sink = open_stream(url)
        for partition in sink.bounds():
            ids.update(json.loads(record.value)["id"] for record in everything(sink, partition))
        sink.close()
    assert found[0] == {at: 1 for at in range(count) if at % 10}
    assert found[1] == dict.fromkeys(range(0, count, 10), 1)
    source.close()


def test_a_processor_that_was_taken_for_dead_is_fenced_off(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two with different leases, as on two machines, the later one writes."""
    source, sink = a_topic(kafka), a_topic(kafka)
    source.append([b'{"id": %d}' % at for at in range(10)])
    first_reached, go_on = threading.Event(), threading.Event()
    said: list[str] = []

    def slowly(record: dict[str, int]) -> dict[str, int]:
        first_reached.set()
        go_on.wait(60)
        return record

    def first() -> None:
        try:
            process(source.url, sink.url, slowly, idle_seconds=1.0)
        except Exception as error:
            said.append(str(error))

    monkeypatch.setenv("TIDE_HOME", str(tmp_path / "one"))
    thread = threading.Thread(target=first)
    thread.start()
    assert first_reached.wait(60)
    monkeypatch.setenv("TIDE_HOME", str(tmp_path / "two"))
    process(source.url, sink.url, lambda record: record, idle_seconds=0.5)
    go_on.set()
    thread.join()
    assert said
    assert "another processor of this name writes there now" in said[0]
    assert [json.loads(record.value)["id"] for record in everything(sink)] == list(range(10))
    source.close()
    sink.close()
