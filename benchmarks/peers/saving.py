"""The checkpoint that a user of the peers writes: torch.save beside, then a rename."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def save(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    beside = path.with_suffix(".new")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, beside)
    beside.rename(path)


def load(path: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The step of the checkpoint at `path`, put into model and optimizer; 0 without one."""
    if path is None or not path.exists():
        return 0
    saved = torch.load(path, weights_only=True, mmap=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
