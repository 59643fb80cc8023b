"""What a run shows while it goes on and when it ends: lines of JSON, plain lines, a live block, or next to nothing."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import click

from springtide.cli import table
from springtide.cli.pace import Pace
from springtide.spec.quantities import duration_text
from springtide.train import events
from springtide.train.events import Event, metrics_text, plural
from springtide.train.report import Report

Show = Callable[[Event], None]
_MOST_ROWS = 24


def shown(*, as_json: bool, quiet: bool, report: Report) -> AbstractContextManager[Show]:
    """What to call with each event, after `report` took it; chosen by the options and by who is watching."""
    if as_json:
        return _json_lines(quiet)
    if quiet:
        return _quiet(report)
    if _is_watched():
        from springtide.cli.live import live

        return live(report)
    return _plain(report)


def _is_watched() -> bool:
    import os

    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@contextmanager
def _json_lines(quiet: bool) -> Iterator[Show]:
    def show(event: Event) -> None:
        if event["event"] == "tick" or (quiet and event["event"] not in ("error", "end")):
            return
        click.echo(events.encode(event))
        tell_failure(event)

    yield show


@contextmanager
def _quiet(report: Report) -> Iterator[Show]:
    def show(event: Event) -> None:
        tell_error(event)
        tell_failure(event)
        if event["event"] == "end":
            click.echo("\n".join(verdict(report)))

    yield show


@contextmanager
def _plain(report: Report) -> Iterator[Show]:
    pace = Pace(report)
    said_at, said_step = time.monotonic(), 0

    def show(event: Event) -> None:
        nonlocal said_at, said_step
        if event["event"] == "output":
            click.echo(event["line"])
        elif event["event"] == "step":
            pace.step(event)
            now, twentieth = time.monotonic(), max(1, pace.steps // 20)
            ahead = event["step"] - said_step
            if now - said_at >= 5 or (ahead >= twentieth and now - said_at >= 1) or event["step"] == pace.steps:
                said_at, said_step = now, event["step"]
                click.echo(pace.line())
        elif event["event"] == "end":
            click.echo("\n".join(closing(report)))
        elif is_told(event) and event["event"] != "error":
            told = event["event"] != "start" and report.start
            click.echo(f"{pace.elapsed(event):>8}  {events.sentence(event)}" if told else events.sentence(event))
        tell_error(event)
        tell_failure(event)

    yield show


def is_told(event: Event) -> bool:
    """Whether a person reads a line about it: what happens to single workers is told by the generation it leads to."""
    return event["event"] not in (*events.UNRECORDED, "step", "end", "worker") and events.is_happening(event)


def tell_error(event: Event) -> None:
    """An error in the user's own code, with the traceback of that code, on stderr."""
    if event["event"] == "error":
        where = [f"{key} {event[key]}" for key in ("worker", "step", "microbatch") if event.get(key) is not None]
        samples = f", samples {_few(event['samples'])}" if event.get("samples") else ""
        click.echo((event.get("traceback") or "").rstrip() or event["message"], err=True)
        if where:
            click.echo(f"({', '.join(where)}{samples})", err=True)


def tell_failure(event: Event) -> None:
    """The one sentence about a run that failed, on stderr."""
    if event["event"] == "end" and event["state"] == "failed":
        click.echo(f"tide: {event.get('message') or 'the run failed'}", err=True)


def closing(report: Report) -> list[str]:
    """The table of what happened and what it cost, then how it ended."""
    rows = [replace(row, what=tuple(_together(row.what))) for row in report.rows()]
    costly = sorted(rows, key=lambda row: row.delay_seconds, reverse=True)[:_MOST_ROWS]
    chosen = [row for row in rows if row in costly]
    lines: list[str] = []
    if chosen:
        cells = [
            (
                duration_text(row.seconds) if number == 0 else "",
                f"{row.step:,}" if number == 0 else "",
                sentence,
                str(row.workers) if row.workers is not None and number == len(row.what) - 1 else "",
                _cost(row.delay_seconds) if number == len(row.what) - 1 else "",
            )
            for row in chosen
            for number, sentence in enumerate(row.what)
        ]
        headers = ("after", "step", "what happened", "workers then", "cost")
        lines += ["", *table.lines(headers, cells, right=frozenset(headers) - {"what happened"})]
        if len(rows) > len(chosen):
            lines.append(
                f"and {len(rows) - len(chosen)} more, none of which cost more than {_cost(costly[-1].delay_seconds)}"
            )
        lines.append("")
    return lines + verdict(report)


def _together(sentences: Iterable[str]) -> list[str]:
    """`worker 1 (pid 7) joined`, `worker 2 (pid 8) joined` as `workers 1 and 2 joined`; others as they are."""
    told: dict[str, list[str]] = {}
    for sentence in sentences:
        match = re.fullmatch(r"worker (\d+) \(pid \d+\) (.+)", sentence)
        told.setdefault(match[2] if match else sentence, []).append(match[1] if match else "")
    return [
        sentence if not all(workers) else _of_workers(workers, sentence, sentences)
        for sentence, workers in told.items()
    ]


def _of_workers(workers: list[str], did: str, sentences: Iterable[str]) -> str:
    if len(workers) == 1:
        return next(
            sentence
            for sentence in sentences
            if sentence.startswith(f"worker {workers[0]} ") and sentence.endswith(did)
        )
    workers = sorted(workers, key=int)
    return f"workers {', '.join(workers[:-1])} and {workers[-1]} {re.sub(r'^was ', 'were ', did)}"


def verdict(report: Report) -> list[str]:
    """How it ended, in two or three lines."""
    told = report.document()
    ended = {"done": "done", "stopped": "stopped", "interrupted": "interrupted", "failed": "failed"}.get(
        told["state"], told["state"]
    )
    pace = told["step_seconds"]
    usual = (
        f" (a step {duration_text(pace['median'])}, 99 % within {duration_text(pace['p99'])})" if pace["median"] else ""
    )
    lines = [f"{ended}: {plural(told['steps'], 'step')} in {duration_text(told['seconds'])}{usual}"]
    if told["metrics"]:
        lines.append(f"last evaluation: {metrics_text(told['metrics'])}")
    if told["samples_lost"] is not None:
        lines.append(
            f"samples: {told['samples']:,}, lost {told['samples_lost']}, counted twice {told['samples_twice']}"
        )
    if told["digest"]:
        lines.append(f"digest: {told['digest']}")
    if told["state"] in ("stopped", "interrupted") and told["digest"]:
        lines.append(f"the same command goes on from step {told['steps']:,}; --fresh begins anew")
    return lines


def _cost(delay_seconds: float) -> str:
    return "none" if delay_seconds < 0.0005 else f"+{duration_text(delay_seconds)}"


def _few(values: list[Any], most: int = 12) -> str:
    told = ", ".join(map(str, values[:most]))
    return f"{told} and {len(values) - most} more" if len(values) > most else told
