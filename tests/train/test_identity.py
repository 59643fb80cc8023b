"""Fingerprints: equal for equal things, in every process; different for what changes bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

from springtide import train
from springtide.train import identity
from training import mlp, points


def test_a_model_is_named_by_names_shapes_types_and_values() -> None:
    first = identity.of_model(mlp())
    assert identity.of_model(mlp()) == first
    others: list[Callable[[nn.Module], object]] = [
        lambda model: model[0].bias.data.add_(1e-6),
        lambda model: model.double(),
        lambda model: model.register_buffer("mask", torch.zeros(())),
        lambda model: model.register_parameter("extra", nn.Parameter(torch.zeros(0))),
    ]
    names = {first}
    for change in others:
        model = mlp()
        change(model)
        names.add(identity.of_model(model))
    assert len(names) == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float64, torch.complex64])
def test_values_of_any_type_count(dtype: torch.dtype) -> None:
    def named(value: int) -> str:
        model = nn.Module()
        model.register_buffer("b", torch.tensor([value, 0]).to(dtype))
        return identity.of_model(model)

    assert named(0) != named(1)


def test_an_optimizer_is_named_by_class_settings_and_kernels() -> None:
    def named(make: Callable[[Any], optim.Optimizer]) -> str:
        return identity.of_optimizer(make(mlp().parameters()))

    makes: list[Callable[[Any], optim.Optimizer]] = [
        lambda p: optim.Adam(p), lambda p: optim.AdamW(p), lambda p: optim.Adam(p, 0.1),
        lambda p: optim.Adam(p, fused=True), lambda p: optim.Adam(p, foreach=True),
        lambda p: optim.Adam([{"params": list(p), "weight_decay": 0.1}]),
    ]  # fmt: skip
    names = [named(make) for make in makes]
    assert names == [named(make) for make in makes]
    assert len(set(names)) == len(makes)


def test_which_parameter_is_in_which_group_counts() -> None:
    def named(first: int) -> dict[str, Any]:
        model = mlp()
        parameters = list(model.parameters())
        groups = [{"params": parameters[:first]}, {"params": parameters[first:], "lr": 0.5}]
        run = train.Run(model, optim.SGD(groups, 0.1), points(), 24, steps=1)
        train.run._active.clear()
        return run._assembly.identity()

    assert named(1) == named(1)
    assert named(1) != named(3)
