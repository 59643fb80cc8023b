"""Carries out evaluations on the arena: held-out microbatches, their sums, the verdict, the best model kept."""

from __future__ import annotations

import time
from typing import Any

import torch

from springtide.train import device, evaluation, futex, randomness
from springtide.train.arena import Arena, Row
from springtide.train.job import Job
from springtide.train.protocol import Header


class Examiner:
    """One worker's part in them."""

    def __init__(self, job: Job, arena: Arena, row: memoryview[int]) -> None:
        self._job, self._arena, self._row = job, arena, row
        self._judged: tuple[int, dict[str, Any]] | None = None  # by tick

    def examine(self, now: Header, item: int) -> None:
        """One held-out microbatch, without gradients and in evaluation mode; then its flag."""
        job, plan = self._job, self._job.evaluate
        assert plan is not None and job.held_out is not None
        job.weights.bind(now.read, now.tick)
        job.weights.reset(now.read)
        fetched = job.held_out.get(1, item)
        randomness.seed_all(randomness.key(job.recipe.seed, randomness.HELD_OUT, now.step, item))
        batch = device.moved(fetched.batch, job.recipe.device)
        modes = [(module, module.training) for module in job.model.modules()]
        self._row[Row.SINCE] = time.monotonic_ns()
        try:
            job.model.eval()
            with torch.no_grad(), device.autocast(job.recipe):
                result = plan.function(job.model, *(batch if isinstance(batch, list | tuple) else (batch,)))
        finally:
            for module, training in modes:
                module.training = training
            job.weights.forget()
            self._row[Row.SINCE] = 0
        self._arena.write_evaluation(item, evaluation.sums(result, len(fetched.indices)))
        self._arena.evaluation_covers[item] = 1
        futex.fence()
        self._arena.evaluation_flags[item] = now.tick  # Slot law: the flag comes after the data

    def verdict(self, now: Header) -> dict[str, Any]:
        """The record after this evaluation: a pure function of the sums, so any worker may write it."""
        assert self._job.evaluate is not None
        if self._judged is None or self._judged[0] != now.tick:
            parts = [self._arena.evaluation(item) for item in range(self._arena.shape.evaluations)]
            found = evaluation.metrics(parts)
            record = evaluation.judge(self._arena.record(now.tick % 2), self._job.evaluate, found, now.step)
            self._judged = now.tick, record
        return self._judged[1]

    def keep_best(self, now: Header, chunk: int) -> None:
        """Where this state is the best so far, copy its chunk to where the best model lies."""
        if self._job.evaluate is None or self._job.evaluate.best is None:
            return
        best = self.verdict(now)["best"]
        if best is None or best["step"] != now.step:
            return
        layout, memory = self._job.layout, self._arena.bytes
        source, target = self._arena.at.buffers[now.read], self._arena.at.best
        ranges = [layout.chunks[chunk].values]
        if chunk == 0 and layout.buffers:
            ranges.append((layout.buffers[0].offset, layout.model_bytes))
        for begin, end in ranges:
            memory[target + begin : target + end] = memory[source + begin : source + end]

    def metrics(self, now: Header) -> dict[str, float]:
        """The last evaluation's means."""
        return dict(self._arena.record(now.tick % 2).get("metrics", {}))
