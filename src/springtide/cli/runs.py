"""`tide ps`, `tide resize`, `tide stop`: the runs of this machine, alive or not."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import click

from springtide.cli import table
from springtide.cli.completion import run_names
from springtide.spec.errors import UserError
from springtide.spec.quantities import duration_text
from springtide.train.events import microbatches_text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of rows instead.")
def ps(as_json: bool) -> None:
    """List the runs of this machine: state, step, loss, and each worker's share of the microbatches."""
    from springtide.train import runs

    rows = runs.listing()
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
    elif not rows:
        click.echo("no runs on this machine; `tide run train.py` begins one")
    else:
        headers = ("name", "state", "step", "loss", "workers", "shares", "supervisor", "age", "checkpoint")
        right = frozenset(("step", "loss", "workers", "supervisor", "age"))
        click.echo("\n".join(table.lines(headers, [_row(row) for row in rows], right)))


@click.command()
@click.argument("name", metavar="NAME", shell_complete=run_names)
@click.argument("workers", metavar="N")
def resize(name: str, workers: str) -> None:
    """Give the run NAME as many workers as N says; those who leave finish what they are at."""
    if not re.fullmatch(r"[-+]?\d{1,9}", workers) or int(workers) < 1:
        raise UserError(f'N: "{workers}" is no number of workers; write tide resize {name} 3')
    from springtide.train import runs

    answer = runs.request(name, {"do": "resize", "workers": int(workers)})
    click.echo(answer.get("message") or f"{name}: {workers} workers from the next step")


@click.command()
@click.argument("name", metavar="NAME", shell_complete=run_names)
def stop(name: str) -> None:
    """Let the run NAME write a checkpoint and end; the same `tide run` goes on from there."""
    from springtide.train import runs

    answer = runs.request(name, {"do": "stop"})
    click.echo(answer.get("message") or f"{name}: a checkpoint is written, then it ends")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    workers = row.get("workers") or []
    step, steps, loss = row.get("step"), row.get("steps"), row.get("loss")
    return (
        row["name"],
        row["state"],
        "-" if step is None else f"{step:,} of {steps:,}" if steps else f"{step:,}",
        "-" if loss is None else f"{loss:.4g}",
        str(len(workers)),
        " ".join(microbatches_text(worker.get("share") or 0, row.get("M")) for worker in workers) or "-",
        str(row.get("supervisor") or "-"),
        _ago(row.get("since")),
        str(row.get("checkpoint") or "-"),
    )


def _ago(since: float | None) -> str:
    return "-" if since is None else duration_text(round(max(0.0, time.time() - since)) or 1)
