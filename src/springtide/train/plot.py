"""The picture of a run: loss, workers and step times over time, with what happened in lanes between them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.spec.errors import UserError
from springtide.spec.quantities import duration_text
from springtide.train.events import Event, metrics_text
from springtide.train.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _TIDE, _SAND = "#1f2a36", "#8a97a5", "#0f7c9c", "#e6eff3"
_LOST, _GREW, _MIND, _KEPT = "#d1495b", "#3a9d5d", "#8e5bb5", "#c7882b"
_LANES = ("lost", "workers", "supervisor", "checkpoint", "evaluation")
_COLOURS = {"lost": _LOST, "workers": _GREW, "supervisor": _MIND, "checkpoint": _KEPT, "evaluation": _TIDE}
_LABELS = {"lost": "lost or hung", "workers": "came or left"}
_MOST_POINTS = 4000


def plot(told: Report | Iterable[Event], path: Path) -> None:
    """Draw a run into `path` (.png, .svg or .pdf). Raises UserError when the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    report = told if isinstance(told, Report) else _reported(told)
    figure = Figure(
        figsize=(10, 6.2), dpi=140, facecolor="white", layout=ConstrainedLayoutEngine(hspace=0.02, h_pad=0.06)
    )
    FigureCanvasAgg(figure)
    loss, lanes, workers, pace = figure.subplots(4, 1, sharex=True, height_ratios=[5, 2.1, 1.7, 1.7])
    for axes in (loss, lanes, workers, pace):
        _plain(axes)
    _draw_loss(loss, report)
    _draw_lanes(lanes, report)
    _draw_workers(workers, report)
    _draw_pace(pace, report)
    for axes in (loss, workers, pace):
        _mark(axes, report)
    pace.set_xlabel("seconds since the start", color=_FAINT)
    pace.set_xlim(0, max(report.seconds, 1e-3))
    loss.set_title(_title(report), loc="left", color=_INK, fontsize=13, fontweight="bold", pad=26)
    loss.text(0, 1.035, _subtitle(report), transform=loss.transAxes, color=_FAINT, fontsize=9, va="bottom")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"the picture {path} cannot be written: {error.strerror}") from None


