"""What a run was: fed with its events, it gives the document of `--report` and the rows of the table at the end."""

from __future__ import annotations

import bisect
import json
import math
import os
import re
import statistics
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from springtide.spec.errors import UserError
from springtide.train import events
from springtide.train.events import Event
from springtide.train.hardware import hardware

_TOLD = ("generation", "chaos", "supervisor", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """What happened between two committed steps, and what it cost beyond an ordinary step."""

    step: int
    seconds: float  # since the start of the run
    what: tuple[str, ...]
    workers: int | None  # how many there were afterwards, where that changed
    delay_seconds: float


@dataclass
class Report:
    """A run, told by its events in the order in which they came; pure, so that it can be made from a file as well."""

    start: Event = field(default_factory=dict)
    end: Event = field(default_factory=dict)
    happened: list[Event] = field(default_factory=list)
    steps: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))  # unix seconds of each commit, never falling
    losses: array[float] = field(default_factory=lambda: array("d"))  # not-a-number where a step told none
    workers: array[int] = field(default_factory=lambda: array("i"))
    samples: int = 0

    def add(self, event: Event) -> None:
        """Take the next event; ticks and output are passed over, and so is a step that was told before."""
        kind = event["event"]
        if kind == "step":
            self._add_step(event)
        elif kind == "start":
            self.start = event
        elif kind == "end":
            self.end = event
        elif kind not in events.UNRECORDED:
            self.happened.append(event)

    def _add_step(self, event: Event) -> None:
        if self.steps and event["step"] <= self.steps[-1]:
            return
        loss = event.get("loss")
        self.steps.append(event["step"])
        self.times.append(max(event["time"], self.times[-1] if self.times else 0.0))
        self.losses.append(math.nan if loss is None else loss)
        self.workers.append(event.get("workers") or 0)
        self.samples += event.get("samples") or self.start.get("batch_size") or 0

    @property
    def began(self) -> float:
        """Unix seconds of the start, or of the first thing that is known."""
        known = [event["time"] for event in (self.start, *self.happened[:1]) if event]
        return float(min([*known, *self.times[:1]], default=0.0))

    @property
    def seconds(self) -> float:
        """From the start to the end, or to the last thing that is known."""
        known = [event["time"] for event in (self.end, *self.happened[-1:]) if event]
        return float(max([*known, *self.times[-1:]], default=self.began)) - self.began

    def step_seconds(self) -> list[float]:
        """The time between each two neighbouring commits."""
        return [after - before for before, after in pairwise(self.times)]

    def delays_seconds(self, times: Iterable[float]) -> list[float]:
        """What happened at each of `times` cost: the gap between the commits around it less the median step.

        Never less than 0; 0 also for what came before the first commit or after the last one.
        """
        gaps = self.step_seconds()
        median = statistics.median(gaps) if gaps else 0.0
        between = [bisect.bisect_right(self.times, time) for time in times]
        return [max(0.0, gaps[after - 1] - median) if 0 < after <= len(gaps) else 0.0 for after in between]

    def metrics(self) -> dict[str, Any]:
        """The last evaluation."""
        return next((event["metrics"] for event in reversed(self.happened) if event["event"] == "evaluation"), {})

    def document(self) -> dict[str, Any]:
        """What `--report` writes; times in seconds. `steps` and `samples` are those that the final state has seen."""
        resumed = self.start.get("resumed_step") or 0
        gaps = sorted(self.step_seconds())
        best = [event for event in self.happened if event["event"] == "evaluation" and event.get("best")]
        errors = [event for event in self.happened if event["event"] == "error"]
        return {
            "name": self.start.get("name"),
            "run_id": self.start.get("run_id"),
            "state": self.end.get("state", "running"),
            "message": self.end.get("message"),
            "digest": self.end.get("digest"),
            "steps": self.end.get("step") or (self.steps[-1] if self.steps else resumed),
            "resumed_step": resumed,
            "samples": resumed * self.start.get("batch_size", 0) + self.samples,
            "samples_twice": self.end.get("samples_twice"),
            "samples_lost": self.end.get("samples_lost"),
            "seconds": round(self.seconds, 6),
            "step_seconds": {"median": _median(gaps), "p99": _at_rank(gaps, 0.99)},
            "loss": next((loss for loss in reversed(self.losses) if not math.isnan(loss)), None),
            "metrics": self.metrics(),
            "best": {"step": best[-1]["step"], "metrics": best[-1]["metrics"]} if best else None,
            "microbatches": self.start.get("microbatches"),
            "batch_size": self.start.get("batch_size"),
            "parameters": self.start.get("parameters"),
            "arena_bytes": self.start.get("arena_bytes"),
            "workers": {key: self.start.get(key) for key in ("minimum", "maximum")},
            "generations": self._costed("generation", "generation", "step", "workers", "cause"),
            "chaos": self._costed("chaos", "step", "what"),
            "supervisor": self._costed("supervisor", "pid", "what", "cause"),
            "checkpoints": [_chosen(event, "step", "path", "seconds", "bytes") for event in self._of("checkpoint")],
            "warnings": [event["message"] for event in self._of("warning")],
            "error": _untimed(errors[-1]) if errors else None,
            "hardware": hardware(self.start.get("threads")),
        }

    def rows(self) -> list[Row]:
        """One row for all that happened between the same two commits, since it shares one delay."""
        groups: dict[int, list[Event]] = {}
        for event in self.happened:
            if event["event"] in _TOLD and events.is_happening(event):
                groups.setdefault(bisect.bisect_right(self.times, event["time"]), []).append(event)
        told = [group for _, group in sorted(groups.items())]
        delays = self.delays_seconds(group[0]["time"] for group in told)
        return [self._row(group, delay) for group, delay in zip(told, delays, strict=True)]

    def _row(self, group: list[Event], delay_seconds: float) -> Row:
        known = [event["step"] for event in group if event.get("step")]
        before = bisect.bisect_right(self.times, group[0]["time"])
        committed = self.steps[before - 1] if before else self.start.get("resumed_step") or 0
        changed = [event["workers"] for event in group if event["event"] == "generation"]
        return Row(
            step=known[0] if known else committed + 1,
            seconds=group[0]["time"] - self.began,
            what=_told_once(group),
            workers=changed[-1] if changed else None,
            delay_seconds=delay_seconds,
        )

    def _of(self, kind: str) -> list[Event]:
        return [event for event in self.happened if event["event"] == kind]

    def _costed(self, kind: str, *keys: str) -> list[dict[str, Any]]:
        found = self._of(kind)
        delays = self.delays_seconds(event["time"] for event in found)
        return [
            _chosen(event, *keys) | {"seconds": round(event["time"] - self.began, 6), "delay_seconds": round(delay, 6)}
            for event, delay in zip(found, delays, strict=True)
        ]


