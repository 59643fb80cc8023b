"""`tide run --pool`: the same words as for a run of this machine, as a job of the pool that is watched like one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking
from springtide.cli.submit import overridden, tell
from springtide.cli.watching import Log, line_of, looks, progress
from springtide.spec.errors import UserError
from springtide.spec.job import Checkpoint, Job, Kind

if TYPE_CHECKING:
    from springtide.pool.client import Client
    from springtide.train.options import LaunchOptions

_LOCAL_ONLY = ("start", "seed", "sample", "threads", "chaos", "report", "plot", "fresh")
_TENTHS = 10


def run_in_pool(options: LaunchOptions, said: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Submit the run and watch it: Ctrl-C pauses it with a checkpoint, once more leaves it to the pool."""
    client = asking.pool()
    answer = client.submit([job(options, said)], forecast=True)
    if not as_json and not quiet:
        tell(answer, dry_run=False)
    row = answer["jobs"][0]
    log = Log(client, row["id"])
    if not as_json and not quiet:
        log.start()
    try:
        return _watch(client, row, log, as_json, quiet)
    except KeyboardInterrupt:
        return _pause(client, row)


def job(options: LaunchOptions, said: dict[str, Any]) -> Job:
    """The training job that these options describe. UserError: an option means nothing in a pool."""
    for name in _LOCAL_ONLY:
        if said.get(name):
            raise UserError(f"--{name} is for runs of this machine alone; leave it out with --pool")
    job = Job(
        kind=Kind.TRAINING,
        name=re.sub(r"[^a-z0-9]+", "-", options.name.lower())[:63].strip("-") or "run",
        replicas=options.workers,
        script=str(options.script),
        args=options.arguments,
        folder=str(options.script.parent),
        checkpoint=Checkpoint(every=options.every, keep=options.keep, folder=options.checkpoint),
    )
    return overridden(job, said)


def _watch(client: Client, row: dict[str, Any], log: Log, as_json: bool, quiet: bool) -> int:
    show = _json_line if as_json else _Lines(quiet)
    last = row
    for (last,) in looks(client, [row["id"]]):
        show([last])
    if not as_json:
        if not quiet:
            log.finish()
        click.echo(_verdict(last), err=last["state"] != "done")
    return 0 if last["state"] == "done" else 1


def _json_line(rows: Any) -> None:
    import json

    for row in rows:
        click.echo(json.dumps({key: value for key, value in row.items() if key not in ("job", "events")}, default=str))


class _Lines:
    """A line between those of the script whenever a tenth is done, or its state or workers change."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._told: tuple[Any, ...] = ()

    def __call__(self, rows: Any) -> None:
        (row,) = rows
        share = progress(row)
        mark = (row["state"], row["replicas"], None if share is None else int(share * _TENTHS))
        if mark != self._told and not self._quiet and row["state"] in ("waiting", "running", "paused"):
            click.echo(line_of(row))
        self._told = mark


def _verdict(row: dict[str, Any]) -> str:
    if row["state"] == "done":
        steps = f" {row['step']:,} steps" if row.get("step") else ""
        return f"done:{steps}" + (f"\ndigest: {row['digest']}" if row.get("digest") else "")
    return f"tide: {row['name']} is {row['state']}: {row.get('reason') or 'the pool does not say why'}"


def _pause(client: Client, row: dict[str, Any]) -> int:
    name = row["name"]
    click.echo(f"\n{name}: writes a checkpoint and stops; Ctrl-C again leaves it to the pool", err=True)
    try:
        client.update(row["id"], paused=True)
        for (now,) in looks(client, [row["id"]]):
            if now["state"] == "paused" and not now["replicas"]:
                break
        click.echo(f"{name}: is paused; `tide resume {name}` lets it go on", err=True)
    except KeyboardInterrupt:
        client.update(row["id"], paused=False)
        click.echo(f"\n{name}: goes on in the pool; `tide logs -f {name}` shows it", err=True)
    return 130