def _reported(events: Iterable[Event]) -> Report:
    report = Report()
    for event in events:
        report.add(event)
    return report


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d2da")
    axes.tick_params(which="both", colors=_FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color="#eef2f5", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_loss(axes: Axes, report: Report) -> None:
    told = [
        (time - report.began, loss)
        for time, loss in zip(report.times, report.losses, strict=True)
        if math.isfinite(loss)
    ]
    axes.set_ylabel("loss", color=_INK)
    if not told:
        axes.text(0.5, 0.5, "no loss was told", transform=axes.transAxes, ha="center", color=_FAINT)
        return
    told = told[:: max(1, len(told) // _MOST_POINTS)]
    times, losses = [time for time, _ in told], [loss for _, loss in told]
    axes.plot(times, losses, color=_TIDE, linewidth=0.8, alpha=0.35)
    axes.plot(times, _smoothed(losses), color=_TIDE, linewidth=2, solid_capstyle="round", label="training")
    held = [
        (event["time"] - report.began, event["metrics"]["loss"])
        for event in _of(report, "evaluation")
        if _is_number(event["metrics"].get("loss"))
    ]
    if held:
        axes.plot(*zip(*held, strict=True), "o", color="white", markeredgecolor=_INK, markersize=5, label="held out")
        axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK, loc="upper right")
    seen = sorted([*losses, *(loss for _, loss in held)])
    if seen[0] > 0 and seen[-1] / seen[0] > 50:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_lanes(axes: Axes, report: Report) -> None:
    axes.set_ylim(len(_LANES) - 0.5, -0.5)
    axes.set_yticks(range(len(_LANES)), [_LABELS.get(lane, lane) for lane in _LANES])
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.spines["left"].set_visible(False)
    for event in report.happened:
        lane = _lane(event)
        if lane:
            axes.plot(
                event["time"] - report.began,
                _LANES.index(lane),
                "o",
                color=_COLOURS[lane],
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                clip_on=False,
            )


def _draw_workers(axes: Axes, report: Report) -> None:
    axes.set_ylabel("workers", color=_INK)
    points = _steps_of_workers(report)
    if points:
        times, counts = zip(*points, strict=True)
        axes.fill_between(times, counts, step="post", color=_SAND)
        axes.step(times, counts, where="post", color=_TIDE, linewidth=1.6)
        most = max(counts)
        axes.set_ylim(0, most * 1.15)
        axes.set_yticks(sorted({0, most, *([most // 2] if most % 2 == 0 else [])}))


def _draw_pace(axes: Axes, report: Report) -> None:
    axes.set_ylabel("step time", color=_INK)
    gaps = [(after - report.began, after - before) for before, after in pairwise(report.times)]
    if gaps:
        times, seconds = zip(*gaps, strict=True)
        axes.vlines(times, 0, seconds, color=_TIDE, linewidth=max(0.8, min(1.5, 500 / len(gaps))))
        axes.set_ylim(0, max(seconds) * 1.15)
        axes.yaxis.set_major_formatter(lambda value, _: duration_text(value) if value else "0")
        axes.yaxis.set_major_locator(_few_ticks())


def _mark(axes: Axes, report: Report) -> None:
    """A line through every panel where something was lost."""
    marks = {(event["time"], lane) for event in report.happened if (lane := _lane(event)) in ("lost", "supervisor")}
    for time, lane in sorted(marks):
        axes.axvline(time - report.began, color=_COLOURS[lane], linewidth=0.8, alpha=0.5, zorder=1.5)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3)


def _lane(event: Event) -> str | None:
    """The lane that an event belongs to; a generation is told by what happened to its workers."""
    match event:
        case {"event": "worker", "what": "lost"}:
            return "lost"
        case {"event": "worker", "what": "started" | "joined" | "left"}:
            return "workers"
        case {"event": "supervisor", "what": "lost" | "adopted"}:
            return "supervisor"
        case {"event": "checkpoint" | "evaluation" as kind}:
            return str(kind)
    return None


def _steps_of_workers(report: Report) -> list[tuple[float, int]]:
    """How many workers there were from when on, by generations and, where none was told, by steps."""
    known = [(event["time"] - report.began, event["workers"]) for event in _of(report, "generation")]
    if not known:
        known = [(time - report.began, count) for time, count in zip(report.times, report.workers, strict=True)]
    first = report.start.get("workers", known[0][1] if known else 0)
    points = [(0.0, first), *known] if known or first else []
    return [*points, (report.seconds, points[-1][1])] if points else []


def _smoothed(values: list[float]) -> list[float]:
    """The mean over a window around each value, of a fortieth of the run; at both ends over the half that there is."""
    reach, last = len(values) // 80, len(values) - 1
    sums = [0.0, *accumulate(values)]
    windows = [(max(0, at - reach), min(last, at + reach) + 1) for at in range(len(values))]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in windows]


def _title(report: Report) -> str:
    told = report.document()
    return f"{told['name'] or 'run'}: {told['steps']:,} steps in {duration_text(told['seconds'])}, {told['state']}"


def _subtitle(report: Report) -> str:
    told = report.document()
    parts = []
    if told["metrics"]:
        parts.append(metrics_text(told["metrics"]))
    if told["samples_lost"] is not None:
        parts.append(f"samples lost {told['samples_lost']}, counted twice {told['samples_twice']}")
    if told["step_seconds"]["median"]:
        parts.append(f"median step {duration_text(told['step_seconds']['median'])}")
    if told["digest"]:
        parts.append(f"digest {told['digest'][:12]}")
    return "   ".join(parts)


def _of(report: Report, kind: str) -> list[Event]:
    return [event for event in report.happened if event["event"] == kind]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
