"""Which samples a step reads, for the plain loops: a new shuffle each epoch, whole batches, on every worker alike."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def indices(samples: int, batch_size: int, first_step: int = 0) -> Iterator[Tensor]:
    """The sample numbers (int64, shape [batch_size]) of each step from `first_step` on, without end."""
    per_epoch = samples // batch_size
    step = first_step
    while True:
        generator = torch.Generator().manual_seed(step // per_epoch)
        order = torch.randperm(samples, generator=generator)
        for k in range(step % per_epoch, per_epoch):
            yield order[k * batch_size : (k + 1) * batch_size]
            step += 1
