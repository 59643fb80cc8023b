"""Training on a real Kafka: each record once, whatever is killed of the run and of the broker."""

from __future__ import annotations

import json
import random
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kafka_broker import Broker

from running import Running, of_home, strike, wait_until
from springtide.data.streams import Away, open_stream

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("kafka")]
SCRIPT = Path(__file__).parents[1] / "chaos" / "streaming.py"


@pytest.fixture
def url(kafka: Broker) -> str:
    made = kafka.topic(f"training-{secrets.token_hex(4)}")
    open_stream(made, create=True, partitions=3).close()
    return made


@pytest.fixture(autouse=True)
def small_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    yield
    sys.modules.pop("streaming", None)


def records(first: int, count: int) -> list[bytes]:
    return [json.dumps({"id": number}).encode() for number in range(first, first + count)]


def counted(out: Path, count: int) -> bool:
    found = json.loads(out.read_text())
    return found[:count] == [1] * count and not any(found[count:])


def test_workers_supervisor_and_broker_are_killed_and_each_record_counts_once(
    url: str, kafka: Broker, home: Path
) -> None:
    rng, out, count, over = random.Random(5), home / "out.json", 3000, threading.Event()
    stream = open_stream(url)

    def append() -> None:
        done = 0
        while done < count and not over.is_set():
            handful = min(rng.randint(1, 100), count - done)
            stream.append(records(done, handful))  # waits for a broker that is away; nothing is doubled
            done += handful
            over.wait(0.03)
        stream.seal()

    thread = threading.Thread(target=append)
    thread.start()
    try:
        run = Running(SCRIPT, url, out, "pause=0.005", home=home, options=("--every", "20steps"))
        run.until_step(5)
        strike(list(run.cast().working.values())[:2])
        run.until_step(20)
        kafka.kill()
        threading.Event().wait(2.0)
        kafka.start()
        run.until_step(60)
        strike([run.cast().supervisor, *run.cast().working.values()])
        run.until_step(90)
        strike([run.process.pid, *of_home(home)])
        wait_until(lambda: not of_home(home), "the end of all processes")
        run.process.wait()
        again = Running(SCRIPT, url, out, home=home, options=("--every", "20steps"))
        report = again.finish()
    finally:
        over.set()
        thread.join()
        stream.close()
    assert (report["state"], report["samples_lost"], report["samples_twice"]) == ("done", 0, 0), again.story()
    assert counted(out, count)


def test_marks_of_transactions_are_no_records(url: str, home: Path) -> None:
    import confluent_kafka as rd

    address, _, topic = url.removeprefix("kafka://").partition("/")
    producer = rd.Producer({"bootstrap.servers": address, "transactional.id": secrets.token_hex(4)})
    producer.init_transactions()
    for first in range(0, 200, 4):
        producer.begin_transaction()
        for value in records(first, 4):
            producer.produce(topic, value, partition=0)
        producer.commit_transaction()
    stream = open_stream(url)
    stream.seal()
    report = Running(SCRIPT, url, home / "out.json", home=home, workers="2").finish()
    assert (report["state"], report["steps"], report["samples_lost"]) == ("done", 10, 0)
    assert counted(home / "out.json", 200)
    stream.close()


def test_a_broker_that_is_away_is_waited_for_and_told_once(url: str, kafka: Broker, home: Path) -> None:
    stream = open_stream(url)
    stream.append(records(0, 40), partition=0)
    run = Running(SCRIPT, url, home / "out.json", home=home, workers="1")
    run.until_step(2)
    kafka.kill()
    run.until("warning")
    threading.Event().wait(1.0)
    kafka.start()
    with suppress(Away):
        stream.close()
    stream = open_stream(url)
    stream.append(records(40, 40), partition=1)
    run.until_step(4)
    stream.seal()
    assert run.finish()["state"] == "done"
    assert counted(home / "out.json", 80)
    assert run.warnings().count("waiting for it") == 1 and "is there again" in run.warnings()
    stream.close()
