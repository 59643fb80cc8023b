"""Teaches the commands: `python train.py`, or with as many workers as there are: `tide run train.py --workers 1:2`."""

from __future__ import annotations

import argparse
import math

import corpus
import torch
from lessons import judge, loss_of, sequences, thinned
from voice_model import build

from springtide import train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=float, default=10)
said = parser.parse_args()


torch.manual_seed(0)
model = build()
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
lessons = sequences(corpus.training())
steps = math.ceil(said.epochs * len(lessons) / 32)


def pace(step: int) -> float:
    """A tenth of the way up, then down along a cosine: CTC says only blanks at first, and large steps keep it so."""
    done = step / steps
    return min(1.0, 10 * done + 0.01) * 0.5 * (1 + math.cos(math.pi * done))


run = train.Run(
    model,
    optimizer,
    lessons,
    batch_size=32,
    microbatches=4,
    steps=steps,
    schedule=pace,
    clip_norm=5.0,
    evaluate=train.Evaluate(sequences(corpus.checking()), judge, every=max(1, steps // 4)),
)
for heard, text in run:
    run.backward(loss_of(model.spell(thinned(heard.values)), text.values, text.mask))

if run.main:
    print(f"{run.metrics['accuracy']:.1%} of the commands of voices never heard before are understood")
