"""What a step costs against the number of workers, of parameters and of microbatches.

Each line varies one of the three. The arithmetic is kept small (the batch is 64, or 16 above 2e7 parameters), so what
is seen is the exchange of gradients and state; a plain loop in one thread stands beside it.
"""

from __future__ import annotations

from benchmarks import table
from benchmarks.launch import Ended, launch, step_seconds
from benchmarks.table import Row


def measure(axis: str, system: str, parameters: str, workers: int, microbatches: int) -> Row | None:
    """The median step; the number of steps falls with the size, so that each takes some seconds."""
    size = float(parameters)
    steps = 400 if size <= 1e5 else 120 if size <= 1e6 else 40 if size <= 1e7 else 12
    table.progress(f"{axis}: {system}, {parameters} parameters, {workers} workers, M = {microbatches}")
    settings = {"threads": 1} if system == "one process" else {"microbatches": microbatches}
    label = f"{parameters} parameters, M = {microbatches}" if system == "springtide" else f"{parameters} parameters"
    try:
        with launch(system, f"params:{parameters}", workers, steps=steps, **settings) as running:
            running.wait_step(steps, 240)
            value = step_seconds(running.steps(), skip=4, stride=10 if size <= 1e5 else 1)
        return Row(label, system, workers, f"step by {axis}", value, "s")
    except Ended as ended:
        table.progress(f"failed: {ended}")
        return None


def main() -> None:
    arguments = table.parse("scaling", __doc__)
    quick = arguments.quick
    sizes = ["1e4", "1e6"] if quick else ["1e4", "1e5", "1e6", "1e7", "1e8"]
    cases = [("workers", "springtide", "1e6", workers, 8) for workers in ([1, 4] if quick else [1, 2, 3, 4, 6, 8])]
    for size in sizes:
        cases.append(("parameters", "one process", size, 1, 1))
        cases += [("parameters", "springtide", size, workers, 8) for workers in ([2] if quick else [1, 2])]
    counts = [1, 16] if quick else [1, 2, 4, 8, 16, 32, 64]
    cases += [("microbatches", "springtide", "1e6", 1, count) for count in counts]
    rows = [row for case in cases if not arguments.only or case[0] in arguments.only for row in [measure(*case)] if row]
    for axis in ("workers", "parameters", "microbatches"):
        table.show(f"Median step by number of {axis}", rows, f"step by {axis}")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
