"""The demonstration: digits are learnt by four workers that are killed and stopped meanwhile, then again in peace.

Everything goes through the commands that a user has, in a folder of its own that is removed at the end. The verdict
compares what the two runs report: exit code 0 if they ended with the same bits, no sample was lost and the digits are
read, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

SCRIPT = Path(__file__).parent / "book" / "02_recognize_digits" / "train.py"
TIDE = Path(sys.executable).with_name("tide")
ACCURACY = 0.98
SAME_BLOW_SECONDS = 0.2  # what is said within this time is one blow (killing all is said worker by worker)


@dataclass(frozen=True)
class Blow:
    """What is done, as `--chaos` writes it and as a person says it, and at which part of the run."""

    spec: str
    words: str
    at: float


BLOWS = [
    Blow("kill=1", "one worker killed", 0.12),
    Blow("kill=3", "three of four killed at once", 0.26),
    Blow("stop=1", "one worker stopped (SIGSTOP)", 0.40),
    Blow("supervisor", "the supervisor killed", 0.56),
    Blow("kill=all", "all workers killed", 0.72),
    Blow("kill=2", "two workers killed", 0.86),
]
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


@dataclass
class Told:
    """What a run said while it ran, and its report."""

    steps: list[tuple[int, float]] = field(default_factory=list)  # (number, unix time) of each committed step
    blows: list[tuple[int, float, str]] = field(default_factory=list)  # (step, unix time, what was done)
    report: dict[str, Any] = field(default_factory=dict)

    def hear(self, event: dict[str, Any]) -> str:
        """Takes an event; returns a line worth showing, or nothing."""
        if event["event"] == "step":
            self.steps.append((event["step"], event["time"]))
        elif event["event"] == "chaos":
            if self.blows and event["time"] - self.blows[-1][1] < SAME_BLOW_SECONDS:
                return ""
            self.blows.append((event["step"], event["time"], event["what"]))
            return f"step {event['step']:>5}  {event['what']}"
        return ""

    @property
    def ordinary_seconds(self) -> float:
        return statistics.median(late - early for (_, early), (_, late) in itertools.pairwise(self.steps))

    def delay_seconds(self, blow: int) -> float:
        """The longest that the training stood still between this blow and the next, beyond an ordinary step."""
        start = self.blows[blow][1]
        end = self.blows[blow + 1][1] if blow + 1 < len(self.blows) else self.steps[-1][1]
        commits = [time for _, time in self.steps]
        # The gap that holds the next blow belongs to the next, unless this one's is not over by then.
        pairs = itertools.pairwise(commits)
        gaps = [late - early for early, late in pairs if late > start and (late <= end or early <= start)]
        return max(0.0, max(gaps, default=0.0) - self.ordinary_seconds)


def train(name: str, home: Path, steps: int, *options: str) -> Told:
    """`tide run` of the digits with four workers, followed by its JSON lines."""
    report = home / f"{name}.json"
    command = [str(TIDE), "run", "--name", name, "--workers", "1:4", "--json", "--report", str(report), *options]
    log = home / f"{name}.log"
    told = Told()
    columns = [TextColumn("  {task.description}"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn()]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, str(SCRIPT), "--steps", str(steps)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "TIDE_HOME": str(home)},
            start_new_session=True,
        ) as process,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("training", total=steps)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if shown := told.hear(event):
                    console.print(f"  {shown}")
                if told.steps:
                    progress.update(bar, completed=told.steps[-1][0])
            process.wait()
        finally:
            end(process)
    if process.returncode or not report.exists():
        console.print(log.read_text(errors="replace")[-3000:], markup=False)
        raise SystemExit(f"tide run ended with {process.returncode}")
    told.report = json.loads(report.read_text())
    return told


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends `tide run` as Ctrl-C twice would, and by force if that does not help."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def timeline(told: Told) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="What happened", title_justify="left", title_style="bold")
    table.add_column("step", justify="right")
    table.add_column("after", justify="right")
    table.add_column("")
    table.add_column("the training stood still", justify="right")
    for k, ((step, time, _), blow) in enumerate(zip(told.blows, BLOWS, strict=False)):
        seconds = told.delay_seconds(k)
        style = "green" if seconds < 0.1 else "yellow" if seconds < 2 else "red"
        since = f"{time - told.steps[0][1]:.1f} s"
        table.add_row(str(step), since, blow.words, Text(f"{seconds * 1e3:,.0f} ms", style=style))
    return table


def verdict(storm: Told, calm: Told) -> tuple[Table, bool]:
    """The comparison, line by line, and whether all of it is good."""
    one, other = storm.report, calm.report
    accuracy = one["metrics"]["accuracy"]
    lost, twice = one["samples_lost"], one["samples_twice"]
    table = Table(box=box.SIMPLE_HEAD, title="Verdict", title_justify="left", title_style="bold")
    for name in ("", "disturbed", "undisturbed", ""):
        table.add_column(name)
    good = True

    def line(name: str, left: object, right: object, holds: bool, wrong: str) -> None:
        nonlocal good
        good = good and holds
        table.add_row(
            name, str(left), str(right), Text("yes", style="green") if holds else Text(wrong, style="bold red")
        )

    same = bool(one["digest"]) and one["digest"] == other["digest"]
    line("same bits (digest)", short(one["digest"]), short(other["digest"]), same, "no")
    line(
        "accuracy",
        f"{accuracy:.2%}",
        f"{other['metrics']['accuracy']:.2%}",
        accuracy >= ACCURACY,
        f"under {ACCURACY:.0%}",
    )
    line("steps", one["steps"], other["steps"], one["steps"] == other["steps"], "no")
    line("samples lost", lost, other["samples_lost"], lost == 0, "no")
    line("samples counted twice", twice, other["samples_twice"], twice == 0, "no")
    line("blows", len(storm.blows), len(calm.blows), len(storm.blows) == len(BLOWS), f"{len(BLOWS)} were meant")
    table.add_row("seconds", f"{one['seconds']:.1f}", f"{other['seconds']:.1f}", "")
    return table, good


def short(digest: str | None) -> str:
    return str(digest).removeprefix("blake2b:")[:16]


def demonstrate(steps: int, plot: Path | None, home: Path) -> bool:
    chaos = "; ".join(f"{blow.spec},at=step:{max(1, round(steps * blow.at))}" for blow in BLOWS)
    console.print("\n[bold]1. Four workers learn to read digits, and are killed meanwhile[/bold]\n")
    console.print(
        f'[dim]  tide run {SCRIPT.parent.name}/train.py --workers 1:4 --chaos "{chaos}"[/dim]\n', soft_wrap=True
    )
    drawn = ["--plot", str(plot)] if plot else []
    storm = train("disturbed", home, steps, "--chaos", chaos, *drawn)
    console.print("\n[bold]2. The same, undisturbed[/bold]\n")
    calm = train("undisturbed", home, steps)
    console.print(f"  {steps} steps in {calm.report['seconds']:.1f} s, {calm.ordinary_seconds * 1e3:.0f} ms each\n")
    console.print(timeline(storm))
    table, good = verdict(storm, calm)
    console.print(table)
    if good:
        console.print("[bold green]The disturbed run ended with the same bits as the undisturbed one.[/bold green]")
    else:
        console.print("[bold red]The two runs do not agree.[/bold red]")
    if plot:
        console.print(f"The disturbed run, drawn: {plot}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--plot", type=lambda name: Path(name).resolve(), metavar="FILE", help="draw the disturbed run")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="tide-demo-") as home:
        try:
            return 0 if demonstrate(arguments.steps, arguments.plot, Path(home)) else 1
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130


if __name__ == "__main__":
    raise SystemExit(main())
