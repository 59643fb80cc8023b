"""The report of a script run by `python` itself: one worker, no supervisor, the same digest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.data.order import OrderLike
from springtide.train.arena import RING
from springtide.train.report import Report
from springtide.train.tensors import digest

if TYPE_CHECKING:
    from springtide.train.assembly import Assembly
    from springtide.train.worker import Worker


def audit(order: OrderLike, steps: int, position: dict[str, Any]) -> tuple[int, int]:
    """(samples counted twice, samples lost): what the workers counted against what the order says."""
    return compare(order.expected(steps), (position.get("samples", 0), position.get("checksum", 0)))


def compare(expected: tuple[int, int], counted: tuple[int, int]) -> tuple[int, int]:
    """Counts and sums of sample numbers; equal counts with another sum mean that one stood in for another."""
    twice, lost = max(0, counted[0] - expected[0]), max(0, expected[0] - counted[0])
    if twice == lost == 0 and counted[1] != expected[1]:
        return 1, 1
    return twice, lost


def write_report(path: str, assembly: Assembly, worker: Worker, step: int, buffer: int) -> None:
    """What `tide run --report` writes, for one worker."""
    arena, recipe = worker.arena, worker.job.recipe
    report = Report()
    records = list(arena.steps_after(max(0, step - RING + 2), step))
    first = records[0].time if records else 0.0
    report.add({
        "event": "start", "time": first, "name": Path(sys.argv[0]).stem, "run_id": "", "workers": 1, "minimum": 1,
        "maximum": 1, "microbatches": recipe.microbatches, "batch_size": recipe.batch_size,
        "steps": worker.arena.last_step(recipe.course.steps),
        "steps_per_epoch": assembly.order.count / recipe.batch_size or None,
        "parameters": assembly.parameters, "arena_bytes": arena.at.size,
        "resumed_step": 0, "threads": recipe.threads,
    })  # fmt: skip
    for record in records:
        report.add({"event": "step", "step": record.step, "time": record.time, "loss": record.loss, "workers": 1,
                    "epoch": assembly.order.epoch(record.step), "samples": record.samples})  # fmt: skip
    if metrics := worker.metrics():
        report.add({"event": "evaluation", "time": records[-1].time, "step": step, "metrics": metrics, "best": False})
    twice, lost = audit(assembly.order, step, arena.position(buffer))
    name = digest(assembly.inventory.tensors(arena, buffer))
    report.add({"event": "end", "time": records[-1].time if records else 0.0, "state": "done", "step": step,
                "digest": name, "samples_twice": twice, "samples_lost": lost, "message": ""})  # fmt: skip
    document = report.document() | {"steps": step, "samples": arena.position(buffer).get("samples", 0)}
    Path(path).write_text(json.dumps(document, indent=2) + "\n")
