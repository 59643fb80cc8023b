"""After the loop the model, the optimizer and the scheduler are the script's own again, whole and plain."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from springtide import train
from training import assert_same_state, cross_entropy, elastic, mlp, plain, points


def trained(**given: Any) -> tuple[nn.Sequential, optim.Optimizer, train.Run]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 1700), nn.BatchNorm1d(1700), nn.Linear(1700, 3), nn.Linear(3, 3))
    model[3].requires_grad_(False)
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    run = elastic(model, optimizer, points(), **{"steps": 3} | given)
    return model, optimizer, run


def in_arena(run: train.Run, tensor: Tensor) -> bool:
    arena = run._worker.arena  # type: ignore[union-attr]
    return arena.base <= tensor.data_ptr() < arena.base + arena.at.size


def tensors(model: nn.Module, optimizer: optim.Optimizer) -> list[Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*model.parameters(), *model.buffers(), *states]


@pytest.mark.parametrize("given", [{}, {"exact": False}, {"clip_norm": 1.0}])
def test_nothing_lies_in_the_arena_any_more(given: dict[str, Any]) -> None:
    model, optimizer, run = trained(**given)
    assert not any(in_arena(run, tensor) for tensor in tensors(model, optimizer))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_while_it_goes_on_the_parameters_do() -> None:
    model = mlp()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=1)
    for batch in run:
        assert all(in_arena(run, parameter) for parameter in model.parameters())
        run.backward(cross_entropy(model, batch))


def test_after_a_break_too() -> None:
    model = mlp()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=4)
    for batch in run:
        run.backward(cross_entropy(model, batch))
        if run.step == 2:
            break
    assert not any(in_arena(run, parameter) for parameter in model.parameters())


def test_the_arenas_memory_may_go_and_the_model_stays() -> None:
    model, optimizer, run = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arena = run._worker.arena  # type: ignore[union-attr]
    arena.bytes[arena.at.constants : arena.at.size] = b"\xff" * (arena.at.size - arena.at.constants)
    assert_same_state(model.state_dict(), before)
    assert all(value.isfinite().all() for value in tensors(model, optimizer) if value.is_floating_point())


@pytest.mark.parametrize("when", ["in the loop", "after it"])
def test_what_is_saved_is_small_and_complete(when: str) -> None:
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=1)
    saved = io.BytesIO()
    for batch in run:
        if when == "in the loop" and run.microbatch == 0:
            torch.save(model.state_dict(), saved)
        run.backward(cross_entropy(model, batch))
    if when == "after it":
        torch.save(model.state_dict(), saved)
    assert saved.tell() < 10_000
    saved.seek(0)
    found = torch.load(saved)
    assert list(found) == list(model.state_dict())
    if when == "after it":
        assert_same_state(found, model.state_dict())


def test_the_optimizers_state_is_complete_and_loads_into_a_plain_one() -> None:
    """Going on in a plain loop from what was saved is going on."""
    model, optimizer, _ = trained()
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    found = torch.load(saved)
    other, other_optimizer, _ = trained(steps=1, seed=9)
    other.load_state_dict(found["model"])
    other_optimizer.load_state_dict(found["optimizer"])
    for one, stepper in ((model, optimizer), (other, other_optimizer)):
        torch.manual_seed(0)
        cross_entropy(one, points()[:24]).backward()
        stepper.step()
    assert_same_state(model.state_dict(), other.state_dict())
    assert_same_state(optimizer.state_dict(), other_optimizer.state_dict())


def test_a_run_goes_on_from_a_run() -> None:
    """Train, then train further with the same objects: as in one plain loop over both."""
    make = lambda: (model := mlp(hidden=1700), optim.Adam(model.parameters(), 0.01, amsgrad=True))
    model, optimizer = make()
    first = elastic(model, optimizer, points(), steps=3, microbatches=1)
    second = elastic(model, optimizer, points(), steps=2, microbatches=1, seed=4)
    theirs, their_optimizer = make()
    plain(theirs, their_optimizer, points(), first)
    plain(theirs, their_optimizer, points(), second)
    assert_same_state(model.state_dict(), theirs.state_dict())
    assert_same_state(optimizer.state_dict(), their_optimizer.state_dict())


def test_the_schedulers_end_is_reached() -> None:
    model = mlp()
    optimizer = optim.SGD(model.parameters(), 0.4)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    elastic(model, optimizer, points(), steps=4, schedule=schedule)
    assert schedule.last_epoch == 4
    assert schedule.get_last_lr() == [0.0]
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_the_module_is_the_same_object_with_the_same_parameters() -> None:
    model = mlp()
    before = [id(parameter) for parameter in model.parameters()]
    keys = list(model.state_dict())
    elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=1)
    assert [id(parameter) for parameter in model.parameters()] == before
    assert list(model.state_dict()) == keys
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())
