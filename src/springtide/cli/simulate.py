"""`tide simulate`: policies on a trace or a scenario, a table of what each reached, and what was published."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.spec import amounts
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from springtide.sim.simulate import Head, Outcome


@click.command(epilog="Traces, formats, policies, metrics and scenarios: docs/simulator.md.")
@click.option("--format", "form", metavar="NAME", help="Format of the files. [default: as their columns show]")
@click.option(
    "--policy", "policies", metavar="NAME", multiple=True, help="Who plans; may be repeated. [default: springtide]"
)
@click.option("--nodes", metavar="SPEC", help="The pool: 16x4gpu or 8x1cpu,2Gi; what is not named is unlimited.")
@click.option(
    "--round", "round_s", metavar="S", help="Plan at multiples of so many seconds. [default: when something happens]"
)
@click.option("--restart", "restart_s", metavar="S", help="Seconds that a change of its places costs a job.")
@click.option("--arrive", metavar="SHARE", help="How much of the capacity arrives, where nothing departs: 1.3.")
@click.option("--seeds", metavar="N", default="1", help="Play so many seeds and show their mean. [default: 1]")
@click.option("--load", metavar="FACTOR", default="1", help="Times as much load. [default: 1.0]")
@click.option("--scaling", metavar="DIR", help="Folder of measured step times.")
@click.option("--json", "json_path", metavar="FILE", help="Write all figures as a list of rows.")
@click.option("--plot", metavar="FILE", help="Draw the pool's use over time (.png, .svg or .pdf).")
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
def simulate(
    traces: tuple[str, ...],
    form: str | None,
    policies: tuple[str, ...],
    seeds: str,
    json_path: str | None,
    plot: str | None,
    **said: Any,
) -> None:
    """Play a trace, or a scenario by name, under one or more policies, in virtual time."""
    from springtide.sim import report, simulate
    from springtide.sim.policies import OURS, checked

    _writable(json_path, "--json", (".json",))
    _writable(plot, "--plot", (".png", ".svg", ".pdf"))
    names = checked(policies or (OURS,))
    work = simulate.Work(traces, form, _options(**said))
    count = amounts.count("seeds", 10)(seeds, "--seeds")
    with _progress() as progress:
        head = simulate.head(work)
        outcomes = simulate.simulate(work, names, count if head.seeded else 1, progress)
    for line in _lines(head, outcomes):
        click.echo(line)
    if json_path:
        _write(Path(json_path), json.dumps(report.rows(head, outcomes), indent=1) + "\n")
    if plot:
        from springtide.sim.plot import plot as draw

        draw(head, outcomes, Path(plot))


def _options(
    nodes: str | None, round_s: str | None, restart_s: str | None, arrive: str | None, load: str, scaling: str | None
) -> Any:
    from springtide.sim.formats import Options

    def number(text: str | None, where: str) -> float | None:
        return None if text is None else amounts.number(text, where)

    return Options(
        nodes=nodes, round_s=number(round_s, "--round"), restart_s=number(restart_s, "--restart"),
        arrive=None if arrive is None else amounts.positive(arrive, "--arrive"),
        load=amounts.positive(load, "--load"), scaling=Path(scaling) if scaling else None,
    )  # fmt: skip


def _lines(head: Head, outcomes: list[Outcome]) -> Iterator[str]:
    from springtide.cli import table
    from springtide.sim import report

    seeds = len({outcome.seed for outcome in outcomes})
    note = f"; {head.note}" if head.note else ""
    yield f"{head.name}: {head.tasks:,} jobs" + (f", mean of {seeds} seeds" if seeds > 1 else "") + note
    for headers, rows in report.tables(head, outcomes):
        yield ""
        yield from table.lines(headers, rows, frozenset(headers[1:]))


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar with the time left, on a terminal; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("  playing"), BarColumn(32), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _writable(path: str | None, option: str, suffixes: tuple[str, ...]) -> None:
    """Bad places are said before an hour of playing, not after it."""
    if path is None:
        return
    if Path(path).suffix not in suffixes and suffixes != (".json",):
        raise UserError(f'{option}: "{path}" ends in none of {", ".join(suffixes)}')
    if not Path(path).parent.is_dir():
        raise UserError(f"{option}: there is no folder {Path(path).parent}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
