"""The state in the arena as named tensors: saved, loaded elsewhere, and gone on from, it is the same state."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from springtide import train
from springtide.spec import UserError
from springtide.train import assembly as assemblies
from springtide.train import checkpoint
from springtide.train.checkpoint import ManifestFields, Order
from springtide.train.inventory import Inventory
from springtide.train.tensors import Stored, digest, lay_out, parse
from training import assert_same_state, cross_entropy, forget, mlp, points


class Everything(nn.Module):
    """Tied, frozen, of no dimension, of no element, of several types; buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 1700), nn.Linear(1700, 3)
        self.middle = nn.Linear(3, 3).bfloat16()
        self.scale, self.nothing = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.empty(0, 4))
        self.frozen = nn.Parameter(torch.arange(5.0), requires_grad=False)
        self.alias = self.first
        self.now_and_then = nn.Parameter(torch.zeros(3))
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("passing", torch.zeros(3), persistent=False)
        self.register_buffer("flag", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.last(torch.tanh(self.first(x)))) * self.scale
        self.passing = out.detach().mean(0)
        self.flag = ~self.flag
        return out + self.middle(out.bfloat16()).float() + (self.now_and_then if x[0, 0] > 1 else 0)


OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: optim.Adam(p, 0.01),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5),
    "asgd": lambda p: optim.ASGD(p, 0.01, t0=1),
    "adafactor": lambda p: optim.Adafactor(p, 0.01),
    "adagrad": lambda p: optim.Adagrad(p, 0.01),
}


def a_run(kind: str, steps: int) -> tuple[nn.Module, optim.Optimizer, train.Run]:
    forget()
    torch.manual_seed(1)
    model = Everything()
    optimizer = OPTIMIZERS[kind]([p for p in model.parameters() if p.requires_grad])
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    accuracy = lambda model, x, y: {"accuracy": (model(x).argmax(1) == y).double().mean()}
    plan = train.Evaluate(points(40, seed=7), accuracy, every=2, best="accuracy")
    given: Any = {"steps": steps, "microbatches": 4, "schedule": schedule, "evaluate": plan, "clip_norm": 1.0}
    return model, optimizer, train.Run(model, optimizer, points(), 24, **given)


def loop(model: nn.Module, run: train.Run) -> None:
    for batch in run:
        run.backward(cross_entropy(model, batch))


def stored(run: train.Run) -> dict[str, Stored]:
    """As a file of the state would hold it."""
    worker = run._worker
    assert worker is not None
    tensors = run._assembly.inventory.tensors(worker.arena, worker.reached[1])
    return parse(memoryview(b"".join(lay_out(tensors).blocks())), "here")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_loaded_into_another_arena_has_the_same_digest(kind: str) -> None:
    model, _, run = a_run(kind, steps=3)
    loop(model, run)
    worker, inventory = run._worker, run._assembly.inventory
    assert worker is not None
    expected = digest(inventory.tensors(worker.arena, worker.reached[1]))
    found = stored(run)
    model, _, run = a_run(kind, steps=3)
    arena = run._assembly._alone()
    again = Inventory.parse(json.loads(json.dumps(run._assembly.inventory.document())))
    assert digest(again.tensors(arena, 0)) != expected
    again.load(arena, 0, found, step=3)
    assert digest(again.tensors(arena, 0)) == expected
    lay = run._assembly.layout
    changed = arena.view(arena.at.buffers[0] + lay.changed_offset, len(lay.buffers))
    assert changed.tolist() == [4] * len(lay.buffers)  # private copies of an earlier state are told apart from it
    os.close(arena.descriptor)


def test_names_are_those_of_the_modules_state_dict() -> None:
    model, _, run = a_run("adam", steps=3)
    loop(model, run)
    found = stored(run)
    of_model = {name.removeprefix("model.") for name in found if name.startswith("model.")}
    tied = run._assembly.inventory.tied
    assert tied == {"alias.weight": "first.weight", "alias.bias": "first.bias"}
    assert of_model == set(model.state_dict()) - set(tied)
    assert {"buffer.passing", "optimizer.first.weight.exp_avg", "optimizer.scale.step"} <= set(found)
    assert "optimizer.nothing.exp_avg" not in found
    for name in of_model:
        theirs = model.state_dict()[name].contiguous().reshape(-1)
        assert bytes(found[f"model.{name}"].data) == bytes(theirs.view(torch.uint8).tolist() if len(theirs) else [])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_been(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, run = a_run(kind, steps=7)
    loop(model, run)
    undisturbed = run.metrics, stored(run)
    run.load_best()
    best = {name: value.clone() for name, value in model.state_dict().items()}

    early, _, run = a_run(kind, steps=7)
    for batch in run:
        run.backward(cross_entropy(early, batch))
        if run.step == 4:
            break
    worker, assembly = run._worker, run._assembly
    assert worker is not None
    step, buffer = worker.reached
    assert step == 3
    order = Order(fingerprint="f", seed=0, batch_size=24, microbatches=4)
    position = worker.arena.position(buffer)
    about = ManifestFields(name="n", run_id="r", step=step, order=order, position=position)
    written = checkpoint.write(tmp_path, assembly.inventory.tensors(worker.arena, buffer), about)
    if assembly.inventory.best(worker.arena) and position.get("record", {}).get("best"):
        about = ManifestFields(name="n", run_id="r", step=position["record"]["best"]["step"], order=order)
        checkpoint.write(tmp_path / "best", assembly.inventory.best(worker.arena), about)

    initialise = assemblies.Assembly.initialise
    monkeypatch.setattr(
        assemblies.Assembly, "initialise", lambda self, arena, resume: initialise(self, arena, written.path)
    )
    late, _, run = a_run(kind, steps=7)
    steps = []
    for batch in run:
        steps.append(run.step)
        run.backward(cross_entropy(late, batch))
    assert sorted(set(steps)) == [4, 5, 6, 7]
    assert run.metrics == undisturbed[0]
    found = stored(run)
    assert found.keys() == undisturbed[1].keys()
    assert all(bytes(found[name].data) == bytes(undisturbed[1][name].data) for name in found)
    run.load_best()
    assert_same_state(late.state_dict(), best)


def test_a_checkpoint_of_another_model_names_the_tensors() -> None:
    model, _, run = a_run("adam", steps=1)
    loop(model, run)
    found = stored(run)
    forget()
    other = mlp(hidden=1700)
    run = train.Run(other, optim.Adam(other.parameters()), points(), 24, steps=1)
    arena = run._assembly._alone()
    with pytest.raises(UserError) as told:
        run._assembly.inventory.load(arena, 0, found, 1)
    sentence = str(told.value)
    assert sentence.startswith("the checkpoint is of another model: ")
    assert "model.first.weight is not in this run" in sentence
    assert "more; take the script that wrote it, or --fresh" in sentence
    smaller = {name: one for name, one in found.items() if name != "model.scale"}
    smaller["model.last.bias"] = Stored("F64", (3,), memoryview(bytes(24)))
    model, _, run = a_run("adam", steps=1)
    with pytest.raises(UserError) as told:
        run._assembly.inventory.load(run._assembly._alone(), 0, smaller, 1)
    assert "model.scale is not in it" in str(told.value)
    assert "model.last.bias is F64 [3] there, F32 [3] here" in str(told.value)
    os.close(arena.descriptor)
