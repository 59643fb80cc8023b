"""Trains on the loop's stream for ever: the bulk first, then what users corrected.

Three quarters of each batch are bulk, so that what is new does not drive out what is known.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from model import build
from sounds import WORDS
from torch.nn import functional

from springtide import data, train


class Bulk(torch.utils.data.Dataset):
    """The file's records as `sample` makes them of the stream's."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_bytes().splitlines()

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return sample(self.lines[number])


def sample(record: bytes) -> tuple[torch.Tensor, int]:
    """A record of the stream as tensors."""
    told = json.loads(record)
    return torch.tensor(told["x"], dtype=torch.float32), int(told["y"])


torch.manual_seed(0)
model = build(WORDS)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
records = data.stream(
    os.environ["TIDE_LOOP_STREAM"], decoder=sample, quarantine=os.environ["TIDE_LOOP_QUARANTINE"],
    mix=Bulk(Path(__file__).with_name("bulk.jsonl")), ratio=0.75,
)  # fmt: skip
run = train.Run(model, optimizer, records, batch_size=32, seed=0)
for x, y in run:
    run.backward(functional.cross_entropy(model(x), y))
