"""Rows of results, the tables that they make, and the command line that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 132)


@dataclass(frozen=True)
class Row:
    """One figure. `value` is None where the thing did not happen while we watched; then `note` says so."""

    work: str
    system: str
    workers: int
    metric: str
    value: float | None
    unit: str
    note: str = ""


def parse(name: str, description: str | None, **more: object) -> argparse.Namespace:
    """`--quick`, `--json FILE`, and an option of type int for each keyword (its default as the value)."""
    summary = (description or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=summary)
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--only", default="", metavar="WORDS", help="only cases whose name holds one of these words")
    for option, default in more.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started is ended on the way out
    arguments.only = arguments.only.replace(",", " ").split()
    return arguments


def machine() -> Row:
    """The machine as a row: its cores, and the rest in the note."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    versions = f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}, torch {_torch()}"
    return Row("", "machine", 0, "cores", cores, "", f"{model}, {cores} cores, {memory:.0f} GiB; {versions}")


def _torch() -> str:
    from importlib.metadata import version

    return version("torch")


def measured(value: float | None, unit: str) -> str:
    """A figure as a person would write it: three digits, milliseconds below a second."""
    if value is None:
        return "-"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms" if value < 0.01 else f"{value * 1e3:.0f} ms"
    if unit == "B":
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    return f"{value:.3g} {unit}".strip() if value < 1000 else f"{value:,.0f} {unit}".strip()


def grid(rows: Sequence[Row], metric: str, against: str = "") -> tuple[list[str], list[list[str]]]:
    """The head and lines of a table: one line per work and number of workers, one column per system.

    With `against`, each figure is followed by its ratio to that system's in the same line.
    """
    chosen = [row for row in rows if row.metric == metric]
    systems = list(dict.fromkeys(row.system for row in chosen))
    lines = []
    for work, workers in dict.fromkeys((row.work, row.workers) for row in chosen):
        here = {row.system: row for row in chosen if (row.work, row.workers) == (work, workers)}
        peer = here[against].value if against in here else None
        cells = []
        for system in systems:
            row = here.get(system)
            cell = "" if row is None else row.note if row.value is None else measured(row.value, row.unit)
            if row is not None and row.value is not None and peer and system != against:
                cell += f"  ({row.value / peer:.2f})"
            cells.append(cell)
        lines.append([work, str(workers or ""), *cells])
    if not any(line[1] for line in lines):
        return ["", *systems], [[line[0], *line[2:]] for line in lines]
    return ["work", "workers", *systems], lines


def show(title: str, rows: Sequence[Row], metric: str, against: str = "") -> None:
    """Prints the table of one metric; ratios in brackets are to `against`."""
    head, lines = grid(rows, metric, against)
    if not lines:
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for k, name in enumerate(head):
        table.add_column(name, justify="left" if k == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    if against:
        console.print(f"[dim]In brackets: ratio to {against}.[/dim]")
    console.print()


def save(path: Path | None, rows: Iterable[Row]) -> None:
    """Writes the rows, the machine first, as a JSON list to `path` (nothing without one)."""
    if path is None:
        return
    said = [{key: value for key, value in asdict(row).items() if key != "note" or value} for row in (machine(), *rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in said) + "\n]\n")
    console.print(f"[dim]{len(said)} rows in {path}[/dim]")


def median_rows(rows: Sequence[Row]) -> list[Row]:
    """One row where several say the same thing: their median."""
    groups: dict[tuple[str, str, int, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.work, row.system, row.workers, row.metric, row.unit), []).append(row)
    merged = []
    for (work, system, workers, metric, unit), group in groups.items():
        values = [row.value for row in group if row.value is not None]
        note = next((row.note for row in group if row.note), "")
        merged.append(Row(work, system, workers, metric, statistics.median(values) if values else None, unit, note))
    return merged


def progress(text: str) -> None:
    """One line about what is measured now, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)
