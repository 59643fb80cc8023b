"""What the benchmarks train: the same models, data, loss and optimizer for every system.

Data are random numbers of the right shape: speed does not depend on what they mean, and nothing has to be downloaded.
Sizes are chosen so that a step of one process with all threads of a two-core machine takes about 70 ms (mlp) to
200 ms (cnn, lstm), the range in which both the arithmetic and the exchange of gradients can be seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A model, its data and the global batch of one step.

    `model()` and `data()` build from the seed 0, so every process gets the same. `data()` holds whole samples along the
    first axis: inputs, then targets (class numbers).
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    batch_size: int
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(
        parameters, lr=0.01, momentum=0.9
    )

    def dataset(self) -> TensorDataset:
        return TensorDataset(*self.data())

    @staticmethod
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)


class Reader(nn.Module):
    """Two LSTM layers over a sequence of word numbers; the last hidden state decides."""

    def __init__(self, words: int = 4000, size: int = 256, classes: int = 10) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.lstm = nn.LSTM(size, size, num_layers=2, batch_first=True)
        self.head = nn.Linear(size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


def _convolutional() -> nn.Module:
    def block(of: int, to: int) -> list[nn.Module]:
        return [nn.Conv2d(of, to, 3, padding=1), nn.BatchNorm2d(to), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(3, 32), *block(32, 64), *block(64, 128), nn.Flatten(), nn.Linear(128 * 16, 10))


def _layers(*sizes: int) -> nn.Module:
    """Linear layers of these sizes with ReLU between them."""
    pairs = itertools.pairwise(sizes)
    parts = [part for of, to in pairs for part in (nn.Linear(of, to), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def _seeded(build: Callable[[], T]) -> Callable[[], T]:
    def built() -> T:
        torch.manual_seed(0)
        return build()

    return built


def _numbers(*shape: int, classes: int = 10, samples: int = 4096) -> Callable[[], tuple[Tensor, Tensor]]:
    return _seeded(lambda: (torch.randn(samples, *shape), torch.randint(classes, (samples,))))


def _words(length: int, words: int = 4000, samples: int = 4096) -> Callable[[], tuple[Tensor, Tensor]]:
    return _seeded(lambda: (torch.randint(words, (samples, length)), torch.randint(10, (samples,))))


def sized(parameters: int) -> Work:
    """A work of about `parameters` parameters in which arithmetic is small: what moves state is what is measured."""
    width = max(8, round((parameters / 4) ** 0.5))
    return Work(
        f"params:{parameters}",
        f"{parameters:.0e} parameters",
        _seeded(lambda: _layers(width, width, width, width, width)),
        _numbers(width, classes=width, samples=256),
        batch_size=64 if parameters <= 2e7 else 16,
    )


WORKS = {
    work.name: work
    for work in (
        Work(
            "mlp",
            "MLP, 10M parameters",
            _seeded(lambda: _layers(784, 2048, 2048, 2048, 10)),
            _numbers(784),
            batch_size=256,
        ),
        Work("cnn", "CNN, 3 blocks, 32x32", _seeded(_convolutional), _numbers(3, 32, 32), batch_size=384),
        Work("lstm", "LSTM, 2 layers, 64 words", _seeded(Reader), _words(64), batch_size=128),
        Work(
            "small", "MLP, 1M parameters", _seeded(lambda: _layers(784, 1024, 256, 10)), _numbers(784), batch_size=128
        ),
        Work("tiny", "MLP, 10,000 parameters", _seeded(lambda: _layers(64, 96, 36, 10)), _numbers(64), batch_size=64),
    )
}


def get(name: str) -> Work:
    """The work of that name; `params:N` has about N parameters."""
    kind, _, number = name.partition(":")
    return sized(int(float(number))) if kind == "params" else WORKS[name]
