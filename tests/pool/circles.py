"""A loop in a real pool on a simulated engine: its circle is a real process, its training is what a test writes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pools import a_pool

from running import strike, wait_until
from springtide import Client
from springtide.data.streams import open_stream
from springtide.pool import circle_files, circle_opening
from springtide.serve.loop.circle import Circle
from springtide.serve.loop.places import Places
from springtide.serve.registry import Registry
from springtide.spec.files import job_file
from springtide.spec.loop import Loop
from springtide.train import checkpoint
from springtide.train.checkpoint import ManifestFields, Order, Tensor

MODEL = '''
import torch

class Model(torch.nn.Module):
    """Is as good as it says."""

    def __init__(self):
        super().__init__()
        self.good = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return x * self.good

    def evaluate(self, records):
        return {"metrics": {"accuracy": float(self.good)}, "count": len(records)}


def build():
    return Model()
'''
FILE = """
kind: loop
name: words
build: good_model:build
train: {script: train.py}
gate: {data: held.jsonl, bound: 0.5, margin: 1%, count: 3, every: 100ms}
serve: {port: 18099}
"""


def folder(path: Path, file: str = FILE) -> Path:
    """A user's folder with a loop in it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "loop.yaml").write_text(file)
    (path / "good_model.py").write_text(MODEL)
    (path / "train.py").write_text("")
    (path / "held.jsonl").write_text("".join(json.dumps({"number": n}) + "\n" for n in range(5)))
    return path


@dataclass
class ALoop:
    """The loop, and what a test does to it."""

    home: Path
    folder: Path
    client: Client
    loop: Loop
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def there(self) -> Places:
        return Places(self.home / "loops" / self.loop.name)

    @property
    def registry(self) -> Registry:
        return Registry.open(self.home / "models")

    @property
    def circle(self) -> Circle:
        return circle_files.read_state(self.there)

    def submit(self) -> list[str]:
        """Names of the jobs that are in the pool afterwards."""
        found = circle_opening.submit(self.client, [job_file(self.folder / "loop.yaml")])
        return [row["name"] for row in found["jobs"]]

    def start(self) -> subprocess.Popen[str]:
        """The circle, as the pool starts it."""
        environment = os.environ | {"TIDE_HOME": str(self.home), "TIDE_POOL": self.client.address}
        words = [sys.executable, "-P", "-m", "springtide.pool.circle", str(self.there.folder)]
        process = subprocess.Popen(words, env=environment, cwd=self.folder, stdout=subprocess.DEVNULL, text=True,
                                   start_new_session=True)  # fmt: skip
        self.processes.append(process)
        return process

    def train(self, step: int, good: float, offset: int, generation: int = 0) -> None:
        """A checkpoint as the training writes it."""
        order = Order(fingerprint="f", seed=0, batch_size=1, microbatches=1)
        about = ManifestFields(
            name="words-train", run_id="run-1", step=step, order=order, position={"offsets": {"0": offset}}
        )
        tensors = [Tensor("model.good", "F32", (), (struct.pack("<f", good),))]
        checkpoint.write(self.there.checkpoints(generation), tensors, about)

    def feed(self, count: int) -> None:
        """Records in the training stream."""
        stream = open_stream(self.there.training)
        begin = stream.bounds()[0].end
        stream.append([json.dumps({"n": n}).encode() for n in range(begin, begin + count)])
        stream.close()

    def trained_on(self) -> list[int]:
        """What stands in the training stream, in order."""
        stream = open_stream(self.there.training)
        found = [json.loads(one.value)["n"] for one in stream.read(0, 0, limit=100_000)]
        stream.close()
        return found

    def until(self, true: object, what: str) -> None:
        wait_until(lambda: bool(true(self.circle)), f"{what}: {self.circle}")  # type: ignore[operator]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                strike(process.pid)
            process.wait()


@contextmanager
def a_loop(home: Path) -> Iterator[ALoop]:
    """It is submitted and its circle does not run yet. `home` must be TIDE_HOME here too."""
    with a_pool(home) as pool, Client() as client:
        assert client.address == str(pool.socket)
        code = folder(home.parent / "code")
        made = ALoop(home, code, client, job_file(code / "loop.yaml").loops[0])
        made.submit()
        try:
            yield made
        finally:
            made.end()
