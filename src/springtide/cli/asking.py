"""The pool from the command line: whether there is one, the client that speaks to it, and what it answers in pages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.spec.home import home

if TYPE_CHECKING:
    from springtide.pool.client import Client

Row = dict[str, Any]
OVER = ("done", "failed", "cancelled")
FROM_THE_BEGINNING = 100_000  # lines of a log
_NEWEST = 200  # among which jobs that are over are looked for


def has_pool() -> bool:
    """Whether a pool was named, or one of this home has begun and not ended in order."""
    return bool(os.environ.get("TIDE_POOL")) or socket_path().exists()


def pool() -> Client:
    """The client of the pool that TIDE_POOL names, else of this home's."""
    from springtide.pool.client import Client

    return Client()


def pool_here() -> Client:
    """The client of this home's pool, whatever TIDE_POOL names."""
    from springtide.pool.client import Client

    return Client(str(socket_path()))


def socket_path() -> Path:
    """Where the pool of this home answers."""
    return home() / "pool" / "pool.sock"


def recent(client: Client, team: str | None = None, most_over: int | None = 20) -> list[Row]:
    """All unfinished jobs, then the newest of those that are over; None: all of them."""
    newest = client.jobs(team=team, limit=None if most_over is None else _NEWEST)
    over = [row for row in newest if row["state"] in OVER]
    if most_over is None or len(newest) < _NEWEST:
        living = [row for row in newest if row["state"] not in OVER]
    else:
        living = client.jobs(team=team, state="live")
    return living + over[:most_over]


def say_json(value: Any) -> None:
    """The value on stdout, for programs."""
    click.echo(json.dumps(value, indent=2, default=str))
