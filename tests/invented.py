"""The events of an invented run, as the launcher would tell them: a storm over four workers, seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]
BEGAN = 1_790_000_000.0


def a_storm(steps: int = 400, workers: int = 4, seed: int = 1, step_seconds: float = 0.05) -> Iterator[Event]:
    """Steps with a kill at a tenth, a stop at a third, a lost supervisor at a half and all killed at three quarters."""
    rng = random.Random(seed)
    now, alive, generation = BEGAN, workers, 1
    yield {
        "event": "start", "time": now, "name": "digits", "run_id": "5e1f", "workers": workers, "minimum": 1,
        "maximum": workers, "microbatches": 8, "batch_size": 64, "steps": steps, "steps_per_epoch": 22.5,
        "parameters": 93_322, "arena_bytes": 8_400_000, "resumed_step": 0, "threads": 1,
    }  # fmt: skip
    yield {"event": "supervisor", "time": now, "pid": 4000, "what": "started", "cause": ""}
    for worker in range(workers):
        yield {"event": "worker", "time": now, "worker": worker, "pid": 4711 + worker, "what": "started"}
    now += 1.2
    yield {
        "event": "generation",
        "time": now,
        "generation": 1,
        "step": 1,
        "workers": workers,
        "cause": "the run begins",
    }
    blows = {steps // 10: "kill", steps // 3: "stop", steps // 2: "supervisor", steps * 3 // 4: "all"}
    for step in range(1, steps + 1):
        moment = now + step_seconds * 0.4
        now += step_seconds * rng.uniform(0.9, 1.15)
        blow = blows.get(step)
        if blow == "supervisor":
            yield {"event": "chaos", "time": moment, "step": step, "what": "kill the supervisor (pid 4000)"}
            cause = "it was killed by SIGKILL"
            yield {"event": "supervisor", "time": moment + 0.01, "pid": 4000, "what": "lost", "cause": cause}
            yield {"event": "supervisor", "time": moment + 0.02, "pid": 4801, "what": "adopted", "cause": ""}
        elif blow:
            count = workers if blow == "all" else 1
            learnt = moment + (1.2 if blow == "stop" else 0.003)
            now = learnt + {"kill": 0.06, "stop": 0.1, "all": 0.6}[blow]
            victims = ", ".join(f"worker {n} (pid {4711 + n})" for n in range(count))
            yield {
                "event": "chaos",
                "time": moment,
                "step": step,
                "what": f"{'stop' if blow == 'stop' else 'kill'} {victims}",
            }
            for n in range(count):
                yield {"event": "worker", "time": learnt, "worker": n, "pid": 4711 + n, "what": "lost"}
                alive, generation = alive - 1, generation + 1
                how = "stood still for 1.0 s and was killed" if blow == "stop" else "was killed by SIGKILL"
                cause = f"worker {n} (pid {4711 + n}) {how}"
                yield {
                    "event": "generation",
                    "time": learnt,
                    "generation": generation,
                    "step": step,
                    "workers": alive,
                    "cause": cause,
                }
            back = alive
            for n in range(count):
                alive, generation = alive + 1, generation + 1
                join = {"event": "worker", "time": now - 0.01, "worker": workers + n, "pid": 4900 + n, "what": "joined"}
                yield join
                cause = f"worker {workers + n} (pid {4900 + n}) joined"
                yield {
                    "event": "generation",
                    "time": now - 0.01,
                    "generation": generation,
                    "step": step + bool(back),
                    "workers": alive,
                    "cause": cause,
                }
        loss = 2.3 * math.exp(-step / (steps / 5)) + 0.06 + 0.08 * rng.random() * math.exp(-step / steps)
        yield {
            "event": "step",
            "step": step,
            "time": now,
            "loss": loss,
            "workers": alive or workers,
            "epoch": step / 22.5,
            "samples": 64,
        }
        if step % (steps // 8) == 0:
            metrics = {"loss": loss * 0.9 + 0.02, "accuracy": 1 - 0.9 * math.exp(-step / (steps / 5))}
            yield {"event": "evaluation", "time": now, "step": step, "metrics": metrics, "best": True}
        if step % (steps // 4) == 0:
            path = f"/tmp/runs/digits/checkpoints/step-{step:08d}-1f3a09bc"
            yield {"event": "checkpoint", "time": now, "step": step, "path": path, "seconds": 0.021, "bytes": 1_130_000}
    yield {
        "event": "end", "time": now + 0.1, "state": "done", "step": steps, "digest": "7f3a" * 16, "samples_twice": 0,
        "samples_lost": 0, "message": "",
    }  # fmt: skip
