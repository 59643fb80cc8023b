"""What happens in a run, as events: one flat JSON object per line, in `--json`, in events.jsonl and in a report.

    start       name, run_id, workers, minimum, maximum, microbatches, batch_size, steps, steps_per_epoch, parameters,
                arena_bytes, resumed_step, threads; on a stream, steps may be null and steps_per_epoch is
    step        step, loss (or null), workers, epoch (null on a stream), samples: a committed step; from 1 (or
                resumed_step + 1), in order
    generation  generation, step (under way when it happened), workers, cause; `time` is when the cause was learnt
    worker      worker, pid, what (started, joined, left, lost)
    evaluation  step, metrics, best
    checkpoint  step, path, seconds, bytes
    chaos       step, what
    supervisor  pid, what (started, lost, adopted), cause
    warning     message
    error       message, traceback, worker, pid, step, microbatch, samples
    end         state (done, stopped, failed, interrupted), step, digest, samples_twice, samples_lost, message

Each has `event` and `time` (unix seconds). A live display gets two more that are never recorded: `output` (line, of the
worker that is shown) and `tick` (workers: id, pid, share, state), about ten times a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from springtide.spec.quantities import bytes_text, duration_text

Event = dict[str, Any]
UNRECORDED = frozenset({"tick", "output"})


def encode(event: Event) -> str:
    """One line of JSON, without the line end; not-a-number becomes null, since JSON has none."""
    try:
        return json.dumps(event, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(finite(event), allow_nan=False, default=str)


def finite(value: Any) -> Any:
    """The same value with null for every float that JSON cannot hold."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def read(path: Path) -> Iterator[Event]:
    """The events of a file of JSON lines; a last line that was cut off by a crash is left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def sentence(event: Event) -> str:
    """What a person is told about an event, without its time; empty for those that only feed a display."""
    step = event.get("step")
    match event["event"]:
        case "start":
            return _start(event)
        case "generation":
            now = f"{plural(event['workers'], 'worker')} from here"
            return now if is_growth(event) else f"{event['cause']}; {now}"
        case "worker":
            return f"worker {event['worker']} (pid {event['pid']}) {event['what']}"
        case "evaluation":
            best = ", the best so far" if event.get("best") else ""
            return f"evaluation at step {step}: {metrics_text(event['metrics'])}{best}"
        case "checkpoint":
            cost = f"{bytes_text(event['bytes'])} in {duration_text(event['seconds'])}"
            return f"checkpoint of step {step}: {event['path']} ({cost})"
        case "chaos":
            return f"chaos: {event['what']}"
        case "supervisor":
            return _supervisor(event)
        case "warning":
            return f"warning: {event['message']}"
        case "error":
            return f"error: {event['message']}"
        case _:
            return ""


def is_happening(event: Event) -> bool:
    """Whether it is more than the ordinary course of a run: what starts a supervisor is told by the loss before it."""
    return event["event"] != "supervisor" or str(event["what"]) != "started"


def is_growth(event: Event) -> bool:
    """Whether a generation was proposed, not forced by a loss: its cause only names the number of workers."""
    return event["event"] == "generation" and event["cause"].split()[1:] in (["worker"], ["workers"])


def _supervisor(event: Event) -> str:
    cause = event.get("cause") or ""
    match event["what"]:
        case "lost":
            return f"the supervisor (pid {event['pid']}) {cause or 'was lost'}"
        case "adopted":
            return f"a new supervisor (pid {event['pid']}) adopted {cause or 'the run'}"
    return f"a supervisor (pid {event['pid']}) {event['what']}"


def microbatches_text(share: float, microbatches: int | None) -> str:
    """A worker's share of a step: how many of its microbatches, or hundredths where their number is unknown."""
    return f"{share * microbatches:.3g}" if microbatches else f"{share:.0%}"


def _start(event: Event) -> str:
    low, high = event["minimum"], event["maximum"]
    between = "" if low == high else f" ({low} to {high})"
    known = plural(event["steps"], "step") if event["steps"] is not None else "endless steps"
    resumed = f", resumed from step {event['resumed_step']}" if event.get("resumed_step") else ""
    return (
        f"{event['name']}: {known} of {plural(event['batch_size'], 'sample')} "
        f"({plural(event['microbatches'], 'microbatch', 'microbatches')}), "
        f"{plural(event['workers'], 'worker')}{between}, "
        f"{plural(event['parameters'], 'parameter')}, arena {bytes_text(event['arena_bytes'])}{resumed}"
    )


def metrics_text(metrics: dict[str, Any]) -> str:
    """`loss 0.2031, accuracy 0.9833`."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics.items()
    )


def plural(count: int, one: str, many: str = "") -> str:
    """`1 worker`, `3 workers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
