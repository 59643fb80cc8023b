"""The memory of four workers and all that belongs to them, against DDP with four.

The sum of the proportional set sizes (PSS) of every process of the training, launchers and supervisors too, in steady
training; shared memory that no process has mapped is added. The peers' malloc gives freed memory back, as by default.
"""

from __future__ import annotations

import statistics

from benchmarks import processes, table
from benchmarks.launch import Ended, has_torchft, launch
from benchmarks.table import Row

CASES = [
    ("ddp", "ddp", 4, {"keep_freed": False}),
    ("torchft", "torchft", 4, {"keep_freed": False}),
    ("M = 4", "springtide", 4, {"microbatches": 4}),
    ("default M", "springtide", 4, {}),
    ("one process", "one process", 1, {"keep_freed": False}),
]


def measure(label: str, system: str, work: str, workers: int, steps: int, **settings: int) -> Row | None:
    table.progress(f"{work}: {label}")
    before = processes.shared_bytes_of_machine()
    try:
        with launch(system, work, workers, steps=100_000, **settings) as running:  # type: ignore[arg-type]
            seen = []
            for k in range(3):
                running.wait_step(steps + 3 * k, 180)
                mapped = processes.proportional_bytes(running.all_processes())
                unmapped = max(0, processes.shared_bytes_of_machine() - before - mapped.shared)
                seen.append(mapped.total + unmapped)
        return Row(work, label, workers, "memory", statistics.median(seen), "B")
    except Ended as ended:
        table.progress(f"failed: {ended}")
        return None


def main() -> None:
    arguments = table.parse("memory", __doc__)
    names = ["mlp"] if arguments.quick else ["mlp", "cnn", "lstm"]
    rows = []
    for work in names:
        for label, system, workers, settings in CASES:
            if system == "torchft" and (arguments.quick or not has_torchft()):
                continue
            row = measure(label, system, work, workers, 6 if arguments.quick else 15, **settings)
            rows += [row] if row else []
    table.show("Memory of four workers", [row for row in rows if row.workers == 4], "memory", "ddp")
    table.show("Memory of one process", [row for row in rows if row.workers == 1], "memory")
    ratios = [
        Row(row.work, row.system, row.workers, "memory / ddp", row.value / peer.value, "")
        for row in rows
        for peer in rows
        if peer.system == "ddp" and peer.work == row.work and row.system != "ddp" and row.value and peer.value
    ]
    table.save(arguments.json, [*rows, *ratios])


if __name__ == "__main__":
    main()
