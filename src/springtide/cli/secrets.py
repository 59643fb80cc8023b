"""`tide secret`: what a team's jobs may know and nobody else; values come in and never go out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from springtide.cli import asking, table
from springtide.cli.completion import team_names
from springtide.cli.look import time_text
from springtide.cli.words import Words, as_json
from springtide.spec.errors import UserError
from springtide.spec.sharing import DEFAULT_TEAM

_team = click.option(
    "--team", metavar="TEAM", default=DEFAULT_TEAM, show_default=True, shell_complete=team_names, help="Whose."
)


@click.group(cls=Words, epilog="Example: tide secret set db-password --team shop < password.txt")
def secret() -> None:
    """Set, list and remove a team's secrets; a job names those that it wants, and finds files in $TIDE_SECRETS."""


@secret.command("set", epilog="Examples: tide secret set db-password < FILE; tide secret set db-password --file FILE")
@click.argument("name", metavar="NAME")
@_team
@click.option("--file", "path", metavar="FILE", help="Where the value stands. [default: standard input]")
@as_json
def set_secret(name: str, team: str, path: str | None, as_json: bool) -> None:
    """Keep a value under NAME, from standard input or a file: words typed here would stay in your history."""
    value = _value(path)
    answer = asking.pool().set_secret(name, team=team, value=value)
    if as_json:
        asking.say_json(answer)
    else:
        click.echo(f"{name}: is kept for team {team} ({len(value.encode())} bytes)")


@secret.command("list", epilog="Example: tide secret list --team shop")
@_team
@as_json
def list_secrets(team: str, as_json: bool) -> None:
    """List the names of secrets; their values are never shown."""
    secrets = asking.pool().secrets(team)
    if as_json:
        asking.say_json(secrets)
    elif not secrets:
        click.echo(f"team {team} has no secrets; `tide secret set NAME --team {team}` keeps one")
    else:
        cells = [(one["name"], one["team"], one.get("set_by") or "-", time_text(one["set_s"])) for one in secrets]
        table.show(("name", "team", "set by", "set at"), cells)


@secret.command(epilog="Example: tide secret remove db-password --team shop")
@click.argument("name", metavar="NAME")
@_team
@as_json
def remove(name: str, team: str, as_json: bool) -> None:
    """Forget a secret; jobs that run keep what they have been given."""
    answer = asking.pool().remove_secret(name, team=team)
    if as_json:
        asking.say_json(answer)
    else:
        click.echo(f"{name}: is forgotten")


def _value(path: str | None) -> str:
    """The secret, without the line end that an editor or `echo` leaves behind."""
    try:
        if path is not None:
            content = Path(path).read_bytes()
        elif sys.stdin.isatty():
            return str(click.prompt("value", hide_input=True, err=True))
        else:
            content = sys.stdin.buffer.read()
    except OSError as error:
        raise UserError(f"--file: {path} cannot be read ({(error.strerror or '').lower()})") from None
    try:
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UserError("the value is no UTF-8 text; encode it first, for example with base64") from None
    if not value:
        raise UserError("the value is empty; write it to standard input, or name a file with --file")
    return value
