"""LSTM over sequences of very different lengths: data.by_length against torch padded, packed and bucketed.

How much of what the model reads is padding, and how many sequences a second it learns from (the mean over the run:
batches differ in length). The peers' loops use as many threads as Springtide has workers.
"""

from __future__ import annotations

from typing import Any

from benchmarks import table
from benchmarks.launch import Ended, launch
from benchmarks.peers.sentences import BATCH_SIZE
from benchmarks.table import Row

WORK = "LSTM, 4 to 200 words"


def cases(quick: bool) -> list[tuple[str, str, str, int, dict[str, Any]]]:
    """Label, system, batching, workers (threads for a plain loop), settings."""
    found: list[tuple[str, str, str, int, dict[str, Any]]] = []
    for workers in [1] if quick else [1, 2]:
        found += [
            (f"torch {how}", "one process", how, workers, {"threads": workers})
            for how in ("padded", "packed", "bucketed")
        ]
        system = "alone" if workers == 1 else "springtide"
        found.append(("by_length, M = workers", system, "", workers, {"microbatches": workers}))
        found.append(("by_length, default M", system, "", workers, {}))
    return found


def measure(label: str, system: str, batching: str, workers: int, steps: int, settings: dict[str, Any]) -> list[Row]:
    table.progress(f"{label}, {workers} workers")
    processes = 1 if system == "one process" else workers
    try:
        with launch(system, batching, processes, steps=steps, script="sequences", **settings) as running:
            running.wait_step(steps, 240)
            done = running.steps()[4:]
            read = [row for row in running.rows if row.get("event") == "words"]
    except Ended as ended:
        table.progress(f"failed: {ended}")
        return []
    speed = BATCH_SIZE * (len(done) - 1) / (done[-1].time - done[0].time)
    rows = [Row(WORK, label, workers, "sequences a second", speed, "/s")]
    if read:
        share = 1 - sum(row["real"] for row in read) / sum(row["all"] for row in read)
        rows.append(Row(WORK, label, workers, "padding", 100 * share, "%"))
    return rows


def main() -> None:
    arguments = table.parse("sequence", __doc__, rounds=3)
    quick = arguments.quick
    rows = []
    for _ in range(1 if quick else arguments.rounds):
        for label, system, batching, workers, settings in cases(quick):
            rows += measure(label, system, batching, workers, 40 if quick else 250, settings)
    rows = table.median_rows(rows)
    table.show("Sequences learnt from a second", rows, "sequences a second", "torch bucketed")
    table.show("Share of padding", rows, "padding")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
