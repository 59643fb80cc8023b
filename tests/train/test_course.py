"""The optimizer's settings at each step are part of the state, whoever made the step before."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from test_run_plain import SCHEDULERS
from torch import nn, optim

from springtide.spec import UserError
from springtide.train.course import Settings


def made(name: str) -> tuple[optim.Optimizer, Any, Settings]:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    optimizer = optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.03}], 0.1, momentum=0.9)
    schedule = SCHEDULERS[name](optimizer)
    optimizer._opt_called = True  # type: ignore[attr-defined]
    return optimizer, schedule, Settings(schedule, optimizer)


def rates(optimizer: optim.Optimizer) -> list[tuple[float, float]]:
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_travels_whole(name: str) -> None:
    """Each step is left by another worker than the one before, and read by a joiner that has seen none."""
    plain, schedule, _ = made(name)
    workers = [made(name) for _ in range(3)]
    carried = json.loads(json.dumps(workers[0][2].first()))
    for step in range(1, 15):
        optimizer, _, settings = workers[step * 7 % 3]
        settings.enter(step, lambda: carried)  # noqa: B023
        assert rates(optimizer) == rates(plain), step
        left = json.loads(json.dumps(settings.leave()))
        assert rates(optimizer) == rates(plain)  # other chunks of this step may be to do
        schedule.step()
        carried = left
        if step % 4 == 0:
            workers[step % 3] = made(name)


def test_a_function_of_the_step_needs_nothing_but_the_step() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = optim.SGD([parameter], 0.1)
    settings = Settings(lambda step: 0.5**step, optimizer)
    assert not settings.travels
    assert settings.first() == settings.leave() == {}
    for step in (1, 5, 2):
        settings.enter(step, dict)
        assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5 ** (step - 1)


def test_rates_that_are_tensors_follow_a_function() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(2))], torch.tensor(0.1))
    settings = Settings(lambda step: 0.5, optimizer)
    settings.enter(1, dict)
    settings.enter(2, dict)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.05)


class Paceless(optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


def test_what_cannot_be_followed_gets_a_sentence() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(2))], 0.1)
    other = optim.SGD([nn.Parameter(torch.zeros(2))], 0.1)
    by_tensor = optim.SGD([nn.Parameter(torch.zeros(2))], torch.tensor(0.1))
    cases: list[tuple[Any, optim.Optimizer, str]] = [
        (optim.lr_scheduler.StepLR(other, 1), optimizer, "schedule= belongs to another optimizer"),
        (optim.lr_scheduler.ReduceLROnPlateau(optimizer), optimizer, "ReduceLROnPlateau waits for a metric"),
        (optim.lr_scheduler.StepLR(by_tensor, 1), by_tensor, "a learning rate that is a tensor"),
        (0.5, optimizer, "schedule is float; give a function of the step"),
        (lambda step: 1.0, Paceless([nn.Parameter(torch.zeros(2))]), "Paceless has none"),
    ]
    for schedule, given, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            Settings(schedule, given)
    with pytest.raises(UserError, match="returned NoneType for step 2; return a number"):
        Settings(lambda step: None, optimizer).enter(3, dict)  # type: ignore[arg-type, return-value]
