"""Fit a line: how far will a patient's diabetes have progressed in a year? Linear regression on 442 patients."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from springtide import train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
steps = parser.parse_args().steps

# Ten measurements per patient (age, sex, body mass, blood pressure, six blood serum values) and the progression after
# a year. Every fifth patient is held out; the scales come from the others alone.
measured, progression = load_diabetes(return_X_y=True, scaled=False)
x, x_held, y, y_held = (
    torch.tensor(part, dtype=torch.float32)
    for part in train_test_split(measured, progression, test_size=0.2, random_state=1)
)
x_mean, x_scale, y_mean, y_scale = x.mean(0), x.std(0), y.mean(), y.std()
x, x_held = (x - x_mean) / x_scale, (x_held - x_mean) / x_scale
y, y_held = ((part - y_mean).unsqueeze(1) / y_scale for part in (y, y_held))


def error(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """How far the line is from the patients: mean squared error in standard deviations, mean error as measured."""
    predicted = model(x)
    return {"squared": F.mse_loss(predicted, y), "error": F.l1_loss(predicted, y) * y_scale}


torch.manual_seed(0)
model = nn.Linear(10, 1)
run = train.Run(
    model,
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    TensorDataset(x, y),
    batch_size=64,
    steps=steps,
    schedule=lambda step: 1 - step / steps,
    evaluate=train.Evaluate(TensorDataset(x_held, y_held), error, every=50, best="squared", highest=False),
)
for a, b in run:
    run.backward(F.mse_loss(model(a), b))

if run.main:
    explained = 1 - run.metrics["squared"] / y_held.var(correction=0).item()
    print(f"{len(x_held)} patients held out: the line explains {explained:.0%} of what differs between them,")
    print(f"and misses by {run.metrics['error']:.0f} on average (progression runs from 25 to 346)")
