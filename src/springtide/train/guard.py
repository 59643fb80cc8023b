"""The user's own optimizer while the loop runs: the run steps it; what the script would do to it gets a sentence."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from springtide.spec import UserError

_INSIDE = ("springtide", "torch")


@contextmanager
def guarded(optimizer: Optimizer, state: Callable[[], dict[Tensor, dict[str, Any]]]) -> Iterator[None]:
    """A step, a group or a state of the user's own gets a sentence, `zero_grad` does nothing, `state_dict` is whole.

    `state()` is the optimizer's state by parameter; while the loop runs it lies in the arena.
    """
    original, original_state_dict = optimizer.step, optimizer.state_dict

    @wraps(original)  # and with it the mark by which schedulers know a step that they watch
    def step(*given: Any, **named: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
            return original(*given, **named)
        raise UserError(
            f"{_line()}: the run calls optimizer.step() itself, once all microbatches are in; delete the line"
        )

    def add_param_group(group: Any) -> None:
        raise UserError(
            f"{_line()}: add_param_group while the run goes on; give all groups to the optimizer before Run"
        )

    def load_state_dict(state: Any) -> None:
        raise UserError(f"{_line()}: optimizer.load_state_dict while the run goes on; load it before Run")

    def state_dict() -> dict[str, Any]:
        kept = optimizer.state
        optimizer.state = defaultdict(dict, state())
        try:
            return original_state_dict()
        finally:
            optimizer.state = kept

    kept = dict(vars(optimizer))
    placed = {
        "step": step,
        "add_param_group": add_param_group,
        "zero_grad": lambda set_to_none=True: None,
        "state_dict": state_dict,
        "load_state_dict": load_state_dict,
    }
    vars(optimizer).update(placed)
    try:
        yield
    finally:
        for name in placed:
            if name in kept:
                vars(optimizer)[name] = kept[name]
            else:
                vars(optimizer).pop(name, None)


def _line() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
