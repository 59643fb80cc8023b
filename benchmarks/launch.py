"""Starts a training under each system, follows its committed steps, and ends all of it.

    with launch("ddp", "mlp", workers=4, steps=50) as running:
        running.wait_step(10)
        os.kill(running.workers()[0], signal.SIGKILL)

Every system says each committed step in one line of JSON, through a pipe: nothing here looks twice at a file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks import processes

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin"
TIDE = str(Path(sys.executable).with_name("tide"))
SCRIPTS = Path(__file__).parent / "peers"

SYSTEMS = {
    "one process": "a plain loop, all threads",
    "ddp": "torchrun + DDP (gloo)",
    "torchft": "torchft 0.2 (gloo)",
    "springtide": "Springtide",
}

# glibc gives large blocks back to the system when they are freed: a step then spends as long on fresh pages as on sums.
KEEP_FREED = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


class Ended(Exception):
    """A training ended, or its time was up, before what was waited for."""


@dataclass(frozen=True)
class Step:
    """A committed step: its number (from 1), unix time in seconds, and how many workers took part."""

    number: int
    time: float
    workers: int


class Running:
    """A training under way: rows as they are said, the processes, and the end of all of them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.rows: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._over = False

    def start(self, arguments: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Starts one process of the training; its output goes to the folder."""
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                arguments,
                env={**self.environment, **environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def follow(self, stream: BinaryIO) -> None:
        """Reads rows from `stream` in a thread until it ends."""

        def read() -> None:
            for line in stream:
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    with self._news:
                        self.rows.append(row)
                        self._news.notify_all()
            with self._news:
                self._over = True
                self._news.notify_all()

        threading.Thread(target=read, daemon=True).start()

    def follow_pipe(self) -> None:
        """Makes the named pipe that the scripts write to and reads it; its end is seen when the first process ends."""
        path = self.folder / "steps"
        os.mkfifo(path)
        self.environment["BENCHMARK_STEPS"] = str(path)
        # Held open for writing too: a pipe ends when its last writer dies, and writers die here on purpose.
        self.follow(os.fdopen(os.open(path, os.O_RDWR), "rb", buffering=0))

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Says that all is over when `process` ends."""

        def wait() -> None:
            process.wait()
            with self._news:
                self._over = True
                self._news.notify_all()

        threading.Thread(target=wait, daemon=True).start()

    def steps(self) -> list[Step]:
        """The committed steps so far, in the order in which they were said."""
        with self._news:
            rows = [row for row in self.rows if row.get("event") == "step"]
        return [Step(row["step"], row["time"], row["workers"]) for row in rows]

    def wait(self, met: Callable[[], bool], limit_seconds: float) -> None:
        """Waits until `met()`, looked at after each row; `Ended` if the training ends or time is up before."""
        with self._news:
            self._news.wait_for(lambda: self._over or met(), limit_seconds)
        if not met():
            raise Ended(
                f"{'ended' if self._over else f'{limit_seconds:.0f} s passed'} at {self.steps()[-1:]}: {self.tail()}"
            )

    def wait_step(self, number: int, limit_seconds: float = 120) -> None:
        self.wait(lambda: any(step.number >= number for step in reversed(self.steps())), limit_seconds)

    def wait_steps_after(self, moment: float, count: int, limit_seconds: float) -> None:
        """Waits for `count` steps committed after `moment` (unix seconds)."""
        self.wait(lambda: sum(step.time > moment for step in self.steps()) >= count, limit_seconds)

    def wait_end(self, limit_seconds: float = 300) -> None:
        with self._news:
            if not self._news.wait_for(lambda: self._over, limit_seconds):
                raise Ended(f"{limit_seconds:.0f} s passed at {self.steps()[-1:]}: {self.tail()}")

    def tail(self) -> str:
        """The last output of the processes, for a message."""
        return " | ".join(log.read_text(errors="replace")[-600:] for log in sorted(self.folder.glob("*.log")))

    def all_processes(self) -> list[int]:
        """Every process of the training: launchers, supervisors, workers."""
        return processes.descendants(os.getpid())

    def workers(self) -> list[int]:
        """The processes that train."""
        raise NotImplementedError

    def chief(self) -> int:
        """The process in charge: torchrun's agent, torchft's lighthouse, Springtide's supervisor."""
        raise NotImplementedError

    def join(self) -> None:
        """Asks for one more worker."""
        raise NotImplementedError


class Plain(Running):
    def __init__(
        self, folder: Path, environment: dict[str, str], arguments: list[str], script: str, threads: int
    ) -> None:
        super().__init__(folder, environment)
        self.follow_pipe()
        command = [sys.executable, "-m", f"benchmarks.peers.{script}", *arguments]
        self.watch(self.start(command, OMP_NUM_THREADS=str(threads)))

    def workers(self) -> list[int]:
        return [self.processes[0].pid]


class Torchrun(Running):
    """One agent with all workers; with `agents`, one agent per worker, which torchrun needs to grow."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        arguments: list[str],
        workers: int,
        agents: tuple[int, int] | None,
    ) -> None:
        super().__init__(folder, environment)
        self.follow_pipe()
        # With the shared store, gloo often reads the addresses of the dead after a restart, and gives up.
        self.environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        run = [sys.executable, "-m", "torch.distributed.run", "--max-restarts=100", "--monitor-interval=0.1"]
        script = ["-m", "benchmarks.peers.ddp", *arguments]
        if agents is None:
            self.command = [*run, "--standalone", f"--nproc-per-node={workers}", *script]
            self.watch(self.start(self.command))
            return
        # last_call_timeout (30 s by default) is how long a rendezvous waits for more agents than the minimum.
        rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=benchmark"]
        settings = ["--rdzv-conf=last_call_timeout=1,join_timeout=60", f"--nnodes={agents[0]}:{agents[1]}"]
        self.command = [*run, *rendezvous, *settings, "--nproc-per-node=1", *script]
        for _ in range(workers):
            self.watch(self.start(self.command))

    def workers(self) -> list[int]:
        return [
            pid
            for pid in self.all_processes()
            if "benchmarks.peers.ddp" in (line := processes.command(pid)) and "torch.distributed.run" not in line
        ]

    def chief(self) -> int:
        return self.processes[0].pid

    def join(self) -> None:
        self.start(self.command)


class Torchft(Running):
    """A lighthouse and one process per replica group; who was killed is started again by `revive`."""

    def __init__(self, folder: Path, environment: dict[str, str], arguments: list[str], workers: int) -> None:
        super().__init__(folder, environment)
        self.follow_pipe()
        port = free_port()
        self.environment["TORCHFT_LIGHTHOUSE"] = f"http://localhost:{port}"
        # Heartbeats are sent every 0.1 s; the defaults (5 s, 60 s) are for networks.
        limits = ["--heartbeat_timeout_ms", "1000", "--join_timeout_ms", "1000", "--quorum_tick_ms", "20"]
        self.start([str(PEERS / "torchft_lighthouse"), "--bind", f"[::]:{port}", "--min_replicas", "1", *limits])
        self.command = [str(PEERS / "python"), "-m", "benchmarks.peers.torchft_replica", *arguments]
        self.replicas: list[subprocess.Popen[bytes]] = []
        self.lives: list[float] = []
        for _ in range(workers):
            self.join()

    def join(self) -> None:
        replica = self.start(self.command, REPLICA=str(len(self.replicas)))
        self.replicas.append(replica)  # not watched: any of them may die, all of them too, and be started again

    def revive(self, killed: Sequence[int]) -> None:
        """Starts the replicas whose processes were killed again, as their launcher would."""
        if len(killed) == len(self.replicas):
            self.lives.append(time.time())
        for k, replica in enumerate(self.replicas):
            if replica.pid in killed:
                replica.wait()
                self.replicas[k] = self.start(self.command, REPLICA=str(k))

    def steps(self) -> list[Step]:
        """Every replica says each step: the first to say it counts, anew in each life between losses of all."""
        first = []
        highest, life = 0, 0
        for step in super().steps():
            if life < len(self.lives) and step.time > self.lives[life]:
                highest, life = 0, life + 1
            if step.number > highest:
                first.append(step)
                highest = step.number
        return first

    def workers(self) -> list[int]:
        return [replica.pid for replica in self.replicas if replica.poll() is None]

    def chief(self) -> int:
        return self.processes[0].pid


class Springtide(Running):
    """`tide run --json`, and the commands that a user has."""

    def __init__(
        self, folder: Path, environment: dict[str, str], arguments: list[str], workers: str, options: Sequence[str]
    ) -> None:
        super().__init__(folder, environment)
        self.environment["TIDE_HOME"] = str(folder / "home")
        self.report = folder / "report.json"
        command = [
            TIDE,
            "run",
            "--name",
            "benchmark",
            "--workers",
            workers,
            "--fresh",
            "--json",
            "--report",
            str(self.report),
        ]
        with (folder / "0.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *options, *arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        assert process.stdout is not None
        self.follow(process.stdout)

    def row(self) -> dict[str, Any]:
        """What `tide ps` says about the run."""
        said = subprocess.run([TIDE, "ps", "--json"], env=self.environment, capture_output=True, check=True)
        return next(row for row in json.loads(said.stdout) if row["name"] == "benchmark")

    def workers(self) -> list[int]:
        return [worker["pid"] for worker in self.row()["workers"]]

    def chief(self) -> int:
        return int(self.row()["supervisor"])

    def join(self) -> None:
        size = str(self.steps()[-1].workers + 1)
        subprocess.run([TIDE, "resize", "benchmark", size], env=self.environment, capture_output=True, check=True)


class Alone(Running):
    """Springtide's training file under `python`: one worker, no supervisor."""

    def __init__(self, folder: Path, environment: dict[str, str], arguments: list[str]) -> None:
        super().__init__(folder, environment)
        self.follow_pipe()
        self.environment["TIDE_HOME"] = str(folder / "home")
        self.watch(self.start([sys.executable, *arguments]))

    def workers(self) -> list[int]:
        return [self.processes[0].pid]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def has_torchft() -> bool:
    return (PEERS / "torchft_lighthouse").exists()


@contextlib.contextmanager
def launch(
    system: str,
    work: str,
    workers: int = 1,
    *,
    steps: int,
    every: int = 0,
    loading: str = "index",
    microbatches: int | None = None,
    fused: bool = False,
    most: int | None = None,
    threads: int | None = None,
    script: str = "",
    options: Sequence[str] = (),
    keep_freed: bool = True,
) -> Iterator[Running]:
    """A training of `work` for `steps` steps under `system`, ended with all it started when the block is left.

    `every` is the number of steps between a peer's checkpoints; `most` allows growth up to so many workers (torchrun
    and Springtide); `threads` is for the one process; `options` are more options of `tide run`; `script` is
    another training script than usual (for the one process and Springtide). The systems are those
    of SYSTEMS, and "alone": Springtide's file under `python`. `keep_freed` lets the peers' malloc keep freed memory,
    as Springtide's workers do by themselves: faster steps, more memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="tide-bench-"))
    arguments = ["--work", work, "--steps", str(steps)]
    arguments += ["--microbatches", str(microbatches)] if microbatches else []
    arguments += ["--fused"] if fused else []
    ours = str(SCRIPTS / f"{script or 'run'}_springtide.py")
    peers = [*arguments, "--loading", loading]
    peers += ["--checkpoint", str(folder / "saved.pt"), "--every", str(every)] if every else []
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if keep_freed and system not in ("springtide", "alone"):
        environment |= KEEP_FREED
    processes.adopt_orphans()
    try:
        match system:
            case "one process":
                yield Plain(folder, environment, peers, script or "one_process", threads or os.cpu_count() or 1)
            case "ddp":
                agents = (min(workers, 2), most) if most else None
                yield Torchrun(folder, environment, peers, workers, agents)
            case "torchft":
                yield Torchft(folder, environment, peers, workers)
            case "springtide":
                span = f"1:{most}" if most else str(workers)
                start = ["--start", str(workers)] if most else []
                yield Springtide(folder, environment, [ours, *arguments], span, [*start, *options])
            case "alone":
                yield Alone(folder, environment, [ours, *arguments])
            case _:
                raise ValueError(f"no such system: {system}")
    finally:
        processes.end_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def step_seconds(steps: Sequence[Step], skip: int = 5, stride: int = 1) -> float:
    """The median time of a step in seconds, after `skip` steps; over windows of `stride` where one is very short."""
    times = [step.time for step in steps[skip:]]
    gaps = [(late - early) / stride for early, late in zip(times, times[stride:], strict=False)]
    return statistics.median(gaps)


def ordinary_seconds(steps: Sequence[Step], moment: float, count: int = 40) -> float:
    """The median time of the last `count` steps before `moment` (unix seconds)."""
    return step_seconds([step for step in steps if step.time <= moment][-count:], skip=0)


def delay_seconds(steps: Sequence[Step], moment: float, ordinary: float) -> float:
    """How much longer than an ordinary step the training stood still because of what happened at `moment` (unix time).

    The step under way at the moment may still be finished by those who had all they needed: of the gap that holds the
    moment and the one after it, the longer counts.
    """
    times = sorted(step.time for step in steps)
    after = next(k for k, time in enumerate(times) if time > moment)
    return max(
        0.0, max(late - early for early, late in itertools.pairwise(times[max(0, after - 1) : after + 2])) - ordinary
    )


def pause_seconds(steps: Sequence[Step], start: float, end: float, ordinary: float) -> float:
    """The longest gap between steps from `start` to `end` (unix seconds) beyond an ordinary step."""
    times = sorted(step.time for step in steps)
    gaps = [late - early for early, late in itertools.pairwise(times) if late > start and early < end]
    return max(0.0, max(gaps, default=0.0) - ordinary)


def steps_lost(steps: Sequence[Step], moment: float) -> int:
    """How many committed steps had to be done again after `moment`."""
    before = max((step.number for step in steps if step.time <= moment), default=0)
    return max(0, before + 1 - min((step.number for step in steps if step.time > moment), default=before + 1))
