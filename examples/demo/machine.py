"""The pool of the demonstration: started, given jobs, struck and ended, all by what a user has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo.day import HOURS, Happening
from demo.recording import Blow
from springtide import Client, spec
from springtide.spec.errors import SpringtideError

NODES, SLOT = 5, 0.4  # cores of each: together the two cores that any machine has
VIRTUAL = f"{NODES}x{round(SLOT * 1000)}mcpu,2Gi"
TIDE = Path(sys.executable).with_name("tide")
JOBS = Path(__file__).parent / "jobs"
SCRIPT = Path(__file__).parents[1] / "book" / "02_recognize_digits" / "train.py"
PATIENCE_S = 120.0
FOUND_S = 5.0


class Machine:
    """A pool in a folder of its own. Its port is free when this is made."""

    def __init__(self, home: Path, day_s: float) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.day_s = home, day_s
        self.steps = 0  # of the training
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDE_")}
        (home / "tmp").mkdir(exist_ok=True)
        self.environment |= {"TIDE_HOME": str(home), "TMPDIR": str(home / "tmp")}
        self.port = _free_port()
        self.rules = home / "pool.yaml"
        pool = spec.pool(JOBS / "pool.yaml", nodes_elsewhere=True)
        self.rules.write_text(spec.to_yaml(replace(pool, scale_down_s=max(1.0, day_s / 10))))

    def client(self) -> Client:
        return Client(self.home / "pool" / "pool.sock")

    def tide(self, *words: str) -> str:
        """What a command said. SpringtideError: what it said where it failed."""
        try:
            done = subprocess.run(
                [str(TIDE), *words], env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SpringtideError(f"tide {words[0]} did not return within {PATIENCE_S:.0f} s") from None
        if done.returncode:
            raise SpringtideError(f"tide {words[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return done.stdout

    def up(self) -> dict[str, Any]:
        """The pool answers."""
        found: dict[str, Any] = json.loads(
            self.tide("up", "-d", "--virtual", VIRTUAL, "--pool", str(self.rules), "--json")
        )
        return found

    def submit(self, name: str, **environment: str) -> None:
        """A job of the folder `jobs`, with what is only known now."""
        (job,) = spec.jobs(JOBS / f"{name}.yaml")
        assert job.folder is not None
        job = replace(job, folder=os.path.normpath(job.folder), environment={**job.environment, **environment})
        if job.port is not None:
            job = replace(job, port=self.port)
        if job.script is not None:
            job = replace(job, script=os.path.normpath(job.script), args=("--steps", str(self.steps)))
        with self.client() as client:
            client.submit(job)

    def requests(self, midnight_s: float, seed: int) -> subprocess.Popen[str]:
        """The load generator."""
        words = [str(self.port), str(self.day_s), str(midnight_s), str(seed)]
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("load.py")), *words], stdout=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True,
        )  # fmt: skip

    def answers(self) -> bool:
        """Whether the service does."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as asking:
            asking.settimeout(1.0)
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return asking.recv(64).startswith(b"HTTP/1.0 200")
        return False

    # --- what happens in the story

    def perform(self, happening: Happening) -> Blow:
        match happening.what:
            case "kill_worker":
                return self._killed(happening, self._workers()[-1:])
            case "kill_workers":
                return self._killed(happening, self._workers())
            case "kill_replica":
                with self.client() as client:
                    pids = [one["pid"] for one in client.job("web")["workers"]]
                return self._killed(happening, pids[:1])
            case "kill_server":
                with self.client() as client:
                    pid, before = client.health()["pid"], self._processes(client)
                blow = self._killed(happening, [pid])
                self.up()
                return replace(blow, back_s=time.time(), same=self._found(before))
            case _:
                began_s = time.time()
                work_s = happening.hours * self.day_s / HOURS
                self.submit(happening.what.removeprefix("submit_"), WORK_S=f"{work_s:.1f}")
                return Blow(happening.what, happening.words, began_s)

    @staticmethod
    def _processes(client: Client) -> set[int]:
        """Of the jobs that go on through all of the day."""
        return {one["pid"] for name in ("web", "digits") for one in client.replicas(name) if one["pid"]}

    def _found(self, before: set[int]) -> bool:
        """Whether the new pool server knows all of these processes that still run."""
        until_s = time.monotonic() + FOUND_S
        with self.client() as client:
            while lacking := {pid for pid in before if _runs(pid)} - self._processes(client):
                if time.monotonic() > until_s:
                    break
                time.sleep(0.05)
        return not lacking

    def _workers(self) -> list[int]:
        with self.client() as client:
            return [one["pid"] for one in client.job("digits")["workers"]]

    def _killed(self, happening: Happening, pids: list[int]) -> Blow:
        at_s = time.time()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return Blow(happening.what, happening.words, at_s, tuple(pids))

    # --- the end

    def down(self) -> None:
        """Nothing of it is left, also where the pool server is not there any more to see to it."""
        try:
            self.tide("down")
        except SpringtideError:
            with contextlib.suppress(SpringtideError):
                self.up()
                self.tide("down")
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left(self) -> list[int]:
        """Processes of this pool."""
        return list(processes_of(self.home))


def processes_of(home: Path) -> Iterator[int]:
    """Living processes whose TIDE_HOME is this folder or lies in it."""
    mark = f"TIDE_HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                    yield int(entry.name)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
