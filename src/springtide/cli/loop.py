"""`tide loop`: models that are trained further by what their users correct; where each is, and what was set aside."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking, table
from springtide.cli.words import Words, as_json
from springtide.spec import home
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.quantities import nearest

if TYPE_CHECKING:
    from springtide.pool.client import Client
    from springtide.serve.loop.circle import Circle
    from springtide.serve.loop.places import Places

_NUMBERS = frozenset(("production", "step", "candidates", "refused", "quarantined"))
_DECISIONS = 20


@click.group(cls=Words, epilog="Example: tide loop show words")
def loop() -> None:
    """List loops, show where one is, release what it quarantined, or stop it."""


@loop.command("list", epilog="Example: tide loop ls --json")
@as_json
def list_loops(as_json: bool) -> None:
    """List the loops of this home."""
    from springtide.pool import circle_files
    from springtide.serve.loop import telling

    rows = [telling.row(name, circle_files.read_state(_places(name)), time.time()) for name in names()]
    if as_json:
        asking.say_json(rows)
    elif not rows:
        click.echo("no loops; `tide submit loop.yaml` starts one")
    else:
        keys = ("name", "production", "step", "candidates", "refused", "quarantined", "now")
        cells = [["-" if row[key] is None else str(row[key]) for key in keys] for row in rows]
        table.show(keys, cells, _NUMBERS)


loop.add_command(list_loops, "ls")


@loop.command(epilog="Example: tide loop show words")
@click.argument("name", metavar="LOOP")
@as_json
def show(name: str, as_json: bool) -> None:
    """Say where in its circle LOOP is: production, candidates, quarantines, drift."""
    from springtide.serve.loop import telling

    there, circle = _circle(name)
    if as_json:
        asking.say_json(telling.row(name, circle, time.time()) | {"drift": _drift(there), **_kept(circle)})
    else:
        click.echo("\n".join(_lines(there, circle)))


@loop.command(epilog="Example: tide loop release words 2")
@click.argument("name", metavar="LOOP")
@click.argument("number", metavar="QUARANTINE")
@as_json
def release(name: str, number: str, as_json: bool) -> None:
    """Let LOOP train on what it had quarantined: the records are appended to its training stream again."""
    from springtide.pool import circle_files

    there, circle = _circle(name)
    found = next((one for one in circle.quarantines if str(one.id) == number), None)
    if found is None:
        known = ", ".join(str(one.id) for one in circle.quarantines)
        raise UserError(f'{name} has no quarantine "{number}"; {f"it has {known}" if known else "it has none"}')
    if found.asked:
        raise Refused(f"quarantine {number} of {name} is {'released' if found.released else 'being released'} already")
    circle_files.ask(there, {"release": found.id, "by": getpass.getuser()})
    if as_json:
        asking.say_json({"name": name, "quarantine": found.id})
    else:
        click.echo(f"{name}: quarantine {number} will be appended to the training stream")


@loop.command(epilog="Example: tide loop stop words")
@click.argument("name", metavar="LOOP")
@as_json
def stop(name: str, as_json: bool) -> None:
    """Cancel the jobs of LOOP. What it keeps stays: submitting its file again goes on."""
    from springtide.pool import circle_opening

    _circle(name)
    ended = circle_opening.end(asking.pool(), name)
    if as_json:
        asking.say_json({"name": name, "cancelled": ended})
    else:
        click.echo(f"{name}: {', '.join(ended)} cancelled" if ended else f"{name}: none of its jobs was in the pool")


def names() -> list[str]:
    """The loops of this home."""
    from springtide.serve.loop.places import loops

    root = loops(home.home())
    return sorted(path.parent.name for path in root.glob("*/loop.yaml")) if root.is_dir() else []


def known(name: str) -> bool:
    """Whether a loop of this home is called so."""
    return (home.home() / "loops" / name / "loop.yaml").is_file()


def explained(name: str, client: Client) -> dict[str, Any]:
    """As the pool explains a job: where the circle is, its decisions, and how its jobs are."""
    from springtide.serve.loop import telling

    there, circle = _circle(name)
    lines = [f"{name} is a loop", *_lines(there, circle), *_jobs(name, client)]
    decisions = [{"time_s": note.at_s, "sentence": note.sentence} for note in circle.notes[-_DECISIONS:]]
    return {
        "name": name, "sentence": "\n".join(lines), "decisions": decisions, "changes": [],
        "loop": telling.row(name, circle, time.time()) | {"drift": _drift(there), **_kept(circle)},
    }  # fmt: skip


def _lines(there: Places, circle: Circle) -> Iterator[str]:
    from springtide.serve.loop import telling

    yield from telling.story(circle, time.time())
    if found := _drift(there):
        yield from telling.drift(found)


def _jobs(name: str, client: Client) -> Iterator[str]:
    from springtide.serve.loop.expansion import PARTS

    for part in PARTS:
        try:
            yield client.explain(f"{name}-{part}")["sentence"]
        except SpringtideError:
            yield f"{name}-{part} is not in the pool"


def _drift(there: Places) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(there.drift.read_bytes())
        return found
    except (OSError, ValueError):
        return {}


def _kept(circle: Circle) -> dict[str, Any]:
    import msgspec

    said = msgspec.to_builtins(circle, str_keys=True)
    return {key: said[key] for key in ("bases", "exam", "newest", "quarantines", "past", "notes", "training")}


def _circle(name: str) -> tuple[Places, Circle]:
    from springtide.pool import circle_files

    if not known(name):
        every = names()
        hint = nearest(name, every) or (f"; there are {', '.join(every)}" if every else "; there is none")
        raise UserError(f'there is no loop "{name}" in this home{hint}')
    there = _places(name)
    return there, circle_files.read_state(there)


def _places(name: str) -> Places:
    from springtide.serve.loop.places import places

    return places(home.home(), name)
