"""What a module scores on held-out records: by a function of the user's, by its own `evaluate`, or by right answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from springtide.serve.build import same_numbers
from springtide.serve.judging import Scores, Slice
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    import torch

Record = dict[str, Any]
Scorer = Callable[["torch.nn.Module", list[Record]], Any]


def scores(module: torch.nn.Module, records: list[Record], scorer: Scorer | None, what: str) -> Scores:
    """The module's scores, with the same random numbers each time. UserError: what was returned is none."""
    import torch

    own = getattr(module, "evaluate", None)
    with torch.inference_mode(), same_numbers():
        if scorer is not None:
            said = scorer(module, records)
        elif own is not None:
            said = own(records)
        else:
            said = right_answers(module, records)
    return read(said, len(records), what)


def read(said: Any, count: int, what: str) -> Scores:
    """Scores out of `{"metrics": ..., "count": n, "slices": {name: {"metrics": ..., "count": n}}}`, or bare metrics."""
    if not isinstance(said, Mapping):
        raise UserError(
            f"{what} returned {type(said).__name__}; return a dict of metrics, for example {{'accuracy': 0.9}}"
        )
    if "metrics" not in said:
        return Scores(_metrics(said, what), count)
    slices = said.get("slices") or {}
    if not isinstance(slices, Mapping):
        raise UserError(f"{what}: slices is {type(slices).__name__}; return a dict of name -> metrics and count")
    parts = {}
    for name, part in slices.items():
        if not isinstance(part, Mapping) or "metrics" not in part or "count" not in part:
            raise UserError(f"{what}: the slice {name!r} needs metrics and count")
        parts[str(name)] = Slice(_metrics(part["metrics"], what), _count(part["count"], what))
    return Scores(_metrics(said["metrics"], what), _count(said.get("count", count), what), parts)


def right_answers(module: torch.nn.Module, records: Sequence[Record]) -> dict[str, Any]:
    """The share of records whose `correct` is what the module answers to their `input`, as a server would ask it.

    A record's `slice` (a name, or several) says which parts it belongs to; records without `correct` do not count.
    """
    told = [record for record in records if "input" in record and "correct" in record]
    if records and not told:
        raise UserError("no record has both input and correct; give the module an evaluate(records), or a scorer")
    right = [answer(module, record["input"]) == record["correct"] for record in told]
    parts: dict[str, list[bool]] = {}
    for record, good in zip(told, right, strict=True):
        named = record.get("slice", [])
        for name in [named] if isinstance(named, str) else named:
            parts.setdefault(str(name), []).append(good)
    slices = {name: {"metrics": {"accuracy": _share(good)}, "count": len(good)} for name, good in parts.items()}
    return {"metrics": {"accuracy": _share(right)}, "count": len(right), "slices": slices}


def answer(module: torch.nn.Module, body: Any) -> Any:
    """What the plain form answers: through the module's own `preprocess` and `postprocess`, where it has them."""
    import torch

    prepare, finish = getattr(module, "preprocess", None), getattr(module, "postprocess", None)
    given = prepare(body) if prepare else body
    if not isinstance(given, Mapping):
        raise UserError(f"an input is {type(given).__name__} and no object; give the module a preprocess(body)")
    tensors = {name: torch.as_tensor(value).unsqueeze(0) for name, value in given.items()}
    output = module(**tensors)
    if finish:
        return finish(_first(output))
    return _plain(_first(output))


def _first(output: Any) -> Any:
    """The one item of a batch of one."""
    import torch

    match output:
        case torch.Tensor():
            return output[0]
        case Mapping():
            return {name: _first(value) for name, value in output.items()}
        case list() | tuple():
            return [_first(value) for value in output]
        case _:
            return output


def _plain(output: Any) -> Any:
    import torch

    match output:
        case torch.Tensor():
            return output.tolist()
        case Mapping():
            return {name: _plain(value) for name, value in output.items()}
        case list() | tuple():
            return [_plain(value) for value in output]
        case _:
            return output


def _metrics(said: Any, what: str) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in said.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{what} returned metrics that are no numbers by name: {str(said)[:100]}") from None


def _count(said: Any, what: str) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or said < 0:
        raise UserError(f"{what} returned {said!r} as its count of records; return a whole number")
    return said


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else math.nan
