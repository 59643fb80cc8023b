"""`tide logs`, `tide events`, `tide explain`: what a job wrote, what happened to it, and why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking, finding
from springtide.cli.completion import job_names, team_names
from springtide.cli.words import as_json
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from springtide.pool.client import Client


@click.command(epilog="Example: tide logs -f web")
@click.argument("name", metavar="JOB", shell_complete=job_names)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("--replica", metavar="ID", help="Only of this replica; `tide ps --json` names them.")
@click.option("-n", "--lines", metavar="N", default="200", show_default=True, help="How many lines at the beginning.")
@as_json
def logs(name: str, follow: bool, replica: str | None, lines: str, as_json: bool) -> None:
    """Print what the replicas of JOB wrote."""
    most = _count(lines, "--lines")
    client = asking.pool()
    key = _job(name, client)
    for line in client.logs(key, replica=replica, lines=most, follow=follow):
        click.echo(json.dumps({"line": line}) if as_json else line)


@click.command(epilog="Example: tide events -f web")
@click.argument("name", metavar="[JOB]", required=False, shell_complete=job_names)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on; Ctrl-C ends it.")
@click.option("--team", metavar="TEAM", shell_complete=team_names, help="Only of jobs of this team.")
@click.option("-n", "--lines", metavar="N", default="50", show_default=True, help="How many of the latest.")
@as_json
def events(name: str | None, follow: bool, team: str | None, lines: str, as_json: bool) -> None:
    """Print what happened in the pool, or to JOB, the newest last."""
    most = _count(lines, "--lines")
    client = asking.pool()
    job = _job(name, client) if name else None
    for event in client.events(job=job, team=team, limit=most, follow=follow):
        click.echo(json.dumps(event) if as_json else event_line(event))
        if follow:
            sys.stdout.flush()


@click.command(epilog="Example: tide explain digits")
@click.argument("name", metavar="JOB", shell_complete=job_names)
@as_json
def explain(name: str, as_json: bool) -> None:
    """Say why JOB (or a loop) is as it is, what was decided about it of late, and what would change it."""
    from springtide.cli import loop

    client = asking.pool()
    told = loop.explained(name, client) if loop.known(name) else client.explain(_job(name, client))
    if as_json:
        asking.say_json(told)
    else:
        click.echo("\n".join(_explained(told)))


def _explained(told: dict[str, Any]) -> Iterable[str]:
    yield told["sentence"]
    if decisions := told.get("decisions"):
        yield ""
        yield from (f"{time_text(one['time_s']):>8}  {one['sentence']}" for one in decisions)
    if changes := told.get("changes"):
        yield ""
        yield "what would change it:"
        yield from (f"  {change}" for change in changes)


def event_line(event: dict[str, Any]) -> str:
    """`12:03:44  digits: 3 workers from here`."""
    sentence, job = event["sentence"], event.get("job")
    named = not job or sentence.startswith(job)
    return f"{time_text(event['time_s']):>8}  {sentence if named else f'{job}: {sentence}'}"


def time_text(time_s: float, now_s: float | None = None) -> str:
    """The time of day here, with the date where it is not today's."""
    there, here = time.localtime(time_s), time.localtime(now_s)
    return time.strftime("%H:%M:%S" if there[:3] == here[:3] else "%d %b %H:%M:%S", there)


def _job(word: str, client: Client) -> str:
    return finding.in_pool(word, client)


def _count(text: str, where: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise UserError(f'{where}: "{text}" is no number of lines; write {where} 200')
    return int(text)
