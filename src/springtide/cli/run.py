"""`tide run`: the words typed become one `LaunchOptions`, and the events of the run what is shown and written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import run_arguments
from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.train.options import LaunchOptions

if TYPE_CHECKING:
    from springtide.cli.show import Show
    from springtide.train.events import Event
    from springtide.train.report import Report


@click.command(cls=run_arguments.RunCommand, epilog=run_arguments.EPILOG)
@click.option(
    "--workers",
    metavar="N|MIN:MAX",
    help="How many workers; 1:4 lets the run shrink and grow meanwhile. [default: 1 to the cores, at most 8]",
)
@click.option("--start", metavar="N", help="Workers at the beginning. [default: the maximum]")
@click.option(
    "--name", metavar="NAME", help="What tide ps, resize and stop call it. [default: the script's, without .py]"
)
@click.option("--checkpoint", metavar="DIR", help="Folder or URL for checkpoints. [default: in the run's own folder]")
@click.option("--every", metavar="INTERVAL", help="How often a checkpoint is written: 30s, 5m, 200steps.")
@click.option("--keep", metavar="N", help="How many checkpoints are kept. [default: 3]")
@click.option("--fresh", is_flag=True, help="Begin anew, even where an interrupted run of this name could go on.")
@click.option("--seed", metavar="N", help="Seed of the run; wins over the script's seed=.")
@click.option("--sample", metavar="SHARE", help="Train on a fixed part of the data: 1% or 0.01.")
@click.option("--threads", metavar="N", help="Threads of each worker; part of what makes bits equal. [default: 1]")
@click.option(
    "--chaos",
    metavar="SPEC",
    multiple=True,
    help="Do harm on purpose: kill=1,every=2s or stop=1,at=step:40 or kill=all,at=step:60 or supervisor,at=step:80; "
    "several joined by ; or by giving the option again.",
)
@click.option("--report", metavar="FILE", help="Write what happened, as JSON, at the end.")
@click.option("--plot", metavar="FILE", help="Draw loss, workers and events over time (.png, .svg or .pdf).")
@click.option("--pool", "in_pool", is_flag=True, help="Run it as a job of the pool, and watch it; Ctrl-C pauses it.")
@click.option("--team", metavar="TEAM", help="With --pool: who pays. [default: default]")
@click.option("--priority", metavar="CLASS", help="With --pool: its class. [default: experiment]")
@click.option("--json", "as_json", is_flag=True, help="Print each step and event as a line of JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print only errors and how it ended.")
@click.argument("script", metavar="SCRIPT", type=click.Path())
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run(
    script: str,
    arguments: tuple[str, ...],
    report: str | None,
    plot: str | None,
    as_json: bool,
    quiet: bool,
    in_pool: bool,
    team: str | None,
    priority: str | None,
    **said: Any,
) -> int:
    """Train elastically on this machine: SCRIPT is an ordinary PyTorch loop over train.Run."""
    options = launch_options(script, arguments, **said)
    if in_pool:
        from springtide.cli.run_in_pool import run_in_pool

        wished = {**said, "report": report, "plot": plot, "team": team, "priority": priority}
        return run_in_pool(options, wished, as_json=as_json, quiet=quiet)
    if team or priority:
        raise UserError(f"{'--team' if team else '--priority'} belongs to jobs of a pool; write --pool with it")
    report_path = _target(report, "--report", (".json",))
    plot_path = _target(plot, "--plot", (".png", ".svg", ".pdf"))
    from springtide.cli.show import shown
    from springtide.train import launcher
    from springtide.train.report import Report

    told = Report()
    with shown(as_json=as_json, quiet=quiet, report=told) as show:
        code: int = launcher.launch(options, _watching(told, show))
    if told.start or told.end:
        _write(told, report_path, plot_path)
    return code


def _watching(told: Report, show: Show) -> Show:
    """What the launcher calls: a closed pipe or a full disk under stdout ends no training."""
    watched = True

    def on_event(event: Event) -> None:
        nonlocal watched
        told.add(event)
        if watched:
            try:
                show(event)
            except OSError:
                watched = False

    return on_event


def launch_options(script: str, arguments: tuple[str, ...], **said: Any) -> LaunchOptions:
    """The checked launch of `script`; `said` holds what was typed for each option, or None. Raises UserError."""
    path = _script(script)
    workers = quantities.workers(said["workers"]) if said["workers"] else _default_workers()
    start = _whole(said["start"], "--start")
    if start is not None and start not in workers:
        raise UserError(
            f"--start: {start} is not within --workers {workers}; "
            f"write a number from {workers.minimum} to {workers.maximum}"
        )
    chaos = tuple(blow for spec in said["chaos"] for blow in quantities.chaos(spec))
    for blow in chaos:
        if blow.kind in ("kill", "stop") and blow.count != "all" and blow.count > workers.maximum:
            raise UserError(
                f"--chaos: {blow.kind}={blow.count} names more workers than --workers {workers} allows; "
                f"write {blow.kind}=all"
            )
    return LaunchOptions(
        script=path,
        arguments=arguments,
        name=_name(said["name"], path),
        workers=workers,
        start=start,
        checkpoint=_place(said["checkpoint"]),
        every=quantities.interval(said["every"]) if said["every"] else None,
        fresh=said["fresh"],
        seed=_whole(said["seed"], "--seed", least=0),
        sample=quantities.share(said["sample"]) if said["sample"] else None,
        chaos=chaos,
        keep=_whole(said["keep"], "--keep"),
        threads=_whole(said["threads"], "--threads"),
    )


def _default_workers() -> quantities.Range:
    from springtide.train.hardware import cores

    # A run has at most 8 microbatches unless its script says otherwise, and a worker without one shortens nothing.
    return quantities.Range(1, min(cores(), 8))


def _script(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise UserError(f"SCRIPT: {text} is a folder; write the name of a Python file in it")
    if not path.exists():
        beside = [str(path.with_name(other.name)) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = quantities.nearest(text, beside) or f"; there is no such file in {path.parent.absolute()}"
        raise UserError(f"SCRIPT: {text} does not exist{hint}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"SCRIPT: {text} cannot be read: {error.strerror}") from None
    return path.absolute()


def _name(said: str | None, script: Path) -> str:
    if said is None:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", script.stem).lstrip(".-")[:64] or "run"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", said):
        raise UserError(
            f'--name: "{said}" cannot name a run; '
            "write at most 64 letters, digits, dots and dashes, the first a letter or a digit"
        )
    return said


def _whole(text: str | None, where: str, least: int = 1) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[-+]?\d{1,18}", text.strip()):
        raise UserError(f'{where}: "{text}" is no whole number; write {where} {max(least, 1)}')
    if int(text) < least:
        raise UserError(
            f"{where}: {int(text)} is too few; the least is {least}"
            if least
            else f"{where}: {int(text)} is negative; write 0 or more"
        )
    return int(text)


def _place(text: str | None) -> str | None:
    if text is None or "://" in text:
        return text
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise UserError(f"--checkpoint: {text} is a file; write a folder")
    return str(path.absolute())


def _target(text: str | None, where: str, endings: tuple[str, ...]) -> Path | None:
    """A file that will be written hours from now: what would hinder it is said at once."""
    if text is None:
        return None
    path = Path(text).absolute()
    if path.is_dir():
        raise UserError(f"{where}: {text} is a folder; write {path / where.removeprefix('--')}{endings[0]}")
    if not path.parent.is_dir():
        raise UserError(f"{where}: the folder {path.parent} does not exist; make it, or write another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{where}: {path} may not be written by you; write another file")
    if len(endings) > 1 and path.suffix.lower() not in endings:
        raise UserError(f'{where}: "{text}" is no kind of picture that can be drawn; write {path.stem}{endings[0]}')
    return path


def _write(told: Report, report: Path | None, plot: Path | None) -> None:
    if report:
        from springtide.train.report import write

        write(told, report)
    if plot:
        from springtide.train.plot import plot as draw

        draw(told, plot)
