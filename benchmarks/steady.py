"""The time of a step when nothing happens: Springtide, DDP, torchft and one process with all threads.

All train the same work with the same global batch. Rounds go through all systems in turn, so that a slow minute of the
machine meets all of them. A system's figure is the median over rounds of the median step; its ratio is the median of
the rounds' ratios. One worker on a model of 10,000 parameters is compared with two plain loops: one with a DataLoader,
one that indexes tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from benchmarks import table, works
from benchmarks.launch import Ended, has_torchft, launch, step_seconds
from benchmarks.table import Row


@dataclass(frozen=True)
class Case:
    """One training to be timed; `label` is its column."""

    label: str
    system: str
    work: str
    workers: int
    steps: int
    stride: int = 1
    settings: tuple[tuple[str, Any], ...] = ()


def steady_cases(names: list[str], sizes: list[int], steps: int) -> list[Case]:
    """Every system for each work and number of workers; the one process once per work.

    The peers run with a malloc that keeps what is freed (Springtide sees to that by itself) and with the default.
    """
    cases = []
    for work in names:
        default_malloc = (("keep_freed", False),)
        cases.append(Case("one process", "one process", work, 1, steps))
        cases.append(Case("one process, default malloc", "one process", work, 1, steps, settings=default_malloc))
        for workers in sizes:
            cases.append(Case("ddp", "ddp", work, workers, steps))
            cases.append(Case("ddp, default malloc", "ddp", work, workers, steps, settings=default_malloc))
            if has_torchft():
                cases.append(Case("torchft", "torchft", work, workers, steps))
            cases.append(Case("M = workers", "springtide", work, workers, steps, settings=(("microbatches", workers),)))
            cases.append(Case("default M", "springtide", work, workers, steps))
            cases.append(Case("exact=False", "springtide", work, workers, steps, settings=(("fused", True),)))
    return cases


def tiny_cases(steps: int) -> list[Case]:
    """What a step costs beside the arithmetic: one worker, one thread, a model of 10,000 parameters."""
    plain = Case("", "one process", "tiny", 1, steps, stride=50)
    ours = replace(plain, system="alone")
    supervised = replace(plain, system="springtide")
    return [
        replace(plain, label="loop, DataLoader", settings=(("loading", "loader"), ("threads", 1))),
        replace(plain, label="loop, indexing", settings=(("threads", 1),)),
        replace(ours, label="python, M = 1", settings=(("microbatches", 1),)),
        replace(ours, label="python, default M"),
        replace(supervised, label="tide run, M = 1", settings=(("microbatches", 1),)),
        replace(supervised, label="tide run, default M"),
    ]


def measure(case: Case) -> Row | None:
    """The median step of one training; None, and a line why, where it failed."""
    table.progress(f"{case.work}: {case.label}, {case.workers} worker{'s' * (case.workers > 1)}")
    try:
        with launch(case.system, case.work, case.workers, steps=case.steps, **dict(case.settings)) as running:
            running.wait_step(case.steps, limit_seconds=180)
            # torchft's first steps are made by those who came first.
            steps = [step for step in running.steps() if step.workers == case.workers]
        return Row(case.work, case.label, case.workers, "step", step_seconds(steps, 5, case.stride), "s")
    except Ended as ended:
        table.progress(f"failed: {ended}")
        return None


def ratios(rounds: list[list[Row]], against: str, metric: str) -> list[Row]:
    """The median over rounds of each system's step over that of `against` at the same work (and workers, for DDP).

    Where `against` was measured with both mallocs, the better of the two counts.
    """
    found = []
    for rows in rounds:
        peers: dict[tuple[str, int], float] = {}
        for row in rows:
            if row.system.startswith(against) and row.value:
                key = (row.work, row.workers)
                peers[key] = min(row.value, peers.get(key, row.value))
        for row in rows:
            peer = peers.get((row.work, 1 if against == "one process" else row.workers))
            if peer and row.value and not row.system.startswith(against):
                found.append(Row(row.work, row.system, row.workers, metric, row.value / peer, ""))
    return table.median_rows(found)


def main() -> None:
    arguments = table.parse("steady", __doc__, rounds=3)
    quick = arguments.quick
    names = [name for name in ("mlp", "cnn", "lstm") if not arguments.only or name in arguments.only]
    cases = steady_cases(["mlp"] if quick else names, [2] if quick else [2, 4], 14 if quick else 25)
    tiny = [] if arguments.only and "tiny" not in arguments.only else tiny_cases(300 if quick else 2000)
    rounds = []
    for _ in range(1 if quick else arguments.rounds):
        rounds.append([row for case in (*cases, *tiny) if (row := measure(case)) is not None])
    rows = table.median_rows([row for rows in rounds for row in rows])
    titles = {work.name: work.title for work in works.WORKS.values()}
    for name in (*names, "tiny"):
        table.show(f"{titles[name]}: median step", [row for row in rows if row.work == name], "step")
    versus_ddp = ratios(rounds, "ddp", "step / ddp")
    versus_one = ratios(rounds, "one process", "step / one process")
    versus_loop = [
        row
        for name in ("loop, DataLoader", "loop, indexing")
        for row in ratios(rounds, name, f"step / {name}")
        if row.work == "tiny"
    ]
    every = [*rows, *versus_ddp, *versus_one, *versus_loop]
    for metric in dict.fromkeys(row.metric for row in every[len(rows) :]):
        table.show(metric, every, metric)
    table.save(arguments.json, every)


if __name__ == "__main__":
    main()
