"""Prices of the spot market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide.core.draft import Draft


@dataclass(frozen=True, slots=True)
class Prices:
    """One price per resource and tick."""

    floor_core: float = 0.0  # per core-hour
    floor_gpu: float = 0.0  # per gpu-hour
    core: float = 0.0
    gpu: float = 0.0
    tick: int = -1  # the last tick for which prices were set


def clear(draft: Draft) -> None:
    """Sets this tick's price of each resource, and refuses those who do not meet it."""
