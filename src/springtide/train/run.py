"""What a training script writes: `train.Run`, iterated like a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from springtide.data.order import Order, OrderLike
from springtide.data.streams.source import short
from springtide.spec import UserError
from springtide.train import arguments, futex
from springtide.train.arena import Word
from springtide.train.assembly import Assembly
from springtide.train.course import Schedule
from springtide.train.evaluation import Evaluate
from springtide.train.guard import guarded
from springtide.train.launch import Launch
from springtide.train.protocol import UNLIMITED
from springtide.train.worker import Batches, Worker

__all__ = ["Run"]

_active: list[Run] = []


class Run:
    """A training run: `for x, y in run: run.backward(loss)`.

    The loop gets the microbatches that fall to this worker, one after another, as torch's default collate makes them,
    on `device`. A step is `microbatches` of them (default: the largest power of two not above 8 that divides
    `batch_size`), their gradients summed over a fixed tree, so the result depends neither on how many workers there
    are nor on who was killed (Microbatch law). The run updates with the given `optimizer`; the loop has no
    `optimizer.step()`.

    Give `epochs` (each sample at least so often) or `steps`. `schedule`: a function of the steps made so far that
    returns a factor for the learning rate, or a torch scheduler. `clip_norm` limits the global norm of the gradient;
    `skip_nonfinite` leaves out steps whose gradient is not finite. `precision="bfloat16"` runs the loop body under
    autocast. `evaluate` looks at held-out data. `sample=0.01` trains on a fixed part of the data. `loading` says
    where samples are fetched: "auto", "main", "thread" or "process:N". `exact=False` fuses a worker's microbatches
    into one pass: the samples stay exact, the sums do not. `hang_timeout_seconds`: how long one microbatch may take
    before its worker counts as hung (default: 20 times the median, at least 60).

    Raises UserError, with one sentence, for anything that cannot work.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        dataset: Any,
        batch_size: int,
        *,
        microbatches: int | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        exact: bool = True,
        schedule: Schedule = None,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        precision: str = "float32",
        evaluate: Evaluate | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        sample: float | None = None,
        loading: str = "auto",
        device: str | torch.device = "cpu",
        threads: int = 1,
        hang_timeout_seconds: float | None = None,
    ) -> None:
        if _active:
            raise UserError("this script makes a second Run; one script trains one run: split it in two")
        launch = Launch.here()
        given = arguments.Arguments(
            model, optimizer, dataset, batch_size, microbatches, epochs, steps,
            seed if launch.seed is None else launch.seed, exact, schedule, clip_norm, skip_nonfinite, precision,
            evaluate, collate, sample if launch.sample is None else launch.sample, loading, str(device),
            launch.threads or threads, hang_timeout_seconds,
        )  # fmt: skip
        given = arguments.check(given)
        torch.set_num_threads(given.threads)
        if not torch.cuda.is_available():
            futex.keep_freed_memory()
        self._assembly = Assembly(given, launch)
        self._model, self._optimizer = model, optimizer
        self._worker: Worker | None = None
        self._iterated = False
        self._finished = False
        self._on_step: list[Callable[[], object]] = []
        self._on_evaluate: list[Callable[[dict[str, float]], object]] = []
        _active.append(self)

    # --- the loop

    def __iter__(self) -> Iterator[Any]:
        """The microbatches of this worker, until the run ends. In a nursery, this is where workers are forked."""
        if self._iterated:
            raise UserError("this Run was iterated already; it holds all its epochs in one loop")
        self._iterated = True
        worker = self._worker = self._assembly.join(self._on_step, self._on_evaluate)
        return self._guarded(worker)

    def backward(self, loss: Tensor, weight: float | None = None) -> None:
        """Backpropagate the microbatch's mean loss (a scalar tensor).

        `weight`: what the mean was taken over, for microbatches of unequal counts (tokens, say); the step's gradient is
        then the weighted mean.
        """
        if self._worker is None or self._finished or not self._worker.at.microbatches:
            raise UserError("run.backward(loss) belongs into the loop: for x, y in run: run.backward(...)")
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"run.backward got {shape}; give the microbatch's mean loss, one number (loss.mean())")
        if not loss.requires_grad:
            raise UserError(
                "run.backward got a loss without a gradient; compute it from the model's output, not detached"
            )
        if weight is not None and not _above_zero(weight):
            raise UserError(
                f"run.backward(weight={weight!r}): a weight is the count that the mean was taken over, above 0"
            )
        self._worker.backward(loss, weight)

    # --- where one is

    @property
    def step(self) -> int:
        """The step under way, from 1."""
        return 0 if self._worker is None else self._worker.at.step

    @property
    def steps(self) -> int | None:
        """How many there will be; None while the end of a stream is not known."""
        steps = self._assembly.recipe.course.steps
        known = steps if self._worker is None else self._worker.arena.last_step(steps)
        return None if known == UNLIMITED else known

    @property
    def epoch(self) -> float:
        """Epochs completed before the step under way."""
        return self._assembly.order.epoch(max(0, self.step - 1))

    @property
    def microbatch(self) -> int:
        """The microbatch that the loop body is at (the first of a fused pass)."""
        return self._worker.at.microbatches[0] if self._worker and self._worker.at.microbatches else 0

    @property
    def main(self) -> bool:
        """True in one living worker: save and print once. Another becomes it when that one dies."""
        return self._worker is None or self._worker.main

    @property
    def metrics(self) -> dict[str, float]:
        """The last evaluation's means."""
        return {} if self._worker is None else self._worker.metrics()

    @property
    def order(self) -> Order | OrderLike:
        """Which samples form which microbatch."""
        return self._assembly.order

    def on_step(self, call: Callable[[], object]) -> None:
        """Call it after each committed step, in the main worker."""
        self._on_step.append(call)

    def on_evaluate(self, call: Callable[[dict[str, float]], object]) -> None:
        """Call it with the metrics after each evaluation, in the main worker."""
        self._on_evaluate.append(call)

    @property
    def was_iterated(self) -> bool:
        """Whether the loop was entered."""
        return self._worker is not None

    @property
    def finished(self) -> bool:
        """Whether the loop has ended, and the model lies in memory of its own."""
        return self._finished

    def close(self) -> None:
        """The script has come to its end; a loop that was left before it was over ends the run for all."""
        if self._worker is None:
            return
        if not self._finished:
            self._worker.drain()
            self._end(self._worker)
        self._worker.arena.words[Word.SCRIPT_DONE] = 1

    def load_best(self) -> None:
        """After the loop: give the model the best parameters that `evaluate` found."""
        if not self._finished or self._worker is None:
            raise UserError("run.load_best() belongs after the loop; while training, the model is the run's")
        self._assembly.load_best(self._worker)

    def where(self) -> dict[str, Any]:
        """For reports of an error: step, microbatches and sample indices of the loop body."""
        at = None if self._worker is None else self._worker.at
        if at is None:
            return {}
        samples: list[Any] = [] if at.indices is None else [int(index) for index in at.indices]
        if self._assembly.streaming is not None:
            samples = [short(number) for number in samples]
        if self._finished:
            return {"after_loop": True}
        return {"step": at.step, "microbatch": at.microbatches[0] if at.microbatches else None, "samples": samples}

    def _guarded(self, worker: Worker) -> Batches:
        """The worker's batches, with the user's optimizer kept from stepping by itself meanwhile."""
        with guarded(self._optimizer, lambda: self._assembly.optimizer_state(worker)):
            try:
                yield from worker.batches()
            except GeneratorExit:
                if worker.drained:
                    self._end(worker)
                raise
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        """Leave the loop: all but one worker end here; in that one the script goes on, with the final model."""
        self._assembly.leave(worker)
        self._finished = True


def _above_zero(weight: Any) -> bool:
    try:
        return float(weight) > 0
    except (TypeError, ValueError, RuntimeError):
        return False


def active() -> Run | None:
    """The run of this process, for whoever started the script."""
    return _active[0] if _active else None
