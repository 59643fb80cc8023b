"""A real Kafka of one broker: fetched by Maven once a machine, started, killed and started again at will."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.jars import Missing, fetched

__all__ = ["Broker", "Missing"]
STARTS_S = 120.0
_PR_SET_PDEATHSIG = 1
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
_libc = ctypes.CDLL(None)
# One machine, small and quick: single copies, internal topics of one partition, no waiting for others to join.
_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:{controller}
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
advertised.listeners=PLAINTEXT://localhost:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=100
log.initial.task.delay.ms=500
"""


def libraries() -> Path:
    """The jars of Kafka 4.1. Raises `Missing`."""
    return fetched("kafka", "Kafka")


@dataclass
class Broker:
    """One broker with its data below `folder`; it ends with the process that started it."""

    folder: Path
    settings: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _jars: Path = field(default_factory=libraries)

    def start(self) -> Broker:
        """Returns when it answers. AssertionError: it does not."""
        written = self.folder / "server.properties"
        if not self.port:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.port, controller = free_port(), free_port()
            told = _SETTINGS.format(port=self.port, controller=controller, folder=self.folder)
            written.write_text(told + self.settings)
            format_words = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(written))
            subprocess.run(format_words, check=True, capture_output=True, cwd=self.folder)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._java("kafka.Kafka", str(written)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        limit_s = time.monotonic() + STARTS_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < limit_s, self.story()
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Nobody answers any more, until `go_on`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def topic(self, name: str) -> str:
        """The URL of a topic."""
        return f"kafka://{self.address}/{name}"

    def story(self) -> str:
        """For a test that failed."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("localhost", self.port), timeout=1.0).close()
            return True
        except OSError:
            return False

    def _java(self, *words: str) -> list[str]:
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"]
        return ["java", *options, *words]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
