"""A correction's way: from its POST into the weights, and from there into production; on the loop of examples/loop.

Real processes of a real pool on this machine. No peer is known that closes the circle by itself, so what stands beside
the figures is the floor below them: how long one process takes to import torch, which an examination does three times.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.table import Row
from springtide.pool import circle_files
from springtide.serve.loop.circle import Outcome
from springtide.serve.loop.holdout import held_out
from springtide.serve.loop.places import Places
from springtide.serve.registry import Registry
from springtide.train import checkpoint, runs
from springtide.train.launched import Launched

TIDE = Path(sys.executable).with_name("tide")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "loop"
PORT = 18090
RECORDS_PER_STEP = 8  # a quarter of a batch of 32: the rest is bulk
_LONGEST_S = 400.0


def main() -> None:
    arguments = table.parse("loop", __doc__)
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as folder, _loop(Path(folder)) as home:
        table.progress("a first version serves")
        rows = into_the_weights(home, 5 if arguments.quick else 20)
        rows += into_production(home, 2 if arguments.quick else 5)
    rows += floor(3 if arguments.quick else 10)
    for metric in dict.fromkeys(row.metric for row in rows):
        table.show(metric, rows, metric)
    table.save(arguments.json, rows)


@contextmanager
def _loop(folder: Path) -> Iterator[Path]:
    home, code = folder / "home", folder / "loop"
    shutil.copytree(EXAMPLE, code, ignore=shutil.ignore_patterns("*.jsonl", "__pycache__"))
    os.environ["TIDE_HOME"] = str(home)
    home.mkdir()
    subprocess.run([sys.executable, "sounds.py"], cwd=code, check=True)
    subprocess.run([TIDE, "up", "-d", "--virtual", "4x1cpu,4Gi"], check=True, stdout=subprocess.DEVNULL)
    try:
        subprocess.run([TIDE, "submit", code / "loop.yaml"], check=True, stdout=subprocess.DEVNULL)
        sys.path.append(str(code))
        _until(lambda: _understood("up") is not None, "a first version serves")
        yield home
    finally:
        subprocess.run([TIDE, "loop", "stop", "words"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run([TIDE, "down"], check=False, stdout=subprocess.DEVNULL)


def into_the_weights(home: Path, times: int) -> list[Row]:
    """From the POST of the last correction of a step to the commit of that step: log, join, log, plan, compute."""
    delays: list[float] = []
    _begin_a_step(home)
    for _ in range(times):
        asked = _asked_and_trained_on(RECORDS_PER_STEP)
        began_step = _settled_step(home)
        for id, word in asked[:-1]:
            _post("/feedback", {"id": id, "correct": word})
        if _settled_step(home) != began_step:
            raise SystemExit("a step was made before its last correction came: what is measured is not what is said")
        began_s = time.monotonic()
        _post("/feedback", {"id": asked[-1][0], "correct": asked[-1][1]})
        _until(lambda step=began_step: _step(home) > step, "the step is made", 0.001)  # type: ignore[misc]
        delays.append(time.monotonic() - began_s)
    return _rows("correction to weights", "springtide", delays)


def _begin_a_step(home: Path) -> None:
    """So many corrections that none is left over: the next one is the first of a step."""
    began_step = _settled_step(home)
    while _step(home) == began_step:
        ((id, word),) = _asked_and_trained_on(1)
        _post("/feedback", {"id": id, "correct": word})
        time.sleep(1.0)


def into_production(home: Path, times: int) -> list[Row]:
    """From the POST of the last correction to the first answer of a version that holds it, and the parts of that."""
    delays: list[float] = []
    parts: dict[str, list[float]] = {}
    for _ in range(times):
        asked = _asked_and_trained_on(4 * RECORDS_PER_STEP)
        began_step = _settled_step(home)
        for id, word in asked:
            _post("/feedback", {"id": id, "correct": word})
        began_s = time.time()
        number = _promoted_since(home, began_step + 3)
        _until(lambda number=number: _post("/models/words", _sound("up"))["version"] >= number, "it answers")  # type: ignore[misc]
        delays.append(time.time() - began_s)
        for name, seconds in _stages(home, number, began_s).items():
            parts.setdefault(name, []).append(seconds)
    found = _rows("correction to production", "springtide", delays)
    return found + [
        Row(name, "springtide", 0, "median of its parts", statistics.median(all_), "s") for name, all_ in parts.items()
    ]


def floor(times: int) -> list[Row]:
    """What cannot be avoided where candidates are judged in processes of their own."""
    delays = []
    for _ in range(times):
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        delays.append(time.monotonic() - began_s)
    return [Row("import torch", "python", 0, "median of its parts", statistics.median(delays), "s")]


def _stages(home: Path, number: int, began_s: float) -> dict[str, float]:
    registry = Registry.open(home / "models")
    version = registry.version("words", number)
    source = next(found for found in checkpoint.find(Path(version.lineage.source or "")) if found.manifest)
    assert source.manifest is not None
    judged_s = registry.verdicts("words", number)[-1][0]
    promoted_s = next(
        one.time_s for one in registry.changes("words") if (one.number, one.action) == (number, "promote")
    )
    return {
        "until the next checkpoint": source.manifest.time - began_s,
        "until it is registered": version.created_s - source.manifest.time,
        "until it is judged": judged_s - version.created_s,
        "until it is promoted": promoted_s - judged_s,
    }


def _promoted_since(home: Path, step: int) -> int:
    there, found = Places(home / "loops" / "words"), 0

    def look() -> bool:
        nonlocal found
        past = circle_files.read_state(there).past
        found = next((one.version or 0 for one in past if one.step >= step and one.outcome == Outcome.PROMOTED), 0)
        return bool(found)

    _until(look, "a version with these corrections is promoted")
    return found


# --- asking


def _asked_and_trained_on(count: int) -> list[tuple[str, str]]:
    """Id and word of requests that are not held out."""
    import sounds

    found: list[tuple[str, str]] = []
    while len(found) < count:
        word = sounds.WORDS[len(found) % len(sounds.WORDS)]
        id = str(_post("/models/words", _sound(word))["id"])
        if not held_out(id):
            found.append((id, word))
    return found


def _sound(word: str) -> dict[str, Any]:
    import sounds

    return {"sound": sounds.sound(word, random.Random())}


def _understood(word: str) -> str | None:
    try:
        return str(_post("/models/words", _sound(word))["output"])
    except OSError:
        return None


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


# --- watching


def _step(home: Path) -> int:
    """The last committed step, from the run's own arena."""
    for folder in (home / "pool" / "jobs").glob("words-train-*/run/runs/words-train"):
        arena = runs.open_arena(Launched.read(folder))
        if arena is not None:
            now = arena.now()
            os.close(arena.descriptor)
            return now.step if now is not None else 0
    return 0


def _settled_step(home: Path) -> int:
    """Once training has nothing left to do."""
    step = -1
    while (now := _step(home)) != step:
        step = now
        time.sleep(1.0)
    return step


def _until(true: Callable[[], object], what: str, pause_s: float = 0.02) -> None:
    limit_s = time.monotonic() + _LONGEST_S
    while not true():
        if time.monotonic() > limit_s:
            subprocess.run([TIDE, "explain", "words"], check=False)
            raise SystemExit(f"never in {_LONGEST_S:.0f} s: {what}")
        time.sleep(pause_s)


def _rows(metric: str, system: str, delays: list[float]) -> list[Row]:
    ordered = sorted(delays)
    said = {"median": statistics.median(ordered), "slowest": ordered[-1]}
    return [Row(work, system, 0, metric, value, "s", f"of {len(ordered)}") for work, value in said.items()]


if __name__ == "__main__":
    main()
