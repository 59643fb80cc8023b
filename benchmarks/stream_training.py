"""Training on a stream against training on a file of the same records; and from a record's append into the weights.

Both read JSON: the file by `data.json_lines`, the stream by `data.stream` with a decoder to the same arrays. Rounds go
through both in turn, and the ratio is the median of the rounds' ratios. The latency is from before the append to the
commit of the step that the record is a batch of, as the run itself stamps it: append and its sync, planning and the
step log's sync, waking the workers, the step.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import table
from benchmarks.table import Row
from springtide.data.streams import open_stream

TIDE = Path(sys.executable).with_name("tide")
WIDTH, BATCH_SIZE = 64, 64
SCRIPT = """
import json, sys
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from springtide import data, train

kind, place, steps, batch, hidden = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])

def decoded(value):
    found = json.loads(value)
    return np.asarray(found["x"], np.float32), found["y"]

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10))
records = data.json_lines(place, sequence="x", target="y") if kind == "file" else data.stream(place, decoder=decoded)
run = train.Run(
    model, torch.optim.SGD(model.parameters(), lr=0.01), records, batch, microbatches=min(4, batch), steps=steps
)
for x, y in run:
    run.backward(F.cross_entropy(model(x), torch.as_tensor(y)))
"""


def records(count: int) -> list[bytes]:
    drawn = np.random.default_rng(0)
    rows = drawn.standard_normal((count, WIDTH)).round(4).tolist()
    return [json.dumps({"x": row, "y": number % 10}).encode() for number, row in enumerate(rows)]


class Steps:
    """A `tide run` of the script, and when each step was committed (unix seconds)."""

    def __init__(self, folder: Path, *words: object, workers: int) -> None:
        command = [TIDE, "run", "--fresh", "--json", "--name", "bench", "--every", "1h", "--workers", workers,
                   folder / "train.py", *words]  # fmt: skip
        self.times: dict[int, float] = {}
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, text=True, cwd=folder,
            env=os.environ | {"TIDE_HOME": str(folder / "home")},
        )  # fmt: skip
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "step":
                with self._news:
                    self.times[event["step"]] = event["time"]
                    self._news.notify_all()

    def until(self, step: int) -> float:
        with self._news:
            if not self._news.wait_for(lambda: step in self.times, 60):
                raise SystemExit(f"step {step} does not come: {self.process.poll()}")
            return self.times[step]

    def end(self) -> None:
        if self.process.wait(600):
            raise SystemExit(f"the run ended with {self.process.returncode}")
        self._thread.join()


def samples_per_second(folder: Path, kind: str, place: object, steps: int, hidden: int, workers: int) -> float:
    run = Steps(folder, kind, place, steps, BATCH_SIZE, hidden, workers=workers)
    run.end()
    first = min(20, steps // 4)
    return (steps - first) * BATCH_SIZE / (run.times[steps] - run.times[first])


def speeds(folder: Path, quick: bool) -> list[Row]:
    steps, rounds = (150, 1) if quick else (600, 5)
    made = records(steps * BATCH_SIZE)
    (folder / "records.jsonl").write_bytes(b"\n".join(made) + b"\n")
    url = f"log://{folder}/records"
    stream = open_stream(url, create=True, sync="os")
    for first in range(0, len(made), 1000):
        stream.append(made[first : first + 1000])
    stream.close()
    rows = []
    for work, hidden in (("tiny model", 32), ("small model", 512)):
        for workers in (1, 2):
            ratios, found = [], {"file": list[float](), "stream": list[float]()}
            for turn in range(rounds):
                table.progress(f"{work}, {workers} workers, round {turn + 1}")
                for kind, place in (("file", folder / "records.jsonl"), ("stream", url)):
                    found[kind].append(samples_per_second(folder, kind, place, steps, hidden, workers))
                ratios.append(found["stream"][-1] / found["file"][-1])
            rows += [Row(work, kind, workers, "samples a second", statistics.median(each), "/s")
                     for kind, each in found.items()]  # fmt: skip
            rows.append(Row(work, "stream / file", workers, "ratio", statistics.median(ratios), ""))
    return rows


def latencies(folder: Path, quick: bool) -> list[Row]:
    count, rows, record = 50 if quick else 400, [], records(1)
    for sync in ("10ms", "each", "os"):
        url = f"log://{folder}/{sync}"
        stream = open_stream(url, create=True, sync=sync)
        table.progress(f"latency, sync {sync}")
        run = Steps(folder, "stream", url, count + 10, 1, 32, workers=1)
        waits = []
        for step in range(1, count + 11):
            began = time.time()
            stream.append(record)
            waits.append(run.until(step) - began)
            time.sleep(0.005)  # so that the workers sleep, as they do where records are rare
        run.end()
        stream.close()
        waits = sorted(waits[10:])
        for name, share in (("median", 0.5), ("99 %", 0.99)):
            rows.append(Row(f"log synced: {sync}", name, 0, "append to commit", waits[int(share * len(waits))], "s"))
    return rows


def main() -> None:
    arguments = table.parse("stream_training", __doc__)
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT)
        rows = speeds(folder, arguments.quick) + latencies(folder, arguments.quick)
    table.show("Samples a second", rows, "samples a second", "file")
    table.show("Stream against file, median of rounds", rows, "ratio")
    table.show("From a record's append to its step's commit", rows, "append to commit")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
