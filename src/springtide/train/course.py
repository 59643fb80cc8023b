"""What the optimizer's settings are at each step: a function of the step, or a torch scheduler whose state travels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        self._base = [group["lr"] for group in optimizer.param_groups if "lr" in group]
        if isinstance(schedule, LRScheduler):
            if schedule.optimizer is not optimizer:
                raise UserError("schedule= belongs to another optimizer than the one given; make it from this one")
            self._check_travels()
        elif schedule is not None and not callable(schedule):
            raise UserError(
                f"schedule is {type(schedule).__name__}; give a function of the step that returns a factor, "
                "or a torch.optim.lr_scheduler object"
            )

    @property
    def travels(self) -> bool:
        """Whether the settings are part of the state."""
        return isinstance(self._schedule, LRScheduler)

    def enter(self, step: int, travelled: Callable[[], dict[str, Any]]) -> None:
        """Before step `step` (from 1); `travelled()` reads what the state carries."""
        if isinstance(self._schedule, LRScheduler):
            if carried := travelled().get("settings"):
                self._apply(carried)
        elif self._schedule is not None:
            factor = self._schedule(step - 1)
            for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
                group["lr"] = base * factor

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

    def _taken(self) -> dict[str, Any]:
        assert isinstance(self._schedule, LRScheduler)
        groups = [
            {name: value for name, value in group.items() if name != "params" and _travels(value)}
            for group in self._optimizer.param_groups
        ]
        state = {name: value for name, value in self._schedule.state_dict().items() if _travels(value)}
        return {"groups": groups, "scheduler": state}

    def _apply(self, carried: dict[str, Any]) -> None:
        assert isinstance(self._schedule, LRScheduler)
        for group, values in zip(self._optimizer.param_groups, carried["groups"], strict=True):
            for name, value in values.items():
                group[name] = tuple(value) if isinstance(group.get(name), tuple) else value
        self._schedule.load_state_dict(self._schedule.state_dict() | carried["scheduler"])

    def _check_travels(self) -> None:
        if isinstance(self._schedule, ReduceLROnPlateau):
            raise UserError(
                "schedule=ReduceLROnPlateau waits for a metric that no step has; use a function of the step, "
                "or patience= of train.Evaluate"
            )


def _travels(value: Any) -> bool:
    """Whether a value comes back from JSON as it was."""
    if isinstance(value, list | tuple):
        return all(_travels(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _travels(item) for name, item in value.items())
    return value is None or isinstance(value, _TRAVELLING)
