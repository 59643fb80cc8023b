"""A plain loop in one process, with as many threads as OMP_NUM_THREADS says.

`--loading index` reads a batch by indexing the tensors, the fastest there is; `--loading loader` by a DataLoader in the
main process, as most files are written.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import works
from benchmarks.peers import batches, options, saving
from benchmarks.peers.record import Record


def read(work: works.Work, how: str) -> Iterator[tuple[Tensor, Tensor]]:
    if how == "loader":
        loader = DataLoader(work.dataset(), batch_size=work.batch_size, shuffle=True, drop_last=True)
        while True:
            yield from loader
    x, y = work.data()
    for chosen in batches.indices(len(x), work.batch_size):
        yield x[chosen], y[chosen]


def main() -> None:
    arguments = options.parse(__doc__)
    work = works.get(arguments.work)
    torch.manual_seed(0)
    model = work.model()
    optimizer = work.optimizer(model.parameters())
    record = Record()
    for step, (x, y) in zip(range(1, arguments.steps + 1), read(work, arguments.loading), strict=False):
        optimizer.zero_grad()
        work.loss(model, x, y).backward()
        optimizer.step()
        if arguments.every and step % arguments.every == 0:
            saving.save(arguments.checkpoint, step, model, optimizer)
        record.step(step, 1)


if __name__ == "__main__":
    main()
