"""The pool of the demonstration: started, given jobs and a loop, and ended, all by what a user has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import check
import corpus
from speaking import Said

from springtide import Client, spec
from springtide.data.streams import open_stream
from springtide.spec.errors import SpringtideError

CODE = Path(__file__).parents[1]
TIDE = Path(sys.executable).with_name("tide")
NODE = "1x2cpu,8Gi"  # the two cores that any machine has
PATIENCE_S = 400.0
STEP = 4  # corrections in each step of the training
_JSONL = "check.jsonl"


class Place:
    """A pool in a folder of its own. Its port is free when this is made."""

    def __init__(self, home: Path) -> None:
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        self.home, self.port = home, _free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDE_")}
        self.environment |= {"TIDE_HOME": str(home), "TMPDIR": str(home / "tmp"), "VOICE_TV": str(home / "corpus")}
        os.environ["VOICE_TV"] = str(home / "corpus")

    def client(self) -> Client:
        return Client(self.home / "pool" / "pool.sock")

    def tide(self, *words: str) -> str:
        """What a command said. SpringtideError: what it said where it failed."""
        try:
            done = subprocess.run(
                [str(TIDE), *words], env=self.environment, cwd=CODE, capture_output=True, text=True, timeout=PATIENCE_S,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SpringtideError(f"tide {words[0]} did not return within {PATIENCE_S:.0f} s") from None
        if done.returncode:
            raise SpringtideError(f"tide {words[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return done.stdout

    def up(self) -> dict[str, Any]:
        """The pool answers."""
        found: dict[str, Any] = json.loads(self.tide("up", "-d", "--virtual", NODE, "--json"))
        return found

    # --- training on the corpus

    def train(self, epochs: float) -> None:
        """Hands in the job `lessons`, elastic: one worker or two."""
        job = spec.Job(
            kind=spec.Kind.TRAINING, name="lessons", replicas=spec.Range(1, 2), folder=str(CODE),
            script=str(CODE / "train.py"), args=("--epochs", f"{epochs:g}"), environment=self._told(),
            resources=spec.Resources(cpu=1.0), checkpoint=spec.Checkpoint(folder=str(self.lessons)),
        )  # fmt: skip
        with self.client() as client:
            client.submit(job)

    @property
    def lessons(self) -> Path:
        """Where the training on the corpus leaves its checkpoints."""
        return self.home / "lessons"

    def _told(self) -> dict[str, str]:
        return {"VOICE_TV": str(corpus.cache_folder())}

    # --- the loop

    def check(self) -> Path:
        """What the gate judges by."""
        check.write(self.home / _JSONL)
        return self.home / _JSONL

    def submit_loop(self, weights: Path) -> None:
        """`loop.yaml`, with what is only known now."""
        (loop,) = spec.job_file(CODE / "loop.yaml").loops
        train = replace(loop.train, args=("--begin", str(weights)), environment=self._told())
        gate = replace(loop.gate, data=str(self.home / _JSONL))
        serve = replace(loop.serve, port=self.port)
        loop = replace(loop, train=train, gate=gate, serve=serve, folder=str(CODE))
        file = self.home / "loop.yaml"
        file.write_text(spec.to_yaml(loop))
        self.tide("submit", str(file))

    def answers(self) -> bool:
        """Whether the service does."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as asking:
            asking.settimeout(5.0)
            asking.sendall(b"GET /v2/models/voice/ready HTTP/1.0\r\n\r\n")
            return b" 200 " in asking.recv(64)
        return False

    def servers(self) -> set[int]:
        """Process ids of the model server's replicas."""
        with self.client() as client:
            return {one["pid"] for one in client.replicas("voice-serve") if one["pid"]}

    def all_learnt(self, corrections: int) -> bool:
        """Whether the version in production was trained on all of them but the tenth, and less than a step's worth."""
        streams = self.home / "loops" / "voice" / "streams"
        training, held_out = (_end(f"log://{streams / name}") for name in ("training", "held-out"))
        found = json.loads(self.tide("loop", "show", "voice", "--json"))
        read = sum(found["bases"][-1]["checkpoint"]["offsets"].values()) if found["bases"] else 0
        return training + held_out >= corrections and read > training - STEP

    def versions(self) -> list[dict[str, Any]]:
        """All that the registry has of it."""
        found: list[dict[str, Any]] = json.loads(self.tide("model", "ls", "voice", "--json"))
        return found

    # --- the end

    def down(self) -> None:
        """Nothing of it is left, also where the pool server is not there any more to see to it."""
        with contextlib.suppress(SpringtideError):
            self.tide("down")
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left(self) -> list[int]:
        """Processes of this pool."""
        return list(processes_of(self.home))


def _end(url: str) -> int:
    stream = open_stream(url)
    try:
        return sum(bounds.end for bounds in stream.bounds().values())
    finally:
        stream.close()


def processes_of(home: Path) -> Iterator[int]:
    """Living processes whose TIDE_HOME is this folder or lies in it."""
    mark = f"TIDE_HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                    yield int(entry.name)


def people(phrases: dict[str, list[str]], variants: tuple[str, ...], repeats: int) -> list[Said]:
    """Who says what to the television: others than in the corpus, at its levels of noise."""
    return corpus.crowd(phrases, variants, repeats, corpus.NOISE_DB)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
