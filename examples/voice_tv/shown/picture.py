"""How well words were understood over time, and which version answered: a PNG, and a coarse text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from words import COMMANDS

from shown.recording import NEW, Exam, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _NEW, _OLD = "#1f2a36", "#8a97a5", "#d1495b", "#2a7f9e"
_BARS = " ▁▂▃▄▅▆▇█"
STRETCH_S = 4.0


def draw(story: Story, before: Exam, after: Exam, path: Path) -> None:
    """Above: over time. Below: each command, before and after."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    time, words = figure.subplots(2, 1, height_ratios=[1.5, 1])
    _draw_time(time, story)
    _draw_words(words, before, after)
    title = f'"{NEW}": from {before.share(new=True):.0%} to {after.share(new=True):.0%}, by corrections alone'
    time.set_title(title, loc="left", color=_INK, fontsize=13, fontweight="bold", pad=26)
    figure.savefig(path)


def _draw_time(axes: Axes, story: Story) -> None:
    _plain(axes)
    for new, colour, name in ((False, _OLD, "the thirty commands"), (True, _NEW, f'"{NEW}"')):
        curve = story.curve(new=new, every_s=STRETCH_S)
        axes.plot([at for at, _ in curve], [share for _, share in curve], color=colour, linewidth=2, label=name)
    if story.corrected:
        first, last = (at_s - story.begin_s for at_s in (min(story.corrected), max(story.corrected)))
        axes.axvspan(first, last, color="#f3e6d2", alpha=0.6, linewidth=0, label="users correct")
    for at_s, version in story.changes():
        axes.axvline(at_s - story.begin_s, color=_FAINT, linewidth=1, linestyle=(0, (3, 2)))
        axes.annotate(
            f"version {version}", (at_s - story.begin_s, 1.0), xycoords=("data", "axes fraction"), xytext=(2, 4),
            textcoords="offset points", color=_FAINT, fontsize=8,
        )  # fmt: skip
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_ylabel("understood", color=_INK)
    axes.set_xlabel("seconds", color=_FAINT, fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.06), ncols=3)


def _draw_words(axes: Axes, before: Exam, after: Exam) -> None:
    _plain(axes)
    names = [one for one in (*COMMANDS, NEW) if one in after.commands]
    for exam, shift, colour, name in ((before, -0.2, "#c9d2da", "first version"), (after, 0.2, _OLD, "last version")):
        shares = [right / max(1, every) for right, every in (exam.commands.get(one, (0, 0)) for one in names)]
        colours = [_NEW if one == NEW and exam is after else colour for one in names]
        axes.bar([at + shift for at in range(len(names))], shares, 0.38, color=colours, label=name)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d2da")
    axes.tick_params(which="both", colors=_FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color="#eef2f5", linewidth=0.8)
    axes.set_axisbelow(True)


def text(story: Story, width: int) -> Text:
    """The same for a terminal of that many columns: a row of bars for what is known, one for the new word."""
    columns = max(20, min(width, 110) - 24)
    end_s = max((one.at_s for one in story.answers), default=0.0) - story.begin_s
    every_s = max(end_s / columns, 0.5)
    found = Text()
    for new, style, name in ((False, "cyan", "thirty commands"), (True, "red", f'"{NEW}"')):
        cells = {int(at / every_s): share for at, share in story.curve(new=new, every_s=every_s)}
        found.append(f"  {name:>16}  ", style="bold")
        found.append("".join(_BARS[round(cells[at] * 8)] if at in cells else " " for at in range(columns)), style)
        found.append("\n")
    line = [" "] * (columns + 8)
    for at_s, version in story.changes():
        place, word = int((at_s - story.begin_s) / every_s), f"v{version}"
        line[place : place + len(word)] = word
    found.append(f"  {'version':>16}  " + "".join(line).rstrip(), style="dim")
    return found
