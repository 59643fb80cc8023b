"""Springtide: the training file of every work, for `tide run` and for `python`."""

from __future__ import annotations

from benchmarks import works
from benchmarks.peers import options
from benchmarks.peers.record import Record
from springtide import train

arguments = options.parse(__doc__)
work = works.get(arguments.work)
model = work.model()
run = train.Run(
    model,
    work.optimizer(model.parameters()),
    work.dataset(),
    batch_size=work.batch_size,
    microbatches=arguments.microbatches,
    exact=not arguments.fused,
    steps=arguments.steps,
)
record = Record()
for x, y in run:
    run.backward(work.loss(model, x, y))
    if run.microbatch == 0:
        record.step(run.step, 1)  # only where `python` runs this file: `tide run --json` says it better
