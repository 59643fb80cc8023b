"""Springtide: sequences in batches of similar length."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.peers import options, sentences
from benchmarks.peers.record import Record
from springtide import data, train

arguments = options.parse(__doc__)
torch.manual_seed(0)
model = sentences.Reader()
words, classes = sentences.sentences()
samples = [(sentence.numpy(), int(kind)) for sentence, kind in zip(words, classes, strict=True)]
run = train.Run(
    model,
    torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    data.by_length(samples, [len(sentence) for sentence in words]),
    batch_size=sentences.BATCH_SIZE,
    microbatches=arguments.microbatches,
    steps=arguments.steps,
)
record = Record()
for (values, mask), kinds in run:
    lengths = mask.sum(1)
    run.backward(F.cross_entropy(model(values, lengths), kinds))
    record.words(int(lengths.sum()), values.numel())
    if run.microbatch == 0:
        record.step(run.step, 1)  # only where `python` runs this file: `tide run --json` says it better
