"""A run as one process holds it: what was asked for, and the parts that carry it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from springtide.data.order import OrderLike
from springtide.train import protocol
from springtide.train.course import Settings
from springtide.train.evaluation import Evaluate
from springtide.train.gradients import Slots
from springtide.train.layout import Layout
from springtide.train.loading import Loader
from springtide.train.streaming import Streaming
from springtide.train.update import Updater
from springtide.train.weights import Weights


@dataclass(frozen=True)
class Recipe:
    """What belongs to the run, whatever the launch."""

    course: protocol.Course
    batch_size: int
    microbatches: int
    block_size: int  # microbatches whose sum is published together
    seed: int
    exact: bool
    clip_norm: float | None
    skip_nonfinite: bool
    precision: str
    device: str
    threads: int

    @property
    def blocks(self) -> int:
        return -(-self.microbatches // self.block_size)

    def of(self, block: int) -> range:
        """The microbatches of a block."""
        return range(block * self.block_size, min((block + 1) * self.block_size, self.microbatches))


@dataclass
class Job:
    """A run as one process holds it."""

    recipe: Recipe
    model: nn.Module
    layout: Layout
    order: OrderLike
    loader: Loader
    weights: Weights
    slots: Slots
    updater: Updater
    settings: Settings
    evaluate: Evaluate | None
    held_out: Loader | None
    streaming: Streaming | None = None
    on_step: list[Callable[[], object]] = field(default_factory=list)
    on_evaluate: list[Callable[[dict[str, float]], object]] = field(default_factory=list)


@dataclass
class Pass:
    """What the loop body is at: one microbatch, or several fused."""

    step: int = 0
    microbatches: tuple[int, ...] = ()
    indices: Any = None
    loss: Tensor | None = None
    weight: float | None = None
