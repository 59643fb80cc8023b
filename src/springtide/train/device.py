"""Where the loop body computes, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from springtide.train.job import Recipe


def autocast(recipe: Recipe, *, enabled: bool = True) -> AbstractContextManager[Any]:
    """The context of a loop body; `enabled=False` for the backward pass, which autocast should not see."""
    if recipe.precision == "float32":
        return nullcontext()
    return torch.autocast(recipe.device.split(":")[0], dtype=torch.bfloat16, enabled=enabled)


def moved(batch: Any, device: str) -> Any:
    """A batch, in whatever nesting, on that device."""
    if device == "cpu":
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: moved(item, device) for name, item in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(item, device) for item in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(item, device) for item in batch)
    return batch
