"""torchrun + DistributedDataParallel over gloo, one thread per worker.

Chosen for speed: gradients are views of the buckets (no copy), the graph is static, buffers are not broadcast in each
forward pass, batches are read by indexing tensors. The user's checkpoint is written by rank 0 and loaded by all.
"""

from __future__ import annotations

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks import works
from benchmarks.peers import batches, options, saving
from benchmarks.peers.record import Record


def main() -> None:
    arguments = options.parse(__doc__)
    work = works.get(arguments.work)
    dist.init_process_group("gloo")
    rank, workers = dist.get_rank(), dist.get_world_size()
    model = work.model()
    optimizer = work.optimizer(model.parameters())
    done = saving.load(arguments.checkpoint, model, optimizer)
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True, broadcast_buffers=False)
    x, y = work.data()
    record = Record()
    chosen = batches.indices(len(x), work.batch_size, done)
    for step, batch in zip(range(done + 1, arguments.steps + 1), chosen, strict=False):
        mine = batch[rank::workers]
        optimizer.zero_grad()
        work.loss(wrapped, x[mine], y[mine]).backward()
        optimizer.step()
        if rank == 0:
            if arguments.every and step % arguments.every == 0:
                saving.save(arguments.checkpoint, step, model, optimizer)
            record.step(step, workers)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
