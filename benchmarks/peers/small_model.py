"""The model that all servers of the benchmark answer with: a classifier of 1.2 million parameters."""

from __future__ import annotations

import torch

INPUTS, HIDDEN, OUTPUTS = 128, 1024, 10


def build() -> torch.nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    layers = torch.nn
    return layers.Sequential(
        layers.Linear(INPUTS, HIDDEN), layers.ReLU(), layers.Linear(HIDDEN, HIDDEN), layers.ReLU(),
        layers.Linear(HIDDEN, OUTPUTS),
    ).eval()  # fmt: skip
