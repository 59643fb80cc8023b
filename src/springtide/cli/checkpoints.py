"""`tide checkpoints`: what lies in a folder of checkpoints, and whether every byte of it is right."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from springtide.cli import table
from springtide.cli.completion import run_names
from springtide.spec import home
from springtide.spec.errors import UserError
from springtide.spec.quantities import bytes_text, nearest

if TYPE_CHECKING:
    from springtide.train.checkpoint import Row


@click.command()
@click.argument("folder", metavar="DIR", shell_complete=run_names)
@click.option("--verify", is_flag=True, help="Read every byte and compare it with the digest; slower.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of rows instead.")
def checkpoints(folder: str, verify: bool, as_json: bool) -> int:
    """List the checkpoints in DIR (a folder, a URL, or the name of a run), newest first.

    Exit code 1 when one of them cannot be used.
    """
    from springtide.train import checkpoint

    rows = checkpoint.rows(_root(folder), verify=verify)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo(f"no checkpoints in {folder}")
    else:
        headers = ("step", "digest", "written", "size", "state", "path")
        lines = table.lines(headers, [_cells(row, verify) for row in rows], right=frozenset(("step", "size")))
        click.echo("\n".join(lines))
        for row in rows:
            if row.problem:
                click.echo(f"tide: {row.problem}", err=True)
    return 1 if any(row.problem for row in rows) else 0


def _root(folder: str) -> str:
    """The folder meant: a path or URL as it is, else the checkpoints of the run of that name."""
    if "://" in folder or Path(folder).is_dir():
        return folder
    if Path(folder).exists():
        raise UserError(f"DIR: {folder} is a file; write the folder that holds the checkpoints")
    of_run = home.runs() / folder / "checkpoints"
    if "/" not in folder and of_run.is_dir():
        return str(of_run)
    names = [path.name for path in home.runs().iterdir()] if home.runs().is_dir() else []
    hint = nearest(folder, names) or f"; no run of {home.home()} has that name either"
    raise UserError(f"DIR: there is no folder {folder}{hint}")


def _cells(row: Row, verified: bool) -> tuple[str, ...]:
    good = "whole" if verified else "complete"
    return (
        "-" if row.step is None else f"{row.step:,}",
        (row.digest or "-")[:12],
        "-" if row.time is None else f"{datetime.fromtimestamp(row.time):%Y-%m-%d %H:%M:%S}",
        "-" if row.bytes is None else bytes_text(row.bytes),
        "damaged" if row.problem else f"{good}, the last of a finished run" if row.finished else good,
        row.path,
    )
