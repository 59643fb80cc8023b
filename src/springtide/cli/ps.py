"""`tide ps`: the jobs of the pool and the runs of this machine, in one list."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import click

from springtide.cli import asking, table
from springtide.spec import home
from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import duration_text

Row = dict[str, Any]
_STATES = ("waiting", "running", "paused", "done", "failed", "cancelled", "live")
_RECENT = 20  # jobs that are over, listed beside those that are not
_HEADERS = ("name", "state", "kind", "team", "priority", "replicas", "step", "loss", "shares", "age", "where", "reason")
_RIGHT = frozenset(("replicas", "step", "loss", "age"))


@click.command(epilog="Example: tide ps --team vision --state waiting,running")
@click.option("--all", "everything", is_flag=True, help=f"Also all that are over, not only the latest {_RECENT}.")
@click.option("--team", metavar="TEAM", help="Only jobs of this team.")
@click.option("--state", metavar="STATE", help=f"Only in these states, joined by commas: {', '.join(_STATES)}.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of rows instead.")
def ps(everything: bool, team: str | None, state: str | None, as_json: bool) -> None:
    """List the jobs of the pool and the runs of this machine: state, replicas, step, and why."""
    states = _checked(state)
    rows = [*_pool_rows(everything, team, states), *([] if team else _local_rows(states))]
    if as_json:
        asking.say_json(rows)
    elif not rows:
        click.echo(_nothing(team, state))
    else:
        table.show(_HEADERS, [cells(row) for row in rows], _RIGHT)


def _checked(state: str | None) -> tuple[str, ...]:
    from springtide.spec.errors import UserError
    from springtide.spec.quantities import nearest

    states = tuple(word.strip() for word in state.split(",")) if state else ()
    for word in states:
        if word not in _STATES:
            hint = nearest(word, _STATES) or f"; write one of {', '.join(_STATES)}"
            raise UserError(f'--state: no job is "{word}"{hint}')
    return states


def _nothing(team: str | None, state: str | None) -> str:
    if team or state:
        return "nothing of that kind is here; `tide ps --all` lists everything"
    return "no runs on this machine and no jobs; `tide run train.py` begins a run, `tide up` a pool"


def _pool_rows(everything: bool, team: str | None, states: tuple[str, ...]) -> list[Row]:
    if not asking.has_pool():
        return []
    try:
        client = asking.pool()
        if states:
            found = {row["id"]: row for state in states for row in client.jobs(state=state, team=team)}
            return list(found.values())
        return asking.recent(client, team, None if everything else _RECENT)
    except SpringtideError as error:
        if error.exit_code != 3 or os.environ.get("TIDE_POOL"):
            raise
        click.echo(f"tide: {error}; the jobs of the pool are not listed", err=True)
        return []


def _local_rows(states: tuple[str, ...]) -> list[Row]:
    if not home.runs().is_dir():
        return []
    from springtide.train import runs

    rows = [_as_job(row) for row in runs.listing()]
    wanted = {*states, *(("running", "starting") if "live" in states else ())}
    return [row for row in rows if not states or row["state"] in wanted]


def _as_job(row: Row) -> Row:
    """A local run with the fields of a job; what only a pool can say is null."""
    workers = row.get("workers") or []
    return {
        **row, "where": "local", "kind": "training", "team": None, "priority": None, "replicas": len(workers),
        "wanted": None, "planned": len(workers), "reason": None, "started_s": row.get("since"),
    }  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """The words of one row, in the order of the headers."""
    wanted = row.get("wanted")
    return (
        row["name"],
        row["state"],
        row.get("kind") or "-",
        row.get("team") or "-",
        row.get("priority") or "-",
        f"{row.get('replicas') or 0} of {wanted}" if wanted else str(len(row.get("workers") or [])),
        step_text(row),
        "-" if row.get("loss") is None else f"{row['loss']:.4g}",
        _shares(row),
        _ago(row.get("since") or row.get("started_s") or row.get("submitted_s")),
        row.get("where") or "pool",
        row.get("reason") or str(row.get("checkpoint") or "-"),
    )


def step_text(row: Row) -> str:
    """`1,200 of 4,000`, or a dash where nothing is stepped."""
    step, steps = row.get("step"), row.get("steps")
    return "-" if step is None else f"{step:,} of {steps:,}" if steps else f"{step:,}"


def _shares(row: Row) -> str:
    shares = [worker.get("share") for worker in row.get("workers") or []]
    if not any(shares):
        return "-"
    from springtide.train.events import microbatches_text

    said = " ".join(microbatches_text(share or 0, row.get("M")) for share in shares)
    return re.sub(r"(\S+)( \1){3,}", lambda same: f"{len(same[0].split())} x {same[1]}", said)


def _ago(since_s: float | None) -> str:
    return "-" if since_s is None else duration_text(round(max(0.0, time.time() - since_s)) or 1)
