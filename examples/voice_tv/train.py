"""Teaches the commands: `python train.py`, or with as many workers as there are: `tide run train.py --workers 1:2`.

In a loop (`loop.yaml`) it goes on from the model that it is told, on what users correct, for ever.
"""

from __future__ import annotations

import argparse
import math
import os

import corpus
import torch
from corrections import sample
from lessons import Recordings, judge, loss_of, sequences, together
from safetensors.torch import load_file
from voice_model import Voice, build

from springtide import data, train

BATCH, MICROBATCHES = 32, 4
# Fifteen old recordings for each that users send, so that what is new does not drive out what is known.
OLD = 15 / 16

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=float, default=10)
parser.add_argument("--begin", metavar="FILE", help="the weights of a version to go on from")
said = parser.parse_args()


def from_the_start(model: Voice) -> train.Run:
    """All that the corpus has, so often."""
    lessons = sequences(corpus.training())
    steps = math.ceil(said.epochs * len(lessons) / BATCH)

    def pace(step: int) -> float:
        """A tenth of the way up, then down along a cosine: too large steps at first, and CTC keeps to blanks."""
        return min(1.0, 10 * step / steps + 0.01) * 0.5 * (1 + math.cos(math.pi * step / steps))

    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
    check = train.Evaluate(sequences(corpus.checking()), judge, every=max(1, steps // 4))
    return train.Run(
        model, optimizer, lessons, batch_size=BATCH, microbatches=MICROBATCHES, steps=steps, schedule=pace,
        clip_norm=5.0, evaluate=check,
    )  # fmt: skip


def from_users(model: Voice, stream: str) -> train.Run:
    """What users say and correct, each once, among recordings of the corpus."""
    corrected = data.stream(
        stream, decoder=sample, quarantine=os.environ.get("TIDE_LOOP_QUARANTINE"), mix=Recordings(corpus.training()),
        ratio=OLD, on_bad="skip",
    )  # fmt: skip
    # Not Adam: its steps are as large where there is nothing to learn, and what was known suffers by that.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    return train.Run(
        model, optimizer, corrected, batch_size=2 * BATCH, microbatches=MICROBATCHES, clip_norm=1.0, collate=together,
    )  # fmt: skip


torch.manual_seed(0)
model = build()
if said.begin:
    model.load_state_dict(load_file(said.begin))
stream = os.environ.get("TIDE_LOOP_STREAM")
run = from_users(model, stream) if stream else from_the_start(model)
for heard, text in run:
    model.learn(text.values.tolist())
    run.backward(loss_of(model, heard, text))

if run.main and run.metrics:
    print(f"{run.metrics['accuracy']:.1%} of the commands of voices never heard before are understood")
