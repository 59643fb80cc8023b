"""Small models and runs in this process, and the plain PyTorch loop that they are held against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from springtide import train
from springtide.train import randomness
from springtide.train import run as runs

Body = Callable[[nn.Module, Any], Tensor]


def forget() -> None:
    """Let the next script begin in this process: one Run a process is a rule for users, not for tests."""
    while runs._active:
        worker = runs._active.pop()._worker
        if worker is not None:
            worker.job.loader.close()
            with suppress(OSError):
                os.close(worker.arena.descriptor)


@contextmanager
def another() -> Iterator[None]:
    """A further script in the same test."""
    forget()
    yield
    forget()


def points(count: int = 96, inputs: int = 20, classes: int = 3, seed: int = 5) -> TensorDataset:
    """A classification problem."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=drawn)
    return TensorDataset(x, torch.randint(0, classes, (count,), generator=drawn))


def mlp(inputs: int = 20, hidden: int = 40, classes: int = 3, seed: int = 1, bias: bool = True) -> nn.Sequential:
    """Two layers, the same each time."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden, bias=bias), nn.Tanh(), nn.Linear(hidden, classes, bias=bias))


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x).float(), y)


def elastic(
    model: nn.Module, optimizer: Optimizer, dataset: Any, body: Body = cross_entropy, batch_size: int = 24, **given: Any
) -> train.Run:
    """A whole script: Run, the loop, and what follows it is the caller's."""
    forget()
    run = train.Run(model, optimizer, dataset, batch_size, **given)
    for batch in run:
        run.backward(body(model, batch))
    return run


def plain(
    model: nn.Module,
    optimizer: Optimizer,
    dataset: TensorDataset,
    run: train.Run,
    body: Body = cross_entropy,
    after: Callable[[int], object] = lambda step: None,
    autocast: bool = False,
) -> None:
    """The loop that everybody writes, over the samples of `run` in its order, with its random numbers."""
    recipe = run._assembly.recipe
    for step in range(1, run.steps + 1):
        optimizer.zero_grad()
        for m in range(recipe.microbatches):
            index = torch.from_numpy(run.order.indices(step, m))
            batch = [tensor[index] for tensor in dataset.tensors]
            randomness.seed_all(randomness.key(recipe.seed, randomness.COMPUTE, step, m))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = body(model, batch)
            (loss / recipe.microbatches if recipe.microbatches > 1 else loss).backward()
        optimizer.step()
        after(step)


def assert_same_state(mine: Any, theirs: Any, where: str = "state") -> None:
    """Equal to the last bit, tensors and numbers alike."""
    if isinstance(theirs, Tensor):
        assert isinstance(mine, Tensor), where
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), where
        assert torch.equal(mine, theirs), f"{where}: {(mine - theirs).abs().max()}"
    elif isinstance(theirs, dict):
        assert list(mine) == list(theirs) or set(mine) == set(theirs), f"{where}: {list(mine)} against {list(theirs)}"
        for name in theirs:
            assert_same_state(mine[name], theirs[name], f"{where}.{name}")
    elif isinstance(theirs, list | tuple):
        assert len(mine) == len(theirs), where
        for number, (left, right) in enumerate(zip(mine, theirs, strict=True)):
            assert_same_state(left, right, f"{where}[{number}]")
    else:
        assert mine == theirs, f"{where}: {mine!r} against {theirs!r}"
