"""The picture of a play: what each kind of job holds of the pool over time, and the queue below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from springtide.core.resources import GPU, KINDS
from springtide.core.snapshot import KIND_NAMES
from springtide.sim.simulate import Head, Outcome, Picture
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _LINE = "#1f2a36", "#8a97a5", "#d1495b"
_COLOURS = {"service": "#c7882b", "stream": "#8e5bb5", "batch": "#3a9d5d", "training": "#0f7c9c"}
_NAMES = {"gpu": "GPUs", "cpu": "cores"}


def plot(head: Head, outcomes: Sequence[Outcome], path: Path) -> None:
    """Draws each policy's first seed, one column a policy. Raises UserError where there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = [outcome for outcome in outcomes if outcome.picture is not None and outcome.seed == 0]
    if not shown:
        raise UserError(f"--plot: {head.name} has no course in time to draw")
    width = 10.0 if len(shown) == 1 else 5.6 * len(shown)
    figure = Figure(
        figsize=(width, 5.6), dpi=140, facecolor="white", layout=ConstrainedLayoutEngine(hspace=0.03, h_pad=0.06)
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(shown), sharex=True, sharey="row", height_ratios=[3.2, 1], squeeze=False)
    for column, outcome in enumerate(shown):
        assert outcome.picture is not None
        _draw(axes[0, column], axes[1, column], outcome, outcome.picture, first=column == 0)
    most = max(float(one.picture.values[:, -1].max()) for one in shown if one.picture is not None)
    axes[1, 0].set_ylim(0, max(1.0, most * 1.05))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle(f"{head.name}, {head.tasks:,} jobs", x=0.01, ha="left", color=_INK, fontsize=13, fontweight="bold")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"the picture {path} cannot be written: {error.strerror}") from None


def _draw(pool: Axes, queue: Axes, outcome: Outcome, picture: Picture, first: bool) -> None:
    every_s, unit = _unit(float(picture.time_s[-1] - picture.time_s[0]))
    time = picture.time_s / every_s
    held = picture.values[:, : len(KIND_NAMES)].T
    there = [kind for kind in range(len(KIND_NAMES)) if held[kind].any()]
    pool.stackplot(
        time, *(held[kind] for kind in there), labels=[KIND_NAMES[kind] for kind in there],
        colors=[_COLOURS[KIND_NAMES[kind]] for kind in there], step="mid", linewidth=0, alpha=0.85,
    )  # fmt: skip
    used = picture.values[:, len(KIND_NAMES)]
    pool.plot(time, used, color=_INK, linewidth=1.0, drawstyle="steps-mid", label="used")
    pool.axhline(picture.total, color=_LINE, linewidth=1.0, linestyle=(0, (4, 3)), label="capacity")
    pool.set_ylim(0, picture.total * 1.04)
    pool.set_title(outcome.policy, loc="left", color=_INK, fontsize=11)
    queue.fill_between(time, picture.values[:, -1], step="mid", color=_FAINT, alpha=0.7, linewidth=0)
    queue.set_xlabel(unit, color=_FAINT)
    queue.margins(x=0)
    if first:
        pool.set_ylabel(_NAMES["gpu" if picture.resource == GPU else KINDS[picture.resource]], color=_INK)
        queue.set_ylabel("jobs waiting", color=_INK)
    for axes in (pool, queue):
        _plain(axes)


def _unit(span_s: float) -> tuple[float, str]:
    for every_s, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if span_s >= 3 * every_s:
            return every_s, unit
    return 1.0, "seconds"


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d2da")
    axes.tick_params(which="both", colors=_FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color="#eef2f5", linewidth=0.8)
    axes.set_axisbelow(True)
