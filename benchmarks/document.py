"""Writes the tables of docs/benchmarks.md from benchmarks/results/*.json, so that no figure is typed by hand.

A benchmark leaves its rows there with `--json benchmarks/results/NAME.json`. In the page, what stands between
`<!-- NAME -->` and `<!-- end -->` is replaced; all else stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import planner as planner_benchmark
from benchmarks import table, works
from benchmarks.table import Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = Path(__file__).parent / "results"
MISSING = "*not measured yet*"


def rows_of(name: str, results: Path = RESULTS) -> list[Row]:
    """The rows of one benchmark; none where it was not run."""
    path = results / f"{name}.json"
    return [Row(**row) for row in json.loads(path.read_text())] if path.exists() else []


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return MISSING
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def grid(rows: Sequence[Row], metric: str, against: str = "") -> str:
    return markdown(*table.grid(rows, metric, against))


def by_metric(rows: Sequence[Row]) -> str:
    """One line per metric, one column per system."""
    return grid(
        [Row(row.metric, row.system, 0, "value", row.value, row.unit, row.note) for row in rows if row.work], "value"
    )


# --- targets


@dataclass(frozen=True)
class Target:
    """A figure that the design asks for, and where it is found."""

    words: str
    benchmark: str
    metric: str
    works: tuple[str, ...]
    systems: tuple[str, ...]
    workers: int
    limit: float
    unit: str

    def measured(self) -> list[Row]:
        return [
            row
            for row in rows_of(self.benchmark)
            if row.metric == self.metric and row.system in self.systems and row.workers == self.workers
            if not self.works or row.work in self.works
        ]


def _elastic(words: str, metric: str, limit: float, *names: str) -> Target:
    return Target(words, "elastic", metric, names, ("springtide",), 4, limit, "s")


WHOLE = str(planner_benchmark.WHOLE)
OURS = ("M = workers", "default M")
STEADY = [
    # against, work, systems, workers, at most
    ("ddp", ("mlp",), OURS, 4, 0.75),
    ("ddp", ("cnn", "lstm"), OURS, 4, 0.95),
    ("one process", ("mlp",), OURS, 4, 1.3),
    ("one process", ("cnn", "lstm"), OURS, 4, 1.0),
    ("loop, DataLoader", ("tiny",), ("python, M = 1",), 1, 1.5),
    ("loop, indexing", ("tiny",), ("python, M = 1",), 1, 1.5),
]
TARGETS = [
    _elastic("kill -9 one of four: delay", "kill one: delay", 0.1),
    _elastic("kill -9 all four: until the next step", "kill all: until the next step", 1.0),
    _elastic("SIGSTOP of one: delay", "stop one: delay", 1.3),
    _elastic("a fourth joins: pause of the others", "join: pause of the others", 0.02),
    _elastic("a fourth joins: from its request", "join: from its request", 0.5),
    _elastic("supervisor killed: delay", "chief killed: delay", 0.1),
    _elastic("supervisor killed: in charge again", "chief killed: in charge again", 2.0),
    *(
        Target(f"steady step against {against}", "steady", f"step / {against}", names, systems, workers, limit, "")
        for against, names, systems, workers, limit in STEADY
    ),
    Target("memory of four against ddp", "memory", "memory / ddp", (), ("M = 4",), 4, 0.6, ""),
    Target("pause for a checkpoint of 600 MB", "checkpoint", "checkpoint: pause", (), ("springtide",), 2, 0.01, "s"),
    Target("full plan of 100,000 replicas", "planner", "everything waits", (WHOLE,), ("springtide",), 0, 1.0, "s"),
    Target("plan after one job has arrived", "planner", "one job has arrived", (WHOLE,), ("springtide",), 0, 0.02, "s"),
    Target("idle pool server, 100 jobs", "pool", "share of a core", (), ("pool server",), 1, 1.0, "%"),
    Target("padding, sequences by length", "sequence", "padding", (), ("by_length, default M",), 1, 5.0, "%"),
]


def targets() -> str:
    lines = []
    for target in TARGETS:
        for row in target.measured():
            if row.value is None:
                said, holds = row.note, "no"
            else:
                said, holds = table.measured(row.value, row.unit), "yes" if row.value <= target.limit else "**no**"
            case = ", ".join(part for part in (row.work, "" if row.system == "springtide" else row.system) if part)
            lines.append([target.words, case, f"<= {table.measured(target.limit, target.unit)}", said, holds])
    return markdown(["target", "case", "asked", "measured", "holds"], lines)


# --- sections


def machine() -> str:
    names = ("steady", "elastic", "memory", "checkpoint", "sequence", "scaling", "planner", "pool", *CIRCLE)
    said = {row.note for name in names for row in rows_of(name) if row.system == "machine"}
    return "\n\n".join(sorted(said)) or MISSING


def steady() -> str:
    rows = rows_of("steady")
    parts = []
    for name in ("mlp", "cnn", "lstm"):
        here = [row for row in rows if row.work == name]
        parts += [f"**{works.get(name).title}**, median step:", grid(here, "step")]
    against_ddp = [row for row in rows if row.metric == "step / ddp"]
    parts += ["Ratio to DDP with as many workers (the better malloc of the two):", grid(against_ddp, "step / ddp")]
    against_one = [row for row in rows if row.metric == "step / one process" and row.work != "tiny"]
    parts += [
        "Ratio to one process with all threads (the better malloc of the two):",
        grid(against_one, "step / one process"),
    ]
    return "\n\n".join(parts)


def tiny() -> str:
    rows = [row for row in rows_of("steady") if row.work == "tiny"]
    metrics = ["step", "step / loop, DataLoader", "step / loop, indexing"]
    turned = [Row(row.system, row.metric, 0, "value", row.value, row.unit) for row in rows if row.metric in metrics]
    return grid(turned, "value")


def elastic() -> str:
    rows = rows_of("elastic")
    names = dict.fromkeys(row.work for row in rows if row.work)
    parts = [
        f"**{works.get(name).title}**:\n\n{by_metric([row for row in rows if row.work == name])}" for name in names
    ]
    return "\n\n".join(parts) or MISSING


def scaling() -> str:
    rows = rows_of("scaling")
    return "\n\n".join(
        f"By number of {axis}:\n\n{grid(rows, f'step by {axis}')}" for axis in ("workers", "parameters", "microbatches")
    )


def sequence() -> str:
    rows = rows_of("sequence")
    learnt = grid(rows, "sequences a second", "torch bucketed")
    share = grid(rows, "padding")
    return f"Sequences learnt from a second (in brackets: ratio to bucketed):\n\n{learnt}\n\nPadding:\n\n{share}"


PASSES = ("everything waits", "everything runs", "one job has arrived", "one job has ended")


def planner() -> str:
    rows = rows_of("planner")
    passes = [Row(row.work, row.metric, 0, "pass", row.value, row.unit) for row in rows if row.metric in PASSES]
    memory = [Row(row.work, row.metric, 0, "pass", row.value, row.unit) for row in rows if row.metric == "memory"]
    power = grid([Row(row.work, "power", 0, "power", row.value, "") for row in rows if row.metric == "power"], "power")
    return f"{grid(passes + memory, 'pass')}\n\nCost grows with this power of what grows:\n\n{power}"


def pool() -> str:
    rows = [row for row in rows_of("pool") if row.system != "machine"]
    waits = [
        Row(row.work, f"{row.system}, {row.metric}", 0, "v", row.value, row.unit)
        for row in rows
        if row.metric in ("p50", "p99")
    ]
    rounds = [Row(row.work, row.metric, 0, "v", row.value, row.unit) for row in rows if row.system == "loop"]
    known = {id(row) for row in rows if row.metric in ("p50", "p99") or row.system == "loop"}
    others = [
        [f"{row.work}: {row.system}, {row.metric}", table.measured(row.value, row.unit)]
        for row in rows
        if id(row) not in known
    ]
    return "\n\n".join([grid(waits, "v"), markdown(["what", "measured"], others), grid(rounds, "v")])


def circle(name: str) -> str:
    """One table for each unit of measure: a line for each work and metric, a column for each system."""
    rows = [row for row in rows_of(name) if row.system != "machine"]
    parts = []
    for unit in dict.fromkeys(row.unit for row in rows):
        here = [
            Row(f"{row.metric}: {row.work}" if row.work else row.metric, row.system, row.workers, "v", row.value, unit)
            for row in rows
            if row.unit == unit
        ]
        parts.append(grid(here, "v"))
    return "\n\n".join(parts) or MISSING


CIRCLE = ("serving", "streams", "stream_training", "loop", "bulk")
SECTIONS: dict[str, Callable[[], str]] = {
    "machine": machine,
    "targets": targets,
    "steady": steady,
    "tiny": tiny,
    "elastic": elastic,
    "memory": lambda: grid(rows_of("memory"), "memory", "ddp"),
    "checkpoint": lambda: by_metric(rows_of("checkpoint")),
    "sequence": sequence,
    "scaling": scaling,
    "planner": planner,
    "pool": pool,
    **{name: partial(circle, name) for name in CIRCLE},
}


def filled(page: str) -> str:
    """The page with every marked part written anew. Raises KeyError for a mark that no section has."""

    def section(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n\n{SECTIONS[found[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, page, flags=re.DOTALL)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text()))
    print(f"{PAGE.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
