"""Training scripts of the storms: `tide run models.py MODEL STEPS`, or `python models.py MODEL STEPS`. Small and quick.

Between them: dropout, BatchNorm, Adam, clipping, tied and frozen parameters, parameters without a gradient in some
microbatches, uneven chunks, parameter groups, schedules, evaluation with the best kept, hooks, random samples.
"""

from __future__ import annotations

import sys

import no_compiler
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from springtide import train


def pictures(steps: int) -> train.Run:
    """BatchNorm, dropout, Adam, clipping; evaluation, the best kept, hooks."""
    x = torch.randn(384, 1, 6, 6)
    y = (x.mean((1, 2, 3)) * 20).long().clamp(-4, 5) + 4
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 600), nn.ReLU(),
        nn.Linear(600, 10),
    )  # fmt: skip

    def measure(model: nn.Module, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        out = model(a)
        return {"loss": F.cross_entropy(out, b), "accuracy": (out.argmax(1) == b).float().mean()}

    plan = train.Evaluate(TensorDataset(x[320:], y[320:]), measure, every=40, best="accuracy", batch_size=24)
    run = train.Run(
        model, torch.optim.Adam(model.parameters(), 1e-3), TensorDataset(x[:320], y[:320]), batch_size=32,
        microbatches=4, steps=steps, seed=3, clip_norm=1.0, evaluate=plan,
    )  # fmt: skip
    run.on_step(lambda: None)
    run.on_evaluate(lambda found: print("accuracy", found["accuracy"]))
    for a, b in run:
        run.backward(F.cross_entropy(model(a), b))
    return run


class Words(nn.Module):
    """An embedding tied to the head, a frozen table, a part used by some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(200, 24), nn.Embedding(6, 24)
        self.places.weight.requires_grad_(False)
        self.body, self.extra = nn.Linear(24, 24), nn.Linear(24, 24)
        self.norm, self.drop, self.head = nn.LayerNorm(24), nn.Dropout(0.1), nn.Linear(24, 200, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.embedding(tokens) + self.places(torch.arange(tokens.shape[1]))
        found = self.norm(found + torch.tanh(self.body(found)))
        if int(tokens.sum()) % 3 == 0:
            found = found + self.extra(found)
        return self.head(self.drop(found.mean(1)))


def words(steps: int) -> train.Run:
    """Tied, frozen and sometimes unused parameters; AdamW with groups, a schedule, clipping; eight microbatches."""
    tokens = torch.randint(0, 200, (400, 6))
    model = Words()
    groups = [
        {"params": [p for p in model.parameters() if p.requires_grad and p.dim() > 1]},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0, "lr": 3e-3},
    ]
    run = train.Run(
        model, torch.optim.AdamW(groups, 1e-3), TensorDataset(tokens, tokens[:, 0]), batch_size=32, microbatches=8,
        steps=steps, seed=4, clip_norm=0.5, schedule=lambda step: min(1.0, (step + 1) / 40),
    )  # fmt: skip
    for a, b in run:
        run.backward(F.cross_entropy(model(a), b))
    return run


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Each sample draws random numbers when it is fetched."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index] + 0.1 * torch.randn(16), self.y[index]


def uneven(steps: int) -> train.Run:
    """One large tensor, several tiny ones, no clipping: SGD with momentum and a torch scheduler; random samples."""
    x = torch.randn(200, 16)
    model = nn.Sequential(
        nn.Linear(16, 40), nn.BatchNorm1d(40), nn.Tanh(), nn.Linear(40, 3000), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(3000, 1), nn.PReLU(),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    run = train.Run(
        model, optimizer, Noisy(x, x.sum(1, keepdim=True)), batch_size=16, microbatches=4, steps=steps, seed=5,
        schedule=schedule,
    )  # fmt: skip
    for a, b in run:
        run.backward(F.mse_loss(model(a), b))
    return run


if __name__ == "__main__":
    no_compiler.install()
    torch.manual_seed(7)
    done = {"pictures": pictures, "words": words, "uneven": uneven}[sys.argv[1]](int(sys.argv[2]))
    if done.main:
        print(f"the end of {sys.argv[1]}")
