"""The arguments of `train.Run`, and what is wrong with them in one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from operator import index
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from springtide.data.streams.source import Source
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


def check(given: Arguments) -> Arguments:
    """The arguments, numbers of other libraries made Python's own. UserError for the first thing that cannot work."""
    _check_model(given.model)
    update.check(given.optimizer)
    _check_dataset(given.dataset)
    given = replace(
        given,
        batch_size=_whole("batch_size", given.batch_size),
        microbatches=_unless_none(_whole, "microbatches", given.microbatches),
        epochs=_unless_none(_above, "epochs", given.epochs),
        steps=_unless_none(_whole, "steps", given.steps),
        seed=_whole("seed", given.seed, least=None),
        exact=_flag("exact", given.exact),
        clip_norm=_unless_none(_above, "clip_norm", given.clip_norm),
        skip_nonfinite=_flag("skip_nonfinite", given.skip_nonfinite),
        sample=_unless_none(_share, "sample", given.sample),
        threads=_whole("threads", given.threads),
        hang_timeout_seconds=_unless_none(_above, "hang_timeout_seconds", given.hang_timeout_seconds),
    )
    if isinstance(given.dataset, Source):
        _check_stream(given)
    elif (given.epochs is None) == (given.steps is None):
        raise UserError("give either epochs= or steps=, so that the run knows its end")
    if given.precision not in ("float32", "bfloat16"):
        raise UserError(f"precision={given.precision!r}; write 'float32' or 'bfloat16'")
    if given.collate is not None and not callable(given.collate):
        raise UserError(f"collate is {_kind(given.collate)}; give a function that makes a batch of a list of samples")
    if given.evaluate is not None and not isinstance(given.evaluate, Evaluate):
        raise UserError(f"evaluate is {_kind(given.evaluate)}; give train.Evaluate(dataset, function)")
    if not isinstance(given.loading, str):
        raise UserError(f"loading={given.loading!r}; write 'auto', 'main', 'thread' or 'process:2'")
    _check_device(given)
    return given


def microbatches(batch_size: int, asked: int | None) -> int:
    """M: as asked, or the largest power of two not above 8 that divides the batch."""
    if asked is None:
        count = _DEFAULT_MICROBATCHES
        while batch_size % count:
            count //= 2
        return count
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


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {_kind(model)}; give a torch.nn.Module")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise UserError(f"'{name}' of the model has no shape yet; run one batch through the lazy layers before Run")


def _check_stream(given: Arguments) -> None:
    if given.epochs is not None:
        raise UserError("a stream has no epochs; give steps=, or an end of the stream's own: data.stream(records=...)")
    if given.sample is not None:
        raise UserError(f"sample={given.sample} is a share of a set, and a stream has no end; give steps= instead")
    if given.evaluate is not None and given.evaluate.every == "epoch":
        raise UserError("a stream has no epochs; give train.Evaluate(..., every=500), in steps, or every='end'")


def _check_dataset(dataset: Any) -> None:
    if isinstance(dataset, Source):
        return
    wanted = "give a map-style Dataset, with a length and items by number"
    if isinstance(dataset, DataLoader):
        raise UserError("dataset is a DataLoader; give the Dataset itself, the run makes the batches")
    if isinstance(dataset, IterableDataset | str | bytes | Mapping):
        raise UserError(f"dataset is {_kind(dataset)}; {wanted}")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UserError(f"dataset is {_kind(dataset)}; {wanted}")


def _check_device(given: Arguments) -> None:
    kind = given.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device='{given.device}'; write 'cpu', 'cuda' or 'cuda:0'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device='{given.device}', but torch sees no GPU here; write device='cpu'")
    for name, parameter in given.model.named_parameters():
        if parameter.device.type != kind:
            raise UserError(
                f"device='{given.device}', but parameter '{name}' is on {parameter.device}; call "
                f"model.to('{given.device}') before the optimizer is made, or write device='{parameter.device}'"
            )


def _whole(name: str, value: Any, least: int | None = 1) -> int:
    try:
        found = index(value) if not isinstance(value, bool) else None
    except TypeError:
        found = None
    if found is None or (least is not None and found < least):
        raise UserError(f"{name}={value!r}; give a whole number{'' if least is None else ' above 0'}")
    return found


def _above(name: str, value: Any) -> float:
    number = _number(value)
    if number is None or not number > 0 or not isfinite(number):
        raise UserError(f"{name}={value!r}; give a number above 0")
    return number


def _share(name: str, value: Any) -> float:
    number = _number(value)
    if number is None or not 0 < number <= 1:
        raise UserError(f"{name}={value!r}; give a fraction of the data, above 0 and at most 1 (0.01 is 1%)")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r}; write True or False")
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        return None


def _unless_none(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    return None if value is None else check(name, value)


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
