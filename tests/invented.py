"""The events of an invented run, as the launcher would tell them: a storm over four workers, seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]
BEGAN = 1_790_000_000.0
_PACE_AGAIN_SECONDS = {"kill": 0.06, "stop": 0.1, "all": 0.6}


def event(kind: str, time: float, **more: Any) -> Event:
    """One event, as a flat object."""
    return {"event": kind, "time": time, **more}


def a_storm(steps: int = 400, workers: int = 4, seed: int = 1, step_seconds: float = 0.05) -> Iterator[Event]:
    """Steps with a kill at a tenth, a stop at a third, a lost supervisor at a half and all killed at three quarters."""
    rng = random.Random(seed)
    now = BEGAN
    yield event(
        "start", now, name="digits", run_id="5e1f", workers=workers, minimum=1, maximum=workers, microbatches=8,
        batch_size=64, steps=steps, steps_per_epoch=22.5, parameters=93_322, arena_bytes=8_400_000,
        resumed_step=0, threads=1,
    )  # fmt: skip
    for worker in range(workers):
        yield event("worker", now, worker=worker, pid=4711 + worker, what="started")
    now += 1.2
    blows = {steps // 10: "kill", steps // 3: "stop", steps // 2: "supervisor", steps * 3 // 4: "all"}
    for step in range(1, steps + 1):
        struck, blow = now + step_seconds * 0.4, blows.get(step, "")
        now += step_seconds * rng.uniform(0.9, 1.15)
        if blow == "supervisor":
            yield from _supervisor_lost(struck, step)
        elif blow:
            learnt = struck + (1.2 if blow == "stop" else 0.003)
            now = learnt + _PACE_AGAIN_SECONDS[blow]
            yield from _workers_lost(blow, workers if blow == "all" else 1, workers, step, struck, learnt, now - 0.01)
        loss = 2.3 * math.exp(-step / (steps / 5)) + 0.06 + 0.08 * rng.random() * math.exp(-step / steps)
        yield event("step", now, step=step, loss=loss, workers=workers, epoch=step / 22.5, samples=64)
        if step % (steps // 8) == 0:
            metrics = {"loss": loss * 0.9 + 0.02, "accuracy": 1 - 0.9 * math.exp(-step / (steps / 5))}
            yield event("evaluation", now, step=step, metrics=metrics, best=True)
        if step % (steps // 4) == 0:
            path = f"/tmp/runs/digits/checkpoints/step-{step:08d}-1f3a09bc"
            yield event("checkpoint", now, step=step, path=path, seconds=0.021, bytes=1_130_000)
    yield event(
        "end", now + 0.1, state="done", step=steps, digest="7f3a" * 16, samples_twice=0, samples_lost=0, message=""
    )


def _supervisor_lost(struck: float, step: int) -> Iterator[Event]:
    cause = "was killed by SIGKILL"
    yield event("chaos", struck, step=step, what="kill the supervisor (pid 4000)")
    yield event("supervisor", struck + 0.01, pid=4000, what="lost", cause=cause)
    yield event("supervisor", struck + 0.01, pid=4801, what="started", cause=cause)
    yield event("supervisor", struck + 0.02, pid=4801, what="adopted", cause="4 workers")


def _workers_lost(
    blow: str, count: int, workers: int, step: int, struck: float, learnt: float, back: float
) -> Iterator[Event]:
    """The first `count` workers are struck; each loss is a generation, and so is each successor that computes."""
    did, how = "kill", "was killed by SIGKILL"
    if blow == "stop":
        did, how = "stop", "was stopped (no heartbeat for 1.0 s)"
    for worker in range(count):
        yield event("chaos", struck, step=step, what=f"{did} worker {worker} (pid {4711 + worker})")
    for worker in range(count):
        yield event("worker", learnt, worker=worker, pid=4711 + worker, what="lost")
        cause, left = f"worker {worker} (pid {4711 + worker}) {how}", workers - worker - 1
        yield event("generation", learnt, generation=step + worker, step=step, workers=left, cause=cause)
    for worker in range(count):
        now = workers - count + worker + 1
        yield event("worker", back, worker=worker, pid=4900 + worker, what="started")
        cause = f"{now} worker{'s' if now > 1 else ''}"
        yield event("generation", back, generation=step + count + worker, step=step, workers=now, cause=cause)
