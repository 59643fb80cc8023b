"""`tide token`: keys to the pool for people and programs elsewhere."""

from __future__ import annotations

import time
from typing import Any

import click

from springtide.cli import asking, table
from springtide.cli.completion import team_names
from springtide.cli.look import time_text
from springtide.cli.words import Words, as_json
from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

_SCOPES = ("viewer", "member", "admin")


@click.group(cls=Words, epilog="Example: tide token new --team vision --scope member --name ci --expires 30d")
def token() -> None:
    """Make, list and revoke tokens; a token has a team, a scope and an end."""


@token.command("new", epilog="Example: TIDE_TOKEN=$(tide token new --team vision --scope member --name ci --quiet)")
@click.option("--team", metavar="TEAM", required=True, shell_complete=team_names, help="Whose; * for the whole pool.")
@click.option("--scope", metavar="SCOPE", default="member", show_default=True, help="viewer, member or admin.")
@click.option("--name", metavar="NAME", required=True, help="What it is for, to find it again.")
@click.option(
    "--expires", metavar="TIME", default="90d", show_default=True, help="After how long it ends: 12h, 30d, never."
)
@click.option("--quiet", is_flag=True, help="Print the token and nothing else.")
@as_json
def new(team: str, scope: str, name: str, expires: str, quiet: bool, as_json: bool) -> None:
    """Make a token. It is shown now and never again: the pool keeps only what recognizes it."""
    if scope not in _SCOPES:
        raise UserError(f'--scope: there is no scope "{scope}"{nearest(scope, _SCOPES) or f"; write {_any_scope()}"}')
    expires_in_s = None if expires == "never" else quantities.duration(expires, "--expires")
    made = asking.pool().new_token(team=team, scope=scope, name=name, expires_in_s=expires_in_s)
    if as_json:
        asking.say_json(made)
    elif quiet:
        click.echo(made["token"])
    else:
        until = f"until {_time(time.time() + expires_in_s)}" if expires_in_s else "until it is revoked"
        click.echo(made["token"])
        click.echo(
            f"{scope} of {team} {until}; it is not shown again (tide token revoke {made['id']} ends it)", err=True
        )


@token.command("list", epilog="Example: tide token list --json")
@as_json
def list_tokens(as_json: bool) -> None:
    """List tokens, without what they open."""
    tokens = asking.pool().tokens()
    if as_json:
        asking.say_json(tokens)
    elif not tokens:
        click.echo("there are no tokens; `tide token new --team TEAM --name NAME` makes one")
    else:
        table.show(("id", "name", "team", "scope", "made by", "expires", "used"), [_cells(one) for one in tokens])


@token.command(epilog="Example: tide token revoke 1f3a09bc")
@click.argument("id_", metavar="ID")
@as_json
def revoke(id_: str, as_json: bool) -> None:
    """End the token of this id at once; `tide token list` names it."""
    answer = asking.pool().revoke_token(id_)
    if as_json:
        asking.say_json(answer)
    else:
        click.echo(f"{id_}: opens nothing any more")


def _any_scope() -> str:
    return f"{', '.join(_SCOPES[:-1])} or {_SCOPES[-1]}"


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["id"],
        one["name"],
        one["team"],
        one["scope"],
        one.get("made_by") or "-",
        _time(one["expires_s"]) if one.get("expires_s") else "never",
        time_text(one["used_s"]) if one.get("used_s") else "-",
    )


def _time(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))
