"""What is seen while the day goes by: a live picture on a terminal, else a line for each thing that happens."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from demo.day import HOURS, clock, rate
from demo.machine import NODES
from demo.recording import Recording
from demo.shares import HOLDERS, IDLE

_LINES = 12
_LATELY_S = 2.0
_SLOT = 7  # signs of a node's bar


class View:
    """Shows a recording that grows."""

    def __init__(self, console: Console, day: Recording) -> None:
        self._console, self._day = console, day
        self._said: deque[Text] = deque(maxlen=_LINES)
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            for line in self._said:
                self._console.print(line)

    def say(self, at_s: float, what: str, style: str = "") -> None:
        """Something happened."""
        line = Text(f"  {clock(max(self._day.hour(at_s), 0.0)):>6}  ", style="dim")
        line.append(what, style=style)
        if self._live is None:
            self._console.print(line)
            return
        if len(self._said) == self._said.maxlen:
            self._console.print(self._said[0])
        self._said.append(line)

    def show(self, answers: bool) -> None:
        """As it is now; `answers`: whether the pool server does."""
        if self._live is not None:
            self._live.update(Group(*self._said, Text(), *self._now(answers)), refresh=True)

    def _now(self, answers: bool) -> list[Text]:
        day, now_s = self._day, time.time()
        hour = day.hour(now_s)
        held = day.samples[-1].held if day.samples else {}
        lately = [one for one in day.requests[-400:] if one.answered_s > now_s - _LATELY_S and one.pid]
        waits = sorted(one.answered_s - one.sent_s for one in lately)
        middle = f", half within {waits[len(waits) // 2] * 1e3:.0f} ms" if waits else ""
        step = day.commits[-1].step if day.commits else 0
        steps = day.steps_between(now_s - _LATELY_S, now_s) / _LATELY_S
        cores = Text("  cores   ")
        left = NODES
        for one in HOLDERS:
            count = min(held.get(one.job, 0), left)
            left -= count
            cores.append((one.sign * (_SLOT - 1) + " ") * count, style=one.colour)
        cores.append(("·" * (_SLOT - 1) + " ") * left, style=IDLE.colour)
        legend = Text("          ")
        for one in HOLDERS:
            legend.append(f"{one.sign * 2} {one.name} {held.get(one.job, 0)}   ", style=one.colour)
        if not answers:
            cores.append("  no pool server", style="bold red")
        coming = f"{len(lately) / _LATELY_S:.0f} requests/s{middle}, {day.failed} failed"
        return [
            Text(f"  {clock(max(hour, 0.0)):>6}  ").append(_sun(hour), style="yellow"),
            cores,
            legend,
            Text(f"  shop    {coming}"),
            Text(f"  digits  step {step:,} of {day.wanted_steps:,}, {steps:.0f} steps/s"),
        ]


def _sun(hour: float) -> str:
    """The day's curve up to now."""
    bars = "▁▂▃▄▅▆▇█"
    most = rate(12.0)
    return "".join(bars[min(7, round(rate(at) / most * 7))] if at <= hour else "·" for at in range(int(HOURS)))
