"""`tide usage`: core-hours and GPU-hours that were asked for, allocated and used, by team or by job."""

from __future__ import annotations

import time
from typing import Any

import click

from springtide.cli import asking, table
from springtide.cli.completion import team_names
from springtide.cli.words import as_json
from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

_BY = ("team", "job")
_COLUMNS = ("asked", "allocated", "used")
_HOUR_S = 3600.0


@click.command(epilog="Example: tide usage --by job --since 24h --team vision")
@click.option("--by", metavar="team|job", default="team", show_default=True, help="What the rows are.")
@click.option("--since", metavar="TIME", default="7d", show_default=True, help="How far back: 24h, 7d.")
@click.option("--team", metavar="TEAM", shell_complete=team_names, help="Only this team.")
@as_json
def usage(by: str, since: str, team: str | None, as_json: bool) -> None:
    """Say how many core-hours and GPU-hours were asked for, allocated, and used as measured."""
    if by not in _BY:
        raise UserError(f'--by: nothing is summed by "{by}"{nearest(by, _BY) or "; write team or job"}')
    since_s = time.time() - quantities.duration(since, "--since")
    answer = asking.pool().usage(by=by, since_s=since_s, team=team)
    rows = answer["rows"]
    if as_json:
        asking.say_json(rows)
    elif not rows:
        click.echo(f"nothing ran in the last {since}")
    else:
        _show(by, rows)


def _show(by: str, rows: list[dict[str, Any]]) -> None:
    units = {"core_s": "core-hours", "gpu_s": "GPU-hours"}
    shown = [key for key in units if any(any(row[key].values()) for row in rows)] or ["core_s"]
    names = ("team",) if by == "team" else ("team", "job")
    numbers = [f"{units[key]} {column}" for key in shown for column in _COLUMNS] + ["used of allocated"]
    cells = [
        (
            *(str(row.get(name) or "-") for name in names),
            *(_hours(row[key][column]) for key in shown for column in _COLUMNS),
            _share(row[shown[0]]),
        )
        for row in sorted(rows, key=lambda row: -row[shown[0]]["allocated"])
    ]
    table.show((*names, *numbers), cells, frozenset(numbers))


def _hours(seconds: float) -> str:
    hours = seconds / _HOUR_S
    return f"{hours:.3f}" if hours < 0.0995 else f"{hours:,.2f}" if hours < 9.95 else f"{hours:,.0f}"


def _share(amounts: dict[str, float]) -> str:
    return f"{amounts['used'] / amounts['allocated']:.0%}" if amounts["allocated"] else "-"
