"""What the optimizer's settings are at each step: a function of the step, or a torch scheduler whose state travels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from springtide.spec import UserError

Schedule = Callable[[int], float] | LRScheduler | None
_TRAVELLING = (int, float, bool, str)


class Settings:
    """Keeps `param_groups` right. For a torch scheduler, the settings of the next step belong to the state.

    A joiner that loaded only the scheduler would compute another learning rate (Cosine, Sequential, Exponential), so
    the groups' values travel with it.
    """

    def __init__(self, schedule: Schedule, optimizer: Optimizer) -> None:
        self._schedule, self._optimizer = schedule, optimizer
        self._base: list[Any] = [group.get("lr") for group in optimizer.param_groups]
        self._kept = self._settings()
        if isinstance(schedule, LRScheduler):
            if schedule.optimizer is not optimizer:
                raise UserError("schedule= belongs to another optimizer than the one given; make it from this one")
            self._check_travels(schedule)
        elif schedule is not None and not callable(schedule):
            raise UserError(
                f"schedule is {type(schedule).__name__}; give a function of the step that returns a factor, "
                "or a torch.optim.lr_scheduler object"
            )
        elif schedule is not None and None in self._base:
            raise UserError(f"schedule= scales the learning rate, and {type(optimizer).__name__} has none")

    @property
    def travels(self) -> bool:
        """Whether the settings are part of the state."""
        return isinstance(self._schedule, LRScheduler)

    def enter(self, step: int, travelled: Callable[[], dict[str, Any]]) -> None:
        """Before step `step` (from 1); `travelled()` reads what the state carries."""
        self._check_untouched()
        if isinstance(self._schedule, LRScheduler):
            if carried := travelled().get("settings"):
                self._apply(carried)
        elif self._schedule is not None:
            factor = self._factor(self._schedule, step)
            for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
                group["lr"] = base * factor
            self._kept = self._settings()

    def leave(self) -> dict[str, Any]:
        """What the state after this step carries; the one who completes chunk 0 asks, once the step is made."""
        if not isinstance(self._schedule, LRScheduler):
            return {}
        now = self._taken()
        self._schedule.step()
        after = self._taken()
        self._apply(now)  # other chunks of this step may still be to do
        return {"settings": after}

    def first(self) -> dict[str, Any]:
        """What the state of step 0 carries."""
        return {"settings": self._taken()} if self.travels else {}

    def _factor(self, schedule: Callable[[int], float], step: int) -> float:
        factor = schedule(step - 1)
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            try:
                return float(factor)
            except (TypeError, ValueError):
                raise UserError(
                    f"schedule={getattr(schedule, '__name__', 'schedule')} returned {type(factor).__name__} for step "
                    f"{step - 1}; return a number, the factor of the learning rate"
                ) from None
        return factor

    def _settings(self) -> list[dict[str, Any]]:
        return [{name: v for name, v in group.items() if name != "params"} for group in self._optimizer.param_groups]

    def _check_untouched(self) -> None:
        """What the loop body sets holds in one worker only, and in the middle of a step."""
        for group, kept in zip(self._optimizer.param_groups, self._kept, strict=True):
            for name, value in kept.items():
                if group[name] is not value and group[name] != value:
                    what = "learning rate" if name == "lr" else f"optimizer's {name}"
                    raise UserError(
                        f"the {what} was changed in the loop, by hand or by a scheduler; give schedule= a function of "
                        "the step or the scheduler, and the run sets it at each step"
                    )

    def _taken(self) -> dict[str, Any]:
        assert isinstance(self._schedule, LRScheduler)
        groups = [_portable(group) for group in self._settings()]
        return {"groups": groups, "scheduler": _portable(self._schedule.state_dict())}

    def _apply(self, carried: dict[str, Any]) -> None:
        assert isinstance(self._schedule, LRScheduler)
        for group, values in zip(self._optimizer.param_groups, carried["groups"], strict=True):
            for name, value in values.items():
                group[name] = tuple(value) if isinstance(group.get(name), tuple) else value
        self._schedule.load_state_dict(self._schedule.state_dict() | carried["scheduler"])
        self._kept = self._settings()

    def _check_travels(self, schedule: LRScheduler) -> None:
        if isinstance(schedule, ReduceLROnPlateau):
            raise UserError(
                "schedule=ReduceLROnPlateau waits for a metric that no step has; use a function of the step, "
                "or patience= of train.Evaluate"
            )
        if any(isinstance(rate, Tensor) for rate in self._base):
            raise UserError("a learning rate that is a tensor cannot follow a torch scheduler here; give lr= a number")


def _portable(value: Any) -> Any:
    """`value` without what JSON would not bring back as it was: functions, tables of numbers and the like."""
    if isinstance(value, dict):
        return {name: _portable(item) for name, item in value.items() if isinstance(name, str) and _travels(item)}
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    return value


def _travels(value: Any) -> bool:
    """Whether a value comes back from JSON as it was, but for entries of dictionaries that `_portable` leaves out."""
    if isinstance(value, list | tuple):
        return all(_travels(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value)
    return value is None or isinstance(value, _TRAVELLING)
