"""What a processor tells of itself on the socket that it is handed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from logs import a_log

from running import wait_until
from springtide.data.streams.log import LogStream
from springtide.data.streams.page import Page

PROGRAM = """
import sys, time
from springtide.data import streams
streams.process(sys.argv[1], sys.argv[2], lambda record: record, name="p", idle_seconds=float(sys.argv[3]))
time.sleep(1000)
"""


class Processor:
    """A real process with a socket as a pool hands it: at the descriptor that its name's place says."""

    def __init__(self, folder: Path, *words: object) -> None:
        self._at = str(folder / "admin.sock")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._at)
            listening.listen()
            number = listening.fileno()
            names = ":".join(["other"] * (number - 3) + ["admin"])
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", sys.executable, "-c", PROGRAM, *map(str, words)],
                env=os.environ | {"LISTEN_FDNAMES": names}, pass_fds=(number,),
            )  # fmt: skip

    def ask(self, what: str) -> str:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(60)
            caller.connect(self._at)
            caller.sendall(f"GET {what} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: caller.recv(65536), b"")).decode()

    def figure(self, name: str) -> float:
        lines = [line.split() for line in self.ask("/metrics").splitlines()]
        return next((float(line[1]) for line in lines if line and line[0] == f"tide_stream_{name}"), -1.0)

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def source(tmp_path: Path) -> LogStream:
    return a_log(tmp_path / "source", 2, sync="os")


@pytest.fixture
def processor(source: LogStream, tmp_path: Path) -> Iterator[Processor]:
    source.append([b'{"id": 1}'] * 700, partition=0)
    source.append([b'{"id": 2}'] * 500, partition=1)
    found = Processor(tmp_path, source.url, f"log://{tmp_path}/sink", 0.2)
    yield found
    found.end()


def test_it_counts_what_it_processed_and_what_waits(source: LogStream, processor: Processor) -> None:
    wait_until(lambda: processor.figure("processed_total") == 1200, "all is processed")
    wait_until(lambda: processor.figure("lag_records") == 0, "nothing waits")
    assert processor.figure("arrived_total") == 1200
    assert processor.figure("partitions") == 2
    assert processor.figure("busy_seconds_total") > 0


def test_it_is_well_also_when_its_work_is_done(processor: Processor) -> None:
    wait_until(lambda: processor.figure("processed_total") == 1200, "all is processed")
    assert processor.ask("/health").startswith("HTTP/1.0 200 ")
    assert processor.ask("/other").startswith("HTTP/1.0 404 ")


def test_a_page_is_empty_until_a_source_was_looked_at() -> None:
    told = Page()
    figures = told.figures("log:///s", "p")
    assert told.text() == ""
    figures.partitions = 2
    assert "tide_stream_partitions 2\n" in told.text()
