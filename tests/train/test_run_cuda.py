"""On a GPU: the same file trains alone and under `tide run`, and what it leaves is the script's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import running

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; torch sees none here"),
]

SCRIPT = """
import sys
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from springtide import train

torch.manual_seed(1)
drawn = torch.Generator().manual_seed(5)
x = torch.randn(256, 20, generator=drawn)
data = TensorDataset(x, (x[:, 0] > 0).long())
model = nn.Sequential(nn.Linear(20, 2000), nn.BatchNorm1d(2000), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2000, 2)).cuda()
optimizer = torch.optim.AdamW(model.parameters(), 0.01)
accuracy = lambda model, x, y: {"accuracy": (model(x).argmax(1) == y).double().mean()}
run = train.Run(
    model, optimizer, data, 64, epochs=6, microbatches=4, device="cuda", clip_norm=1.0, precision=sys.argv[1],
    evaluate=train.Evaluate(data, accuracy, best="accuracy"),
)
for x, y in run:
    assert x.is_cuda and y.is_cuda
    run.backward(F.cross_entropy(model(x).float(), y))
if run.main:
    assert run.metrics["accuracy"] > 0.9, run.metrics
    run.load_best()
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.is_cuda for tensor in tensors)
    assert all(state["exp_avg"].is_cuda for state in optimizer.state.values())
    F.cross_entropy(model(x.cuda()), y.cuda()).backward()
    optimizer.step()  # the optimizer goes on where the run has left it
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "gpu.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_alone_and_with_workers_that_come_and_go(script: Path, home: Path, precision: str) -> None:
    alone = running.alone(script, precision, home=home / "alone")
    assert (alone["state"], alone["steps"], alone["samples_lost"]) == ("done", 24, 0)
    run = running.Running(script, precision, home=home, workers="2")
    end = run.finish()
    assert end["state"] == "done", run.story()
    assert end["samples_lost"] == end["samples_twice"] == 0
    assert end["digest"] == alone["digest"]
