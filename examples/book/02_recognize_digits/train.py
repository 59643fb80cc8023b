"""Recognize digits: a small convolutional network on 1,797 scans of handwriting, checked on 360 that it never saw."""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from springtide import train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=400)
steps = parser.parse_args().steps

# Scans of 8 by 8 pixels in 17 shades of grey. A fifth is held out, with as many of each digit.
images, digits = load_digits(return_X_y=True)
parts = train_test_split(images, digits, test_size=360, random_state=0, stratify=digits)
x, x_held, y, y_held = map(torch.tensor, parts)
x, x_held = (part.float().view(-1, 1, 8, 8) / 16 for part in (x, x_held))

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.25),
    nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.25),
    nn.Linear(64, 10),
)  # fmt: skip


def judge(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Mean loss and share of digits read correctly."""
    scores = model(x)
    return {"loss": F.cross_entropy(scores, y), "accuracy": (scores.argmax(1) == y).float().mean()}


run = train.Run(
    model,
    torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01),
    TensorDataset(x, y),
    batch_size=128,
    steps=steps,
    schedule=lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)),
    evaluate=train.Evaluate(TensorDataset(x_held, y_held), judge, every=50, best="accuracy"),
)
for a, b in run:
    run.backward(F.cross_entropy(model(a), b))

if run.main:
    wrong = round((1 - run.metrics["accuracy"]) * len(x_held))
    print(f"{run.metrics['accuracy']:.1%} of {len(x_held)} held-out digits read correctly ({wrong} wrong)")
