"""torchft 0.2: one replica group of one process; TORCHFT_LIGHTHOUSE names the lighthouse, REPLICA the replica.

Chosen for speed: gradients live in a few flat buffers of at most 25 MB which are all-reduced after the backward pass
(its own DistributedDataParallel may not rebuild buckets and waits for each of them), the quorum runs beside the forward
pass, buffers are not exchanged. Time-outs are set to seconds where the defaults are a minute. The global batch is
split over those who take part.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchft import Manager, ProcessGroupGloo

from benchmarks import works
from benchmarks.peers import batches, options, saving
from benchmarks.peers.record import Record

BUCKET_BYTES = 25 * 2**20


def flat_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Flat buffers of at most BUCKET_BYTES (or one parameter) of which every parameter's gradient is a view."""
    groups: list[list[nn.Parameter]] = []
    filled = BUCKET_BYTES
    for parameter in parameters:
        if filled + parameter.nbytes > BUCKET_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(parameter)
        filled += parameter.nbytes
    buffers = []
    for group in groups:
        buffer = torch.zeros(sum(parameter.numel() for parameter in group))
        for parameter, view in zip(group, buffer.split([parameter.numel() for parameter in group]), strict=True):
            parameter.grad = view.view_as(parameter)
        buffers.append(buffer)
    return buffers


def main() -> None:
    arguments = options.parse(__doc__)
    seconds = timedelta(seconds=float(os.environ.get("REPLICA_TIMEOUT_SECONDS", "5")))
    work = works.get(arguments.work)
    model = work.model()
    optimizer = work.optimizer(model.parameters())
    done = saving.load(arguments.checkpoint, model, optimizer)
    buffers = flat_gradients(model.parameters())

    def state() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    def load(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=seconds),
        load_state_dict=load,
        state_dict=state,
        min_replica_size=1,
        timeout=seconds,
        quorum_timeout=seconds,
        connect_timeout=seconds,
        rank=0,
        world_size=1,
        store_addr="localhost",
        store_port=store.port,
        replica_id=f"replica_{os.environ['REPLICA']}",
        hostname=socket.gethostname() if os.environ.get("REPLICA_HOSTNAME") else "localhost",
        init_sync=False,
    )
    manager.load_state_dict({"step": done, "batches_committed": 0})
    x, y = work.data()
    record = Record()
    per_epoch = len(x) // work.batch_size
    order: tuple[int, list[Tensor]] = (-1, [])
    while manager.current_step() < arguments.steps:
        manager.start_quorum()
        for buffer in buffers:
            buffer.zero_()
        epoch, k = divmod(manager.current_step(), per_epoch)
        if order[0] != epoch:
            chosen = batches.indices(len(x), work.batch_size, epoch * per_epoch)
            order = (epoch, [next(chosen) for _ in range(per_epoch)])
        # The share is that of the last quorum, known without waiting for this one.
        rank, workers = manager._participating_replica_rank or 0, max(1, manager._participating_replica_world_size)
        mine = order[1][k][rank::workers]
        work.loss(model, x[mine], y[mine]).backward()
        works_ = [manager.allreduce(buffer) for buffer in buffers]
        for reduction in works_:
            reduction.wait()
        if manager.should_commit():
            optimizer.step()
            step = manager.current_step()
            record.step(step, manager.num_participants())
            if arguments.every and step % arguments.every == 0 and manager.participating_rank() == 0:
                saving.save(arguments.checkpoint, step, model, optimizer)
    manager.shutdown(wait=False)
    os._exit(0)  # the process group's threads would hold the interpreter for the time-out


if __name__ == "__main__":
    main()
