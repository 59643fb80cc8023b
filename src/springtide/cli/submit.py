"""`tide submit`: files of jobs, or one job by its command, into the pool."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking
from springtide.cli.completion import team_names
from springtide.cli.words import as_json
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from springtide.spec.files import JobFile
    from springtide.spec.job import Job

_EPILOG = (
    """Examples: tide submit jobs.yaml --dry-run; tide submit --name count --cpu 1 --memory 64Mi -- python count.py"""
)
_AMOUNTS = ("cpu", "memory", "gpu", "disk", "network")
_HERE = "the command line"
_MOST_FORETOLD = 20  # jobs: each takes some passes of the planner


class SubmitCommand(click.Command):
    """What stands behind `--` is the job's own command, and not looked at."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["springtide.command"] = tuple(args[at + 1 :]) if at < len(args) else None
        return super().parse_args(ctx, args[:at])

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] FILE... | [OPTIONS] --name NAME -- COMMAND")


@click.command(cls=SubmitCommand, epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Say when each would start and end, what it costs, and who shrinks.")
@click.option("--wait", is_flag=True, help="Show progress until all are over; exit code 1 when one failed.")
@click.option("--team", metavar="TEAM", shell_complete=team_names, help="Who pays, whatever the file says.")
@click.option("--priority", metavar="CLASS", help="production, standard, experiment or spot, whatever the file says.")
@click.option("--name", metavar="NAME", help="Instead of files: a job of this name, its command behind --.")
@click.option(
    "--kind", metavar="KIND", help="training, service, stream or batch. [default: batch; service with --port]"
)
@click.option("--replicas", metavar="N|MIN..MAX", help="How many. [default: 1]")
@click.option("--cpu", metavar="CORES", help="Cores of a replica: 2, 0.5, 500m. [default: 1]")
@click.option("--memory", metavar="AMOUNT", help="Memory of a replica: 256Mi, 2Gi.")
@click.option("--gpu", metavar="N", help="GPUs of a replica, or a share of one.")
@click.option("--disk", metavar="RATE", help="Bandwidth of the disk: 200MB/s.")
@click.option("--network", metavar="RATE", help="Bandwidth of the network: 1Gbit/s.")
@click.option("--port", metavar="PORT", help="The port that a service's replicas share.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="An environment variable; may be given again.")
@click.option("--secret", metavar="NAME", multiple=True, help="A secret of the team, as a file in $TIDE_SECRETS.")
@click.option("--folder", metavar="DIR", help="What it runs in a copy of; none: an empty folder. [default: this one]")
@click.option("--deadline", metavar="TIME", help="When it should be done: in 3h, or 2026-11-24T18:00.")
@as_json
def submit(files: tuple[str, ...], dry_run: bool, wait: bool, as_json: bool, **said: Any) -> int:
    """Put the jobs of FILE... into the pool, all or none; a job of that name is changed to what is written."""
    command = click.get_current_context().meta["springtide.command"]
    of_words = said["name"] or command is not None
    found = [] if of_words else read_files(files, said)
    jobs = _from_words(command, said) if of_words else [job for file in found for job in file.jobs]
    if files and said["name"]:
        raise UserError(f"--name belongs to a command behind --, and {files[0]} is a file; write one of the two")
    client, foretold = asking.pool(), len(jobs) <= _MOST_FORETOLD
    if any(file.loops for file in found):
        from springtide.pool import circle_opening

        answer = circle_opening.submit(client, found, jobs, dry_run=dry_run, forecast=foretold)
    else:
        answer = client.submit(jobs, dry_run=dry_run, forecast=foretold)
    if as_json and not wait:
        asking.say_json(answer)
    elif not as_json:
        tell(answer, dry_run)
    if not wait or dry_run:
        return 0
    from springtide.cli.watching import watch

    return watch(client, [row["id"] for row in answer["jobs"]], as_json)


def tell(answer: dict[str, Any], dry_run: bool) -> None:
    """A line for each job, then the warnings on stderr."""
    forecasts = {one["name"]: one for one in answer.get("forecasts") or []}
    rows = {row["name"]: row for row in answer.get("jobs") or []}
    for name in rows or forecasts:
        forecast = forecasts.get(name)
        done = "" if dry_run else f"{name}: {rows[name]['outcome']}"
        click.echo("; ".join(part for part in (done, forecast["sentence"] if forecast else "") if part))
        if forecast and forecast.get("misses_deadline"):
            click.echo(f"tide: {forecast['misses_deadline']}", err=True)
    for warning in answer.get("warnings") or []:
        click.echo(f"tide: {warning}", err=True)


def read(files: Sequence[str], said: dict[str, Any]) -> list[Job]:
    """The jobs of all files, with `--team` and `--priority`. UserError: every fault of every file, a line for each."""
    return [job for file in read_files(files, said) for job in file.jobs]


def read_files(files: Sequence[str], said: dict[str, Any]) -> list[JobFile]:
    """The files with their jobs and loops. UserError as `read`."""
    from springtide.spec.files import job_file

    if not files:
        raise UserError("FILE is missing; write tide submit jobs.yaml, or tide submit --name count -- COMMAND")
    _refuse_for_files(said)
    found: list[JobFile] = []
    faults: list[str] = []
    for path in files:
        try:
            found.append(job_file(path))
        except UserError as error:
            faults.append(str(error))
    places: dict[str, str] = {}
    for file in found:
        for name in [job.name for job in file.jobs] + [loop.name for loop in file.loops]:
            if name in places:
                faults.append(f'{file.place(name)}: "{name}" is the name of another job, at {places[name]}')
            places.setdefault(name, file.place(name))
    if faults:
        raise UserError("\n".join(faults))
    return [_overridden(file, said) for file in found]


def _overridden(file: JobFile, said: dict[str, Any]) -> JobFile:
    if file.loops and said["priority"]:
        raise UserError(f"--priority: {file.where} has a loop, whose parts are of several classes; write them there")
    loops = tuple(replace(loop, team=said["team"] or loop.team) for loop in file.loops)
    return replace(file, jobs=tuple(overridden(job, said) for job in file.jobs), loops=loops)


def overridden(job: Job, said: dict[str, Any]) -> Job:
    """The job with the team and the priority of the command line, where they are given."""
    from springtide.spec import amounts
    from springtide.spec.job import Priority
    from springtide.spec.quantities import nearest

    if team := said["team"]:
        job = replace(job, team=amounts.name(team, "--team"))
    if word := said["priority"]:
        classes = {str(one): one for one in reversed(Priority)}
        if word not in classes:
            hint = nearest(word, classes) or f"; write one of {', '.join(classes)}"
            raise UserError(f'--priority: there is no class "{word}"{hint}')
        job = replace(job, priority=classes[word])
    return job


def _refuse_for_files(said: dict[str, Any]) -> None:
    for name, value in said.items():
        if value and name not in ("team", "priority"):
            raise UserError(
                f"--{name} belongs to a command: tide submit --name NAME -- COMMAND; in a file, write it there"
            )


def _from_words(command: tuple[str, ...] | None, said: dict[str, Any]) -> list[Job]:
    """The one job of the command line, read as a file would be, so that every fault is told as there."""
    from springtide.spec.files import jobs_from_text

    if not said["name"]:
        raise UserError("--name is missing; write tide submit --name NAME -- COMMAND")
    if not command:
        raise UserError("COMMAND is missing; write it behind --: tide submit --name count -- python count.py")
    folder = None if said["folder"] == "none" else Path(said["folder"] or ".").absolute()
    if folder is not None and not folder.is_dir():
        raise UserError(f"--folder: there is no folder {folder}; write one that is there")
    try:
        return jobs_from_text(json.dumps(_data(command, said)), _HERE, folder)
    except UserError as error:
        raise UserError("\n".join(_as_option(line) for line in str(error).splitlines())) from None


def _data(command: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
    kind = said["kind"] or ("service" if said["port"] else "batch")
    data: dict[str, Any] = {"kind": kind, "name": said["name"]}
    if kind == "training":
        words = command[1:] if re.fullmatch(r"python[\d.]*", command[0]) and len(command) > 1 else command
        data |= {"script": words[0], "args": list(words[1:])}
    else:
        data["command"] = list(command)
    data |= {field: said[field] for field in ("team", "priority", "replicas", "port", "deadline") if said[field]}
    if asked := {name: said[name] for name in _AMOUNTS if said[name]}:
        data["resources"] = asked
    if said["env"]:
        data["environment"] = dict(map(_variable, said["env"]))
    if said["secret"]:
        data["secrets"] = list(said["secret"])
    return data


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f'--env: "{text}" has no value; write --env {name}=VALUE')
    return name, value


def _as_option(line: str) -> str:
    """`the command line:1:30: resources.cpu: ...` as `--cpu: ...`."""
    sentence = re.sub(rf"^{_HERE}(:\d+)*: ", "", line)
    field = re.match(r"(?:resources\.)?([a-z_]+)", sentence)
    option = {"environment": "env", "secrets": "secret"}.get(field[1], field[1]) if field else ""
    if field and sentence[field.end() : field.end() + 1] in (":", "[", ".") and option not in ("command", "script"):
        return f"--{option}{sentence[field.end() :]}"
    return sentence
