"""Fetching the samples of a microbatch: in the worker's main thread, in a thread of its own, or in processes.

The bits of a batch do not depend on the mode. Nothing is started before the first `get`: whoever makes a `Loader` may
be a nursery that forks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import default_collate

from springtide.data.order import OrderLike

Item = tuple[int, int]  # (step, microbatch)
Seed = Callable[[int, int], None]


@dataclass(frozen=True)
class Fetched:
    """The batch of one microbatch (or several fused), its samples, and how many bad ones were replaced."""

    batch: Any
    indices: NDArray[np.int64]
    skipped: int = 0


class Loader:
    def __init__(
        self,
        dataset: Any,
        order: OrderLike,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        mode: str = "auto",
        ahead: int = 4,
        seed: Seed,
    ) -> None:
        self._dataset = dataset
        self._order = order
        self._collate = collate or getattr(dataset, "collate", None) or default_collate
        self._seed = seed

    def expect(self, items: Sequence[Item], *, fused: bool = False) -> None:
        pass

    def get(self, step: int, microbatch: int) -> Fetched:
        return self.get_many([(step, microbatch)])

    def get_many(self, items: Sequence[Item]) -> Fetched:
        samples: list[Any] = []
        parts = []
        for step, microbatch in items:
            indices = self._order.indices(step, microbatch)
            self._seed(step, microbatch)
            samples += [self._dataset[i] for i in indices.tolist()]
            parts.append(indices)
        return Fetched(self._collate(samples), np.concatenate(parts))

    def close(self) -> None:
        pass
