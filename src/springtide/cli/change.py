"""`tide resize`, `pause`, `resume`, `stop`, `cancel`, `retry`: what an owner wants of jobs, and of local runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking, finding
from springtide.cli.completion import job_names, unfinished_names
from springtide.cli.words import as_json
from springtide.spec.errors import Refused, UserError

if TYPE_CHECKING:
    from springtide.pool.client import Client

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=unfinished_names)
Answer = dict[str, Any]


@click.command(
    epilog="Example: tide resize fill 2, tide resize web 1:4; tide resize web auto lets the pool decide again."
)
@click.argument("name", metavar="NAME", shell_complete=unfinished_names)
@click.argument("size", metavar="N|MIN:MAX|auto")
@as_json
def resize(name: str, size: str, as_json: bool) -> None:
    """Give the job or run NAME so many replicas: N holds until `auto`, MIN:MAX leaves the rest to the pool."""
    _check_size(name, size)
    client, (target,) = finding.everywhere([name])
    if target.where == "local":
        answer = _ask_run(target.name, {"do": "resize", "workers": _workers(target.name, size)})
        said = answer.get("message") or f"{target.name}: {size} workers from the next step"
    else:
        answer = _client(client).update(target.key, replicas=size)
        wanted = answer.get("wanted")
        said = f"{target.name}: {'as the job says, ' if size == 'auto' else ''}{wanted} replicas are wanted"
    _say([answer], [said], as_json)


@click.command(epilog="Example: tide pause digits")
@_names
@as_json
def pause(names: tuple[str, ...], as_json: bool) -> None:
    """Let jobs write a checkpoint and stop; `tide resume` lets them go on."""
    _pause(names, as_json)


@click.command(epilog="Example: tide stop digits")
@_names
@as_json
def stop(names: tuple[str, ...], as_json: bool) -> None:
    """Let jobs or runs write a checkpoint and stop; `tide resume`, or the same `tide run`, goes on from there."""
    _pause(names, as_json)


@click.command(epilog="Example: tide resume digits")
@_names
@as_json
def resume(names: tuple[str, ...], as_json: bool) -> None:
    """Let paused jobs go on from where they stopped."""
    for_pool = "the same `tide run` goes on from its checkpoint"
    _each(names, lambda client, key: client.update(key, paused=False), "goes on", for_pool, as_json)


@click.command(epilog="Example: tide cancel sweep-1 sweep-2")
@_names
@as_json
def cancel(names: tuple[str, ...], as_json: bool) -> None:
    """End jobs for good; `tide retry` would submit them again."""
    _each(names, lambda client, key: client.cancel(key), "is cancelled", "`tide stop` ends it", as_json)


@click.command(epilog="Example: tide retry nightly-report")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=job_names)
@as_json
def retry(names: tuple[str, ...], as_json: bool) -> None:
    """Submit jobs that failed or were cancelled again, as they were."""
    _each(names, lambda client, key: client.retry(key), "is submitted again", "the same `tide run` goes on", as_json)


def _pause(names: Sequence[str], as_json: bool) -> None:
    client, targets = finding.everywhere(names)
    answers, said = [], []
    for target in targets:
        if target.where == "local":
            answer = _ask_run(target.name, {"do": "stop"})
            said.append(answer.get("message") or f"{target.name}: a checkpoint is written, then it ends")
        else:
            answer = _client(client).update(target.key, paused=True)
            said.append(f"{target.name}: stops; `tide resume {target.name}` lets it go on")
        answers.append(answer)
    _say(answers, said, as_json)


def _each(
    names: Sequence[str], do: Callable[[Client, str], Answer], done: str, of_runs: str, as_json: bool
) -> None:  # fmt: skip
    client, targets = finding.everywhere(names)
    for target in targets:
        if target.where == "local":
            raise Refused(f"{target.name} is a run of this machine and no job of a pool; {of_runs}")
    answers = [do(_client(client), target.key) for target in targets]
    _say(answers, [f"{target.name}: {done}" for target in targets], as_json)


def _say(answers: Sequence[Answer], said: Sequence[str], as_json: bool) -> None:
    if as_json:
        asking.say_json(list(answers))
    else:
        click.echo("\n".join(said))


def _client(client: Client | None) -> Client:
    assert client is not None, "a target of the pool was found without one"
    return client


def _check_size(name: str, size: str) -> None:
    if size == "auto":
        return
    from springtide.spec import amounts

    try:
        amounts.replicas(size, "N")
    except UserError as error:
        raise UserError(f"{error}; `tide resize {name} auto` leaves it to the pool") from None


def _workers(name: str, size: str) -> int:
    if not size.isdecimal():
        raise UserError(
            f'N: "{size}" is no number of workers, and a run has no pool to choose; write tide resize {name} 3'
        )
    return int(size)


def _ask_run(name: str, message: dict[str, Any]) -> Answer:
    from springtide.train import runs

    return runs.request(name, message)
