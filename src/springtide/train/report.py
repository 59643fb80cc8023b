"""What a run was: fed with its events, it gives the document of `--report` and the rows of the table at the end."""

from __future__ import annotations

import bisect
import math
import re
import statistics
from dataclasses import dataclass, field
from typing import Any

from springtide.train import events
from springtide.train.events import Event
from springtide.train.hardware import hardware

_TOLD = ("generation", "chaos", "supervisor", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """What happened between two committed steps, and what it cost beyond an ordinary step."""

    step: int | None
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
    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    samples: int = 0
    _sorted_times: list[float] = field(default_factory=list, repr=False)

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
        self.steps.append(event["step"])
        self.times.append(event["time"])
        self.losses.append(event.get("loss"))
        self.workers.append(event.get("workers", 0))
        self.samples += event.get("samples", self.start.get("batch_size", 0))
        # Lines that a returning supervisor fills in may be told late, but never carry a later time than their successors.
        bisect.insort(self._sorted_times, event["time"])

    @property
    def began(self) -> float:
        """Unix seconds of the start, or of the first thing that is known."""
        first = [self.start["time"]] if self.start else [event["time"] for event in self.happened[:1]] + self.times[:1]
        return min(first, default=0.0)

    @property
    def seconds(self) -> float:
        """From the start to the end, or to the last thing that is known."""
        known = [*self.times[-1:], *(event["time"] for event in self.happened[-1:])]
        last = [self.end["time"]] if self.end else known
        return max(0.0, max(last, default=self.began) - self.began)

    def step_seconds(self) -> list[float]:
        """The time between each two neighbouring commits."""
        return [after - before for before, after in zip(self._sorted_times, self._sorted_times[1:], strict=False)]

    def delay_seconds(self, time: float) -> float:
        """What something at `time` cost: the gap between the commits around it, less the median step; 0 at either end."""
        between = bisect.bisect_right(self._sorted_times, time)
        if not 0 < between < len(self._sorted_times):
            return 0.0
        gap = self._sorted_times[between] - self._sorted_times[between - 1]
        return max(0.0, gap - statistics.median(self.step_seconds()))

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
            "samples_twice": self.end.get("samples_twice", 0),
            "samples_lost": self.end.get("samples_lost", 0),
            "seconds": round(self.seconds, 6),
            "step_seconds": {"median": _median(gaps), "p99": _at_rank(gaps, 0.99)},
            "loss": next((loss for loss in reversed(self.losses) if loss is not None), None),
            "metrics": self.metrics(),
            "best": {"step": best[-1]["step"], "metrics": best[-1]["metrics"]} if best else None,
            "microbatches": self.start.get("microbatches"),
            "batch_size": self.start.get("batch_size"),
            "parameters": self.start.get("parameters"),
            "arena_bytes": self.start.get("arena_bytes"),
            "workers": {key: self.start.get(key) for key in ("minimum", "maximum")},
            "generations": [
                self._costed(event, "generation", "step", "workers", "cause") for event in self._of("generation")
            ],
            "chaos": [self._costed(event, "step", "what") for event in self._of("chaos")],
            "supervisor": [self._costed(event, "pid", "what", "cause") for event in self._of("supervisor")],
            "checkpoints": [_chosen(event, "step", "path", "seconds", "bytes") for event in self._of("checkpoint")],
            "warnings": [event["message"] for event in self._of("warning")],
            "error": {key: value for key, value in errors[-1].items() if key not in ("event", "time")}
            if errors
            else None,
            "hardware": hardware(self.start.get("threads")),
        }

    def rows(self) -> list[Row]:
        """One row for all that happened between the same two commits, since it shares one delay."""
        groups: dict[int, list[Event]] = {}
        for event in self.happened:
            if event["event"] in _TOLD and not _is_routine(event):
                groups.setdefault(bisect.bisect_right(self._sorted_times, event["time"]), []).append(event)
        return [self._row(between, group) for between, group in sorted(groups.items())]

    def _row(self, between: int, group: list[Event]) -> Row:
        known = [event["step"] for event in group if event.get("step")]
        committed = self.steps[between - 1] if between and self.steps else self.start.get("resumed_step") or 0
        changed = [event["workers"] for event in group if event["event"] == "generation"]
        return Row(
            step=known[0] if known else committed + 1,
            seconds=group[0]["time"] - self.began,
            what=_told_once(group),
            workers=changed[-1] if changed else None,
            delay_seconds=self.delay_seconds(group[0]["time"]),
        )

    def _of(self, kind: str) -> list[Event]:
        return [event for event in self.happened if event["event"] == kind]

    def _costed(self, event: Event, *keys: str) -> dict[str, Any]:
        return _chosen(event, *keys) | {
            "seconds": round(event["time"] - self.began, 6),
            "delay_seconds": round(self.delay_seconds(event["time"]), 6),
        }


def _is_routine(event: Event) -> bool:
    """The beginning of a run is no happening: its first generation and its first supervisor."""
    return (
        event["event"] == "generation"
        and event["generation"] <= 1
        or event.get("what") == "started"
        and not event.get("cause")
    )


def _told_once(group: list[Event]) -> tuple[str, ...]:
    """Sentences of one row; a blow that the generation after it names too (by process id) is not told twice."""
    learnt = {pid for event in group if event["event"] != "chaos" for pid in _process_ids(event)}
    told = []
    for event in group:
        named = _process_ids(event)
        if event["event"] == "chaos" and named and named <= learnt:
            continue
        told.append(event["cause"] if event["event"] == "generation" else events.sentence(event))
    return tuple(dict.fromkeys(told))


def _process_ids(event: Event) -> set[str]:
    said = " ".join(str(event.get(key, "")) for key in ("what", "cause", "message"))
    return set(re.findall(r"pid (\d+)", said)) | ({str(event["pid"])} if "pid" in event else set())


def _chosen(event: Event, *keys: str) -> dict[str, Any]:
    return {key: event.get(key) for key in keys}


def _median(gaps: list[float]) -> float | None:
    return round(statistics.median(gaps), 6) if gaps else None


def _at_rank(gaps: list[float], share: float) -> float | None:
    return round(gaps[math.ceil(share * len(gaps)) - 1], 6) if gaps else None
