"""Jobs of the pool, watched until they are over: a live table on a terminal, a line per change in a pipe."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from springtide.cli import asking
from springtide.cli.ps import step_text
from springtide.spec.errors import SpringtideError, Unreachable
from springtide.train.events import plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from springtide.pool.client import Client

Row = dict[str, Any]
_LOOK_S = 0.5
_PATIENCE = 60  # looks in a row that may fail: a pool that is started anew is back before
_TENTHS = 10
_ENDS = {"done": 0, "failed": 1, "cancelled": 1}


class Showing(Protocol):
    """What is called with the rows of each look."""

    def __call__(self, rows: Sequence[Row]) -> None: ...


def watch(client: Client, ids: Sequence[str], as_json: bool) -> int:
    """Until all are over. Returns 0, or 1 where one was not done; Ctrl-C leaves them to the pool: 130."""
    last: Sequence[Row] = []
    try:
        with _shown(as_json) as show:
            for last in looks(client, ids):
                show(last)
    except KeyboardInterrupt:
        click.echo("\nthe jobs go on; `tide ps` shows them, `tide cancel` ends them", err=True)
        return 130
    for row in last:
        if row["state"] != "done":
            click.echo(f"tide: {row['name']} {_was(row)}", err=True)
    return max((_ENDS[row["state"]] for row in last), default=0)


def looks(client: Client, ids: Sequence[str], pause: threading.Event | None = None) -> Iterator[list[Row]]:
    """The rows of these jobs, again and again; the last time when all are over."""
    pause, failures = pause or threading.Event(), 0
    known: dict[str, Row] = {}
    while True:
        try:
            known |= {id_: client.job(id_) for id_ in ids if known.get(id_, {}).get("state") not in _ENDS}
            failures = 0
        except Unreachable:
            failures += 1
            if failures == _PATIENCE:
                raise
        if len(known) == len(ids):
            yield [known[id_] for id_ in ids]
            if all(row["state"] in _ENDS for row in known.values()):
                return
        pause.wait(_LOOK_S)


def _was(row: Row) -> str:
    reason = f": {row['reason']}" if row.get("reason") else ""
    return f"{'has failed' if row['state'] == 'failed' else 'was cancelled'}{reason}"


def _shown(as_json: bool) -> AbstractContextManager[Showing]:
    if as_json:
        return _json_lines()
    return _live() if sys.stdout.isatty() else _plain()


@contextmanager
def _json_lines() -> Iterator[Showing]:
    told: dict[str, str] = {}

    def show(rows: Sequence[Row]) -> None:
        for row in rows:
            line = json.dumps({key: value for key, value in row.items() if key not in ("job", "events")}, default=str)
            if told.get(row["id"]) != line:
                told[row["id"]] = line
                click.echo(line)

    yield show


@contextmanager
def _plain() -> Iterator[Showing]:
    told: dict[str, tuple[Any, ...]] = {}

    def show(rows: Sequence[Row]) -> None:
        for row in rows:
            share = progress(row)
            mark = (row["state"], row["replicas"], None if share is None else int(share * _TENTHS))
            if told.get(row["id"]) != mark:
                told[row["id"]] = mark
                click.echo(line_of(row))

    yield show


@contextmanager
def _live() -> Iterator[Showing]:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as screen:

        def show(rows: Sequence[Row]) -> None:
            screen.update(_drawn(rows), refresh=True)

        yield show


def _drawn(rows: Iterable[Row]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    styles = {"done": "green", "failed": "red", "cancelled": "red", "waiting": "yellow", "paused": "yellow"}
    drawn = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(5):
        drawn.add_column(no_wrap=True)
    drawn.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        share = progress(row)
        drawn.add_row(
            Text(row["name"], style="bold"),
            Text(row["state"], style=styles.get(row["state"], "cyan")),
            Text("" if share is None else f"{share:.0%}"),
            Text("") if share is None else ProgressBar(total=1.0, completed=share, width=24),
            Text("" if row["step"] is None else f"step {step_text(row)}"),
            Text(_rest(row), style="dim"),
        )
    return drawn


def line_of(row: Row) -> str:
    """`fill: running, 25 %, step 100 of 400, 3 replicas`."""
    share = progress(row)
    parts = [
        row["state"],
        "" if share is None else f"{share:.0%}",
        "" if row["step"] is None else f"step {step_text(row)}",
        _rest(row),
    ]
    return f"{row['name']}: {', '.join(part for part in parts if part)}"


def _rest(row: Row) -> str:
    if row["state"] == "running":
        return plural(row["replicas"], "worker" if row["kind"] == "training" else "replica")
    if row["state"] == "done":
        return f"digest {row['digest'][:12]}" if row.get("digest") else ""
    return str(row.get("reason") or "")


def progress(row: Row) -> float | None:
    """The share of its steps that a job has done; None where that is not known."""
    step, steps = row.get("step"), row.get("steps")
    return min(1.0, step / steps) if step is not None and steps else None


class Log:
    """What one job writes, printed by a thread of its own while its progress is watched."""

    def __init__(self, client: Client, job: str) -> None:
        self._client, self._job = client, job
        self._thread = threading.Thread(target=self._print, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_s: float = 5.0) -> None:
        """Until the last line is printed: the pool ends the stream when the job is over."""
        self._thread.join(timeout_s)

    def _print(self) -> None:
        try:
            for line in self._client.logs(self._job, lines=asking.FROM_THE_BEGINNING, follow=True):
                click.echo(line)
        except SpringtideError as error:
            click.echo(f"tide: {error}", err=True)
