"""Looking at the model on held-out data: microbatches like others, sums over the tree, best kept, early stopping."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, isnan
from typing import Any

from torch import Tensor

from springtide.spec import UserError
from springtide.train.arena import EVALUATION_BYTES, RECORD_BYTES
from springtide.train.tree import fold

_MARGIN_BYTES = 64  # for what the worker adds to the record
_RECENT = 16  # evaluations that a reader may be late


@dataclass(frozen=True)
class Evaluate:
    """What to measure on held-out data, and when.

    `function(model, x, y)` (the batch's parts, as the loop gets them) returns a dict of means over that batch; the
    metrics are exact means over the whole of `dataset`. `every` is "epoch", a number of steps, or "end"; the last
    step is always followed by one. `best` names the metric that says which model is kept (`highest=False`: lower is
    better), `patience` how many evaluations without a better one end the run.
    """

    dataset: Any
    function: Callable[..., Mapping[str, Any]]
    every: str | int = "epoch"
    best: str | None = None
    highest: bool = True
    patience: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError("Evaluate(function=...) must be callable: function(model, x, y) -> {'accuracy': ...}")
        if not hasattr(self.dataset, "__getitem__") or not hasattr(self.dataset, "__len__") or len(self.dataset) == 0:
            raise UserError("Evaluate(dataset=...) is empty or has no length; give held-out samples")
        if self.best is not None and not isinstance(self.best, str):
            raise UserError(f"Evaluate(best={self.best!r}): give the name of a metric")
        if self.patience is not None and (not _positive(self.patience) or self.best is None):
            raise UserError(f"Evaluate(patience={self.patience!r}) needs best='a metric' and a patience of at least 1")
        if not (self.every in ("epoch", "end") or _positive(self.every)):
            raise UserError(f"Evaluate(every={self.every!r}): give 'epoch', 'end' or a number of steps above 0")
        if self.batch_size is not None and not _positive(self.batch_size):
            raise UserError(f"Evaluate(batch_size={self.batch_size!r}): give a whole number above 0")

    def every_steps(self, steps_per_epoch: float, steps: int) -> int:
        """The period in steps."""
        if self.every == "epoch":
            return max(1, round(steps_per_epoch))
        return steps if self.every == "end" else int(self.every)

    def items(self, batch_size: int) -> int:
        """How many held-out microbatches there are."""
        return ceil(len(self.dataset) / (self.batch_size or batch_size))


def sums(result: Any, samples: int) -> dict[str, Any]:
    """One held-out microbatch's metrics as sums, ready for JSON."""
    if not isinstance(result, Mapping) or not result:
        raise UserError(
            f"Evaluate's function returned {type(result).__name__}; return a dict such as {{'accuracy': ...}}"
        )
    values = {str(name): _number(name, value) * samples for name, value in result.items()}
    found = {"samples": samples, "sums": values}
    if len(json.dumps(found)) > EVALUATION_BYTES - 8:
        raise UserError(
            f"Evaluate's function returned {len(values)} metrics, more than fit into {EVALUATION_BYTES} bytes; return "
            "fewer, or shorter names"
        )
    return found


def metrics(parts: list[dict[str, Any]]) -> dict[str, float]:
    """Means over all held-out samples."""
    samples = sum(part["samples"] for part in parts)
    names = parts[0]["sums"]
    for part in parts:
        if part["sums"].keys() != names.keys():
            raise UserError(
                f"Evaluate's function returned {', '.join(part['sums'])} for one batch and {', '.join(names)} for "
                "another; return the same metrics for each"
            )
    return {name: (fold([part["sums"][name] for part in parts], _add) or 0.0) / samples for name in names}


def judge(record: dict[str, Any], plan: Evaluate, found: dict[str, float], step: int) -> dict[str, Any]:
    """The record after an evaluation: what was found, whether it is the best so far, whether the run should end."""
    if plan.best is not None and plan.best not in found:
        raise UserError(f"Evaluate(best='{plan.best}'): the function returned {', '.join(found)}; name one of these")
    value = found[plan.best] if plan.best else None
    kept = record.get("best")
    better = value is not None and not isnan(value) and (kept is None or _better(value, kept["value"], plan.highest))
    since = 0 if better else record.get("since", 0) + 1
    entry = {"step": step, "metrics": found, "best": better}
    after: dict[str, Any] = {
        "metrics": found,
        "best": {"step": step, "value": value, "metrics": found} if better else kept,
        "since": since,
        "stop": plan.patience is not None and since >= plan.patience,
        "recent": [*record.get("recent", []), entry][-_RECENT:],
    }
    while len(json.dumps(after)) > RECORD_BYTES - _MARGIN_BYTES and len(after["recent"]) > 1:
        del after["recent"][0]
    return after


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _better(value: float, best: float, highest: bool) -> bool:
    return value > best if highest else value < best


def _add(left: float, right: float) -> float:
    return left + right


def _number(name: Any, value: Any) -> float:
    try:
        return float(value.detach()) if isinstance(value, Tensor) else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"metric '{name}' is {type(value).__name__}; return one number (a mean over the batch)"
        ) from None