def write(report: Report, path: Path) -> None:
    """Write the document of a report: the whole file or none of it. Raises UserError when it cannot be written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(events.finite(report.document()), indent=2, default=str) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"the report {path} cannot be written: {error.strerror}") from None


def _told_once(group: list[Event]) -> tuple[str, ...]:
    """Sentences of one row; a blow that the generation after it names too (by process id) is not told twice."""
    learnt = {pid for event in group if event["event"] != "chaos" for pid in _process_ids(event)}
    told = []
    for event in group:
        named = _process_ids(event)
        if event["event"] == "chaos" and named and named <= learnt:
            continue
        is_loss = event["event"] == "generation" and not events.is_growth(event)
        told.append(event["cause"] if is_loss else events.sentence(event))
    return tuple(dict.fromkeys(told))


def _process_ids(event: Event) -> set[str]:
    said = " ".join(str(event.get(key, "")) for key in ("what", "cause", "message"))
    return set(re.findall(r"pid (\d+)", said)) | ({str(event["pid"])} if "pid" in event else set())


def _chosen(event: Event, *keys: str) -> dict[str, Any]:
    return {key: event.get(key) for key in keys}


def _untimed(event: Event) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


def _median(gaps: list[float]) -> float | None:
    return round(statistics.median(gaps), 6) if gaps else None


def _at_rank(gaps: list[float], share: float) -> float | None:
    return round(gaps[math.ceil(share * len(gaps)) - 1], 6) if gaps else None
