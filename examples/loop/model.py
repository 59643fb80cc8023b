"""The model: sixteen numbers in, a word out; with what the server needs to make a tensor of a request, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Hearing(nn.Module):
    """`forward(x)`: [batch, 16] -> [batch, words]."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = tuple(words)
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, len(words)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def preprocess(self, body: dict[str, Any]) -> dict[str, torch.Tensor]:
        """`{"sound": [16 numbers]}` of one request."""
        return {"x": torch.tensor(body["sound"], dtype=torch.float32)}

    def postprocess(self, output: torch.Tensor) -> str:
        """The word of one output."""
        return self.words[int(output.argmax())]


def build(words: Sequence[str]) -> Hearing:
    """What the loop's file names as `build`."""
    return Hearing(words)
