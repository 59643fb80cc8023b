"""`tide top`: the pool, looked at every second, on the alternate screen of a terminal."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking
from springtide.spec.errors import SpringtideError, Unreachable, UserError

if TYPE_CHECKING:
    from springtide.cli.frame import View
    from springtide.pool.client import Client

_LOOK_S = 1.0
_WINDOW_S = 10.0  # over which steps per second are counted
_ONCE_S = 1.0  # between the two looks that a speed takes
_QUIT = {b"q", b"Q", b"\x03", b"\x1b"}
_JOBS_KNOWN = 500  # whose sizes are asked for; nodes of more than these are drawn by what they hold


@click.command(epilog="Example: tide top --once | head -20")
@click.option("--once", is_flag=True, help="Print one frame and end; the way into a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print what one frame is made of, as JSON.")
def top(once: bool, as_json: bool) -> None:
    """Watch the pool live: nodes as bars by kind of job, jobs with replicas and speed, the queue with reasons."""
    if not (once or as_json or (sys.stdout.isatty() and sys.stdin.isatty())):
        raise UserError("this is no terminal; write tide top --once")
    look = Look(asking.pool(), "" if once else "q quits")
    if as_json:
        view = look.look()
        asking.say_json({"health": view.health, "nodes": view.nodes, "jobs": view.jobs})
    elif once:
        _print(look)
    else:
        _live(look)


class Look:
    """Looks at the pool, one after another: speeds come from the latest of them, sizes of jobs are asked for once."""

    def __init__(self, client: Client, hint: str = "") -> None:
        self._client, self._hint = client, hint
        self._needs: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._steps: dict[str, deque[tuple[float, int]]] = {}

    def look(self) -> View:
        """What is. Raises what the client raises."""
        from springtide.cli.frame import View

        rows = self._client.jobs(state="live")
        now_s = time.time()
        return View(
            health=self._client.health(),
            nodes=self._client.nodes(),
            jobs=rows,
            needs={row["name"]: self._need(row) for row in rows[:_JOBS_KNOWN]},
            steps_per_s=self._speeds(rows, now_s),
            now_s=now_s,
            hint=self._hint,
        )

    def _need(self, row: dict[str, Any]) -> Mapping[str, Any]:
        key = (row["id"], row["version"])
        if key not in self._needs:
            try:
                said = self._client.job(row["id"])["job"].get("resources") or {}
                self._needs[key] = {"cpu": 1, **said}  # what is one core is not said
            except Unreachable:
                raise
            except SpringtideError:
                return {}
        return self._needs[key]

    def _speeds(self, rows: list[dict[str, Any]], now_s: float) -> dict[str, float]:
        speeds = {}
        self._steps = {row["id"]: self._steps.get(row["id"], deque()) for row in rows if row["step"] is not None}
        for row in rows:
            if row["step"] is None:
                continue
            steps = self._steps[row["id"]]
            if steps and steps[-1][1] > row["step"]:
                steps.clear()  # it began anew at a checkpoint
            steps.append((now_s, row["step"]))
            while len(steps) > 2 and steps[0][0] < now_s - _WINDOW_S:
                steps.popleft()
            if now_s > steps[0][0]:
                speeds[row["id"]] = (row["step"] - steps[0][1]) / (now_s - steps[0][0])
        return speeds


def _print(look: Look) -> None:
    from rich.console import Console

    from springtide.cli.frame import frame

    view = look.look()
    if any(row["replicas"] and row["kind"] == "training" for row in view.jobs):
        time.sleep(_ONCE_S)
        view = look.look()
    size = shutil.get_terminal_size((100, 1000))
    console = Console(highlight=False, width=size.columns)
    rows = size.lines if sys.stdout.isatty() else 1000
    for line in frame(view, size.columns, rows, unicode=not console.options.ascii_only):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _live(look: Look) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    from springtide.cli.frame import frame

    console = Console(highlight=False)
    view = look.look()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            columns, rows = console.size
            lines = frame(view, columns, rows, unicode=not console.options.ascii_only)
            screen.update(Group(*lines), refresh=True)
            if pressed(_LOOK_S) & _QUIT:
                return
            try:
                view = look.look()
            except Unreachable:
                view = replace(view, problem="the pool does not answer; this is the last that it said")


@contextmanager
def _keys() -> Iterator[Any]:
    """What waits so many seconds for keys and says which were pressed; the terminal is put back afterwards."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(wait_s: float) -> set[bytes]:
        if not select.select([terminal], [], [], wait_s)[0]:
            return set()
        typed = os.read(terminal, 64)
        # An arrow key begins with Escape too; alone it means: away from here.
        return {typed} if typed.startswith(b"\x1b") else {bytes([one]) for one in typed}

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
