"""The day drawn: who held the cores, how many requests came, what was done to the pool; a PNG, and a coarse text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from demo.day import HOURS, clock
from demo.machine import NODES, SLOT
from demo.recording import Recording
from demo.shares import HOLDERS, IDLE, columns, requests

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _LINE, _BLOW = "#1f2a36", "#8a97a5", "#1f2a36", "#d1495b"
_COLUMNS = 480
_APART = 0.15  # of the width
_ROWS = 2 * NODES
_BARS = " ▁▂▃▄▅▆▇█"
_MARKS = {
    "kill_worker": "worker killed", "kill_replica": "replica killed", "kill_server": "pool server killed",
    "kill_workers": "all workers killed",
}  # fmt: skip


def draw(day: Recording, used: float, dedicated: float, path: Path) -> None:
    """`used` and `dedicated`: the shares of the cores' time in which work was done, here and on partitions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(10, 5.6), dpi=140, facecolor="white", layout=ConstrainedLayoutEngine(hspace=0.03, h_pad=0.06)
    )
    FigureCanvasAgg(figure)
    cores, coming = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1.1])
    for axes in (cores, coming):
        _plain(axes)
    _draw_cores(cores, day)
    _draw_requests(coming, day)
    _mark(cores, coming, day)
    handles, labels = cores.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    title = f"{used:.0%} of the cores' time used; on dedicated machines {dedicated:.0%}"
    cores.set_title(title, loc="left", color=_INK, fontsize=13, fontweight="bold", pad=48)
    cores.text(0, 1.125, _subtitle(day), transform=cores.transAxes, color=_FAINT, fontsize=9, va="bottom")
    figure.savefig(path)


def _subtitle(day: Recording) -> str:
    return (
        f"{len(day.requests):,} requests, {day.failed} failed; {len(day.commits):,} steps, {day.steps_lost} lost; "
        f"a day of {day.day_s:.0f} s"
    )


def _draw_cores(axes: Axes, day: Recording) -> None:
    hours, held = columns(day, _COLUMNS)
    idle = np.maximum(NODES - held.sum(axis=0), 0.0)
    axes.stackplot(
        hours, *(held * SLOT), idle * SLOT, labels=[one.name for one in (*HOLDERS, IDLE)],
        colors=[one.colour for one in (*HOLDERS, IDLE)], step="mid", linewidth=0, alpha=0.88,
    )  # fmt: skip
    axes.set_ylim(0, NODES * SLOT)
    axes.set_yticks(np.arange(NODES + 1) * SLOT)
    axes.set_xlim(0, max(HOURS, day.hour(day.end_s)))
    axes.set_ylabel("cores", color=_INK)


def _draw_requests(axes: Axes, day: Recording) -> None:
    points = day.rates()
    hours, rates = [day.hour(at_s) for at_s, _ in points], [rate for _, rate in points]
    axes.fill_between(hours, rates, color="#f3e6d2", linewidth=0)
    axes.plot(hours, rates, color=HOLDERS[0].colour, linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("requests/s", color=_INK)
    axes.set_xticks(range(0, int(max(HOURS, day.hour(day.end_s))) + 1, 3))
    axes.xaxis.set_major_formatter(lambda hour, _: clock(hour))


def _mark(cores: Axes, coming: Axes, day: Recording) -> None:
    last, lane = -math.inf, 0
    for blow in day.blows:
        if blow.what not in _MARKS:
            continue
        hour = day.hour(blow.at_s)
        # Names that would touch stand one above the other.
        lane = 1 - lane if hour - last < _APART * cores.get_xlim()[1] else 0
        last = hour
        for axes in (cores, coming):
            axes.axvline(hour, color=_BLOW, linewidth=1.1, linestyle=(0, (3, 2)))
        cores.annotate(
            _MARKS[blow.what], (hour, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4 + 11 * lane),
            textcoords="offset points", color=_BLOW, fontsize=8.5, ha="center" if hour > 2 else "left", va="bottom",
        )  # fmt: skip


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d2da")
    axes.tick_params(which="both", colors=_FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color="#eef2f5", linewidth=0.8)
    axes.set_axisbelow(True)


def text(day: Recording, width: int) -> Text:
    """The same for a terminal of that many columns."""
    count = max(24, min(width, 120) - 8)
    hours, held = columns(day, count)
    tops = np.round(np.cumsum(held, axis=0) / NODES * _ROWS).astype(int)
    found = Text()
    for row in reversed(range(_ROWS)):
        found.append(f"{(row + 1) / _ROWS * NODES * SLOT:5.1f} " if row % 2 else " " * 6, style="dim")
        for column in range(count):
            holder = next((one for one, top in zip(HOLDERS, tops[:, column], strict=True) if row < top), IDLE)
            found.append(holder.sign, style=holder.colour)
        found.append("\n")
    rates = requests(day, count)
    most = max(max(rates), 1e-9)
    found.append(f"{most:3.0f}/s ", style="dim")
    found.append("".join(_BARS[round(rate / most * (len(_BARS) - 1))] for rate in rates) + "\n", HOLDERS[0].colour)
    found.append(" " * 6 + _axis(day, hours) + "\ncores ", style="dim")
    for one in HOLDERS:
        found.append(f"{one.sign * 2} {one.name}  ", style=one.colour)
    found.append("blank: idle  x: a blow", style="dim")
    return found


def _axis(day: Recording, hours: np.ndarray) -> str:
    """`^` where the pool was struck, and the hours of the day."""
    line = [" "] * len(hours)
    for hour in range(0, int(hours[-1]) + 1, 6):
        place = int(np.searchsorted(hours, hour))
        line[place : place + 5] = clock(hour)
    for blow in day.blows:
        if blow.what in _MARKS:
            place = min(int(np.searchsorted(hours, day.hour(blow.at_s))), len(line) - 1)
            line[place] = "x"
    return "".join(line[: len(hours)])
