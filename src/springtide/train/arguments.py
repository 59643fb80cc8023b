"""The arguments of `train.Run`, and what is wrong with them in one sentence each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from springtide.spec import UserError
from springtide.train import update
from springtide.train.course import Schedule
from springtide.train.evaluation import Evaluate

_DEFAULT_MICROBATCHES = 8


@dataclass(frozen=True)
class Arguments:
    """As `train.Run` takes them, with what the launch overrides."""

    model: nn.Module
    optimizer: Optimizer
    dataset: Any
    batch_size: int
    microbatches: int | None
    epochs: float | None
    steps: int | None
    seed: int
    exact: bool
    schedule: Schedule
    clip_norm: float | None
    skip_nonfinite: bool
    precision: str
    evaluate: Evaluate | None
    collate: Callable[[list[Any]], Any] | None
    sample: float | None
    loading: str
    device: str
    threads: int
    hang_timeout_seconds: float | None


def check(given: Arguments) -> None:
    """UserError for the first thing that cannot work."""
    if not isinstance(given.model, nn.Module):
        raise UserError(f"model is {type(given.model).__name__}; give a torch.nn.Module")
    update.check(given.optimizer)
    if not hasattr(given.dataset, "__len__") or not hasattr(given.dataset, "__getitem__"):
        raise UserError(
            f"dataset is {type(given.dataset).__name__}; give a map-style Dataset, with a length and items by number"
        )
    if not isinstance(given.batch_size, int) or given.batch_size < 1:
        raise UserError(f"batch_size={given.batch_size!r}; give a whole number above 0")
    _check_length(given)
    if given.precision not in ("float32", "bfloat16"):
        raise UserError(f"precision={given.precision!r}; write 'float32' or 'bfloat16'")
    if given.clip_norm is not None and not given.clip_norm > 0:
        raise UserError(f"clip_norm={given.clip_norm}; give a norm above 0")
    if given.threads < 1:
        raise UserError(f"threads={given.threads}; a worker has at least 1")
    if given.sample is not None and not 0 < given.sample <= 1:
        raise UserError(f"sample={given.sample}; give a fraction of the data, above 0 and at most 1")
    if given.evaluate is not None and not isinstance(given.evaluate, Evaluate):
        raise UserError(f"evaluate is {type(given.evaluate).__name__}; give train.Evaluate(dataset, function)")
    _check_device(given)


def microbatches(batch_size: int, asked: int | None) -> int:
    """M: as asked, or the largest power of two not above 8 that divides the batch."""
    if asked is None:
        count = _DEFAULT_MICROBATCHES
        while batch_size % count:
            count //= 2
        return count
    if not isinstance(asked, int) or asked < 1:
        raise UserError(f"microbatches={asked!r}; give a whole number above 0")
    if batch_size % asked:
        near = min((m for m in range(1, batch_size + 1) if batch_size % m == 0), key=lambda m: (abs(m - asked), m))
        raise UserError(f"batch_size={batch_size} cannot be cut into {asked} equal microbatches; {near} would do")
    return asked


def trained(given: Arguments) -> tuple[list[tuple[str, Tensor, int]], list[tuple[str, Tensor]]]:
    """(name, tensor, optimizer group) of what the optimizer holds in model order, and (name, tensor) of the rest."""
    groups = {id(p): number for number, group in enumerate(given.optimizer.param_groups) for p in group["params"]}
    if not groups:
        raise UserError("the optimizer holds no parameters; make it from model.parameters()")
    parameters: list[tuple[str, Tensor, int]] = []
    constants: list[tuple[str, Tensor]] = []
    seen = set()
    for name, tensor in given.model.named_parameters():
        seen.add(id(tensor))
        if id(tensor) in groups:
            parameters.append((name, tensor, groups[id(tensor)]))
        else:
            constants.append((name, tensor))
    if not parameters:
        raise UserError("the optimizer holds none of the model's parameters; make it from this model's parameters()")
    others = [p for group in given.optimizer.param_groups for p in group["params"] if id(p) not in seen]
    parameters += [(f"optimizer_only.{k}", tensor, groups[id(tensor)]) for k, tensor in enumerate(others)]
    return parameters, constants


def tied(model: nn.Module) -> dict[str, str]:
    """Alias -> the name under which a shared parameter is kept."""
    first: dict[int, str] = {}
    aliases = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if id(tensor) in first:
            aliases[name] = first[id(tensor)]
        first.setdefault(id(tensor), name)
    return aliases


@contextmanager
def guarded(optimizer: Optimizer) -> Iterator[None]:
    """While the loop runs, a step or a new group of the user's own gets a sentence, and `zero_grad` does nothing."""
    original = optimizer.step

    @wraps(original)  # and with it the mark by which schedulers know a step that they watch
    def step(*_: Any, **__: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] in ("springtide", "torch"):
            return original(*_, **__)
        raise UserError(
            f"{_line()}: the run calls optimizer.step() itself, once all microbatches are in; delete the line"
        )

    def add_param_group(_: Any) -> None:
        raise UserError(
            f"{_line()}: add_param_group while the run goes on; give all groups to the optimizer before Run"
        )

    kept = dict(vars(optimizer))
    vars(optimizer).update(step=step, add_param_group=add_param_group, zero_grad=lambda set_to_none=True: None)
    try:
        yield
    finally:
        for name in ("step", "add_param_group", "zero_grad"):
            if name in kept:
                vars(optimizer)[name] = kept[name]
            else:
                vars(optimizer).pop(name, None)


def _line() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _check_length(given: Arguments) -> None:
    if (given.epochs is None) == (given.steps is None):
        raise UserError("give either epochs= or steps=, so that the run knows its end")
    if given.epochs is not None and not given.epochs > 0:
        raise UserError(f"epochs={given.epochs}; give a number above 0")
    if given.steps is not None and (not isinstance(given.steps, int) or given.steps < 1):
        raise UserError(f"steps={given.steps!r}; give a whole number above 0")


def _check_device(given: Arguments) -> None:
    if given.device == "cpu":
        return
    if not given.device.startswith("cuda"):
        raise UserError(f"device='{given.device}'; write 'cpu', 'cuda' or 'cuda:0'")
    if not torch.cuda.is_available():
        raise UserError(f"device='{given.device}', but torch sees no GPU here; write device='cpu'")
    if any(parameter.device.type != "cuda" for parameter in given.model.parameters()):
        raise UserError(f"device='{given.device}', but the model is on the CPU; call model.to('{given.device}') first")
