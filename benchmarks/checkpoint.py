"""How long training stands still for a checkpoint of 600 MB, against torch.save in the loop.

Springtide writes while training goes on, and syncs; torch.save does not sync. Two figures: the longest step while a
checkpoint is made beyond an ordinary one (the pause), and all that the steps took longer meanwhile (the disk and the
processor are shared, so this is more).
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any

from benchmarks import table
from benchmarks.launch import Ended, Running, Step, launch, pause_seconds, step_seconds
from benchmarks.table import Row

# With their momentum, 7.5e7 parameters are 600 MB.
CASES: list[tuple[str, str, int, dict[str, Any]]] = [
    ("torch.save, one process", "one process", 1, {"every": True}),
    ("torch.save, ddp", "ddp", 2, {"every": True}),
    ("springtide", "springtide", 2, {"microbatches": 2, "options": True}),
]


def windows(running: Running, steps: list[Step], every: int) -> list[tuple[float, float]]:
    """From when to when (unix seconds) each checkpoint was made."""
    said = [(row["time"] - row["seconds"], row["time"]) for row in running.rows if row.get("event") == "checkpoint"]
    if said:
        return said
    return [(early.time, late.time) for early, late in itertools.pairwise(steps) if late.number % every == 0]


def measure(
    label: str, system: str, workers: int, work: str, steps: int, every: int, settings: dict[str, Any]
) -> list[Row]:
    table.progress(f"{work}: {label}")
    settings = dict(settings)
    if settings.pop("every", False):
        settings["every"] = every
    if settings.pop("options", False):
        settings["options"] = ["--every", f"{every}steps"]
    try:
        with launch(system, work, workers, steps=steps, **settings) as running:
            running.wait_step(steps, 240)
            done = running.steps()
            # The checkpoint at the end disturbs no step.
            spans = [span for span in windows(running, done, every) if span[1] < done[-1].time]
    except Ended as ended:
        table.progress(f"failed: {ended}")
        return []
    ordinary = step_seconds(done)
    pauses = [pause_seconds(done, start, end, ordinary) for start, end in spans]
    excess = [
        max(0.0, sum(late.time - early.time - ordinary for early, late in inside(done, start, end)))
        for start, end in spans
    ]
    if not spans:
        table.progress("failed: no checkpoint was made while it ran")
        return []
    figures = {"pause": statistics.median(pauses), "all that was lost": statistics.median(excess), "step": ordinary}
    figures["writing"] = statistics.median([end - start for start, end in spans])
    return [Row(work, label, workers, f"checkpoint: {name}", value, "s") for name, value in figures.items()]


def inside(steps: list[Step], start: float, end: float) -> list[tuple[Step, Step]]:
    """The pairs of consecutive steps whose gap touches the time from `start` to `end`."""
    return [(early, late) for early, late in itertools.pairwise(steps) if late.time > start and early.time < end]


def main() -> None:
    arguments = table.parse("checkpoint", __doc__, rounds=2)
    quick = arguments.quick
    work, steps, every = ("params:1e7", 30, 10) if quick else ("params:7.5e7", 50, 12)
    rows = []
    for _ in range(1 if quick else arguments.rounds):
        for label, system, workers, settings in CASES:
            rows += measure(label, system, workers, work, steps, every, settings)
    rows = table.median_rows(rows)
    turned = [Row(row.metric, row.system, 0, "value", row.value, row.unit) for row in rows]
    table.show(f"{work}: a checkpoint every {every} steps", turned, "value")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
