"""`tide team`: who shares the pool, and by which rules."""

from __future__ import annotations

from typing import Any

import click

from springtide.cli import asking, table
from springtide.cli.amounts_text import amount_text, resources
from springtide.cli.completion import team_names
from springtide.cli.words import Words, as_json
from springtide.spec import amounts

_FIELDS = ("name", "parent", "guarantee", "weight", "borrow", "budget")
_RIGHT = frozenset(("weight", "share", "budget", "spent"))


@click.group(cls=Words, epilog="Example: tide team set vision --weight 2 --guarantee cpu=4,gpu=1")
def team() -> None:
    """List who shares the pool, and set guarantees, weights and budgets."""


@team.command("list", epilog="Example: tide team list --json")
@as_json
def list_teams(as_json: bool) -> None:
    """List teams: what each is guaranteed, holds, and has spent on spot jobs."""
    teams = asking.pool().teams()
    if as_json:
        asking.say_json(teams)
    else:
        headers = ("name", "parent", "weight", "guarantee", "borrow", "held", "share", "budget", "spent")
        table.show(headers, [_cells(one) for one in teams], _RIGHT)


@team.command("set", epilog="Example: tide team set speech --parent research --borrow gpu=4 --budget 500")
@click.argument("name", metavar="TEAM", shell_complete=team_names)
@click.option("--weight", metavar="N", help="Its share in what nobody is guaranteed, against its neighbours'.")
@click.option("--guarantee", metavar="cpu=4,gpu=1", help="What it gets back whenever it wants; none: nothing.")
@click.option("--borrow", metavar="cpu=8", help="The most beyond its guarantee; none: no limit.")
@click.option("--budget", metavar="MONEY", help="For its spot jobs; none: no limit.")
@click.option(
    "--parent", metavar="TEAM", shell_complete=team_names, help="The team that it belongs to; none: no one's."
)
@as_json
def set_team(name: str, as_json: bool, **said: str | None) -> None:
    """Make TEAM, or change what is said of it; the rest stays as it is."""
    wanted = _read(said)
    client = asking.pool()
    known = next((one for one in client.teams() if one["name"] == name), None)
    if known is None:
        amounts.name(name, "TEAM")
    data = {key: value for key, value in (known or {"name": name}).items() if key in _FIELDS} | wanted
    answer = client.set_team({key: value for key, value in data.items() if value is not None})
    if as_json:
        asking.say_json(answer)
    else:
        rules = ", ".join(f"{key} {_said(value)}" for key, value in data.items() if key != "name" and value is not None)
        click.echo(f"{name}: {'is made' if known is None else 'is changed'}{f': {rules}' if rules else ''}")


def _read(said: dict[str, str | None]) -> dict[str, Any]:
    """What was typed, as the fields of a file; None takes a field away."""
    wanted: dict[str, Any] = {}
    for key, text in said.items():
        if text is None:
            continue
        if text == "none":
            wanted[key] = None
        elif key in ("guarantee", "borrow"):
            wanted[key] = resources(text, f"--{key}")
        elif key == "parent":
            wanted[key] = amounts.name(text, "--parent")
        else:
            wanted[key] = (amounts.positive if key == "weight" else amounts.number)(text, f"--{key}", "2")
    return wanted


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["name"],
        one.get("parent") or "-",
        _said(one.get("weight", 1)),
        _said(one.get("guarantee")),
        _said(one.get("borrow")),
        _said(one.get("held")),
        f"{one.get('share') or 0:.0%}",
        _said(one.get("budget")),
        f"{one['spent']:.4g}" if one.get("spent") else "-",
    )


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={amount_text(key, amount)}" for key, amount in value.items()) or "-"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
