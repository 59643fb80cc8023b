"""The live block: redrawn in one place of the terminal while the run goes on, with the script's output above it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from springtide.cli.pace import Pace
from springtide.cli.show import Show, closing, is_told, tell_error, tell_failure
from springtide.spec.quantities import duration_text
from springtide.train import events
from springtide.train.events import Event, metrics_text, microbatches_text, plural
from springtide.train.report import Report

_STYLES = {
    "generation": "yellow",
    "chaos": "magenta",
    "supervisor": "yellow",
    "warning": "yellow",
    "error": "red",
    "checkpoint": "cyan",
}
_DOTS = {
    **dict.fromkeys(("lost", "dead", "stopped", "killed"), ("✕", "x", "red")),
    **dict.fromkeys(("starting", "joining", "warming", "leaving"), ("◌", ".", "yellow")),
    **dict.fromkeys(("spare", "parked", "idle", "ready"), ("○", "o", "dim")),
}
_WORKING = ("●", "*", "green")


@contextmanager
def live(report: Report, console: Console | None = None) -> Iterator[Show]:
    """What to call with each event; at the end the closing table stands in the block's place."""
    console = console or Console(highlight=False)
    block = Block(report, ascii_only=console.options.ascii_only)
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as screen:
        screen.update(block.drawn(), refresh=True)

        def show(event: Event) -> None:
            block.take(event)
            if event["event"] == "output":
                console.print(Text.from_ansi(event["line"]))
            elif event["event"] == "error":
                screen.stop()
                tell_error(event)
                screen.start()
            elif event["event"] == "end":
                screen.stop()
                _print_closing(console, report)
                tell_failure(event)
            elif is_told(event) and event["event"] not in ("evaluation", "checkpoint"):
                _print_told(console, block.pace.elapsed(event), event)
            elif event["event"] == "tick":
                screen.update(block.drawn(), refresh=True)

        yield show


def _print_told(console: Console, elapsed: str, event: Event) -> None:
    if event["event"] == "start":
        console.print(Text(events.sentence(event), style="bold"))
    else:
        line = Text(f"{elapsed:>10}  ", style="dim")
        console.print(line.append(events.sentence(event), style=_STYLES.get(event["event"], "default")))


def _print_closing(console: Console, report: Report) -> None:
    for line in closing(report):
        # As it stands: a table that a narrow terminal folds is still copied whole.
        click.echo(click.style(line, bold=True) if line.startswith(("done", "   after")) else line)


class Block:
    """What the live block says: a picture of the events so far."""

    def __init__(self, report: Report, ascii_only: bool = False) -> None:
        self.pace = Pace(report)
        self._report = report
        self._ascii_only = ascii_only
        self._workers: list[Event] = []
        self._last: Event = {}
        self._evaluation: Event = {}
        self._now = 0.0

    def take(self, event: Event) -> None:
        """Take the next event."""
        self._now = max(self._now, event.get("time", 0.0))
        match event["event"]:
            case "step":
                self.pace.step(event)
            case "tick":
                self._workers = event["workers"]
            case "evaluation":
                self._evaluation = event
            case "start":
                pass
            case _ if is_told(event):
                self._last = event

    def drawn(self) -> RenderableType:
        """The block, to be printed by rich."""
        if not self._report.start:
            return Text("  starting: the script runs up to its first step", style="dim")
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(style="cyan", no_wrap=True, min_width=10)
        rows.add_column(no_wrap=True, overflow="ellipsis")
        rows.add_row("  step", self._progress())
        rows.add_row("  loss", self._figures())
        if self._evaluation:
            metrics = Text(metrics_text(self._evaluation["metrics"]), style="bold")
            metrics.append(f"   evaluation at step {self._evaluation['step']:,}", style="default not bold")
            rows.add_row("  held out", metrics)
        rows.add_row("  workers", self._dots())
        if self._last:
            line = Text(f"{self._ago()}  ", style="dim")
            line.append(events.sentence(self._last), style=f"not dim {_STYLES.get(self._last['event'], 'default')}")
            rows.add_row("  last", line)
        return Group(Text(""), rows)

    def _progress(self) -> RenderableType:
        done, steps = self.pace.last.get("step") or self._report.start.get("resumed_step") or 0, self.pace.steps
        left = self.pace.left_seconds(self._now)
        line = Table.grid(padding=(0, 2, 0, 0))
        if not steps:  # a stream, whose end nobody knows
            line.add_row(Text(f"{done:,}", style="bold"), Text("without end", style="dim"))
            return line
        line.add_row(
            Text(f"{done:,} of {steps:,}", style="bold"),
            ProgressBar(total=max(steps, 1), completed=done, width=32, complete_style="cyan", finished_style="green"),
            Text(f"{done / max(steps, 1):.0%}"),
            Text(f"{duration_text(left)} left" if left else "", style="dim"),
        )
        return line

    def _figures(self) -> Text:
        rate, samples = self.pace.rates(self._now)
        text = Text("-" if self.pace.loss is None else f"{self.pace.loss:.4g}", style="bold")
        if rate:
            text.append(f"   {samples:,.0f} samples/s, {rate:,.1f} steps/s", style="default not bold")
        if self.pace.last.get("epoch") is not None:
            text.append(f"   epoch {self.pace.last['epoch']:.2f}", style="default not bold")
        return text

    def _dots(self) -> Text:
        text, start = Text(), self._report.start
        for worker in self._workers:
            dot, plain, style = _DOTS.get(worker["state"], _WORKING)
            share = microbatches_text(worker["share"], start["microbatches"]) if worker.get("share") else ""
            text.append(f"{plain if self._ascii_only else dot} ", style=style).append(f"{share:<3}", style="default")
        between = "" if start["minimum"] == start["maximum"] else f", {start['minimum']} to {start['maximum']} allowed"
        shares = plural(start["microbatches"], "microbatch", "microbatches")
        return text.append(f" {shares} a step{between}", style="dim")

    def _ago(self) -> str:
        seconds = max(0.0, self._now - self._last["time"])
        return "now" if seconds < 1 else f"{duration_text(round(seconds))} ago"
