"""The Randomness law: every generator is a pure function of (seed, step, microbatch) before a microbatch."""

from __future__ import annotations

import random

import numpy as np
import torch

_MASK = (1 << 64) - 1
COMPUTE, FETCH, HELD_OUT = 1, 2, 3  # what the numbers are drawn for; fetching ahead must not disturb computing


def key(seed: int, purpose: int, step: int, microbatch: int) -> int:
    """64 bits, mixed by splitmix64 (Steele, Lea and Flood, 2014)."""
    word = 0
    for part in (seed & _MASK, purpose, step, microbatch):  # mixed in one by one: sums of them are not distinct
        word = (word + 0x9E3779B97F4A7C15 + part) & _MASK
        word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _MASK
        word ^= word >> 31
    return word


def seed_all(word: int) -> None:
    """Set torch, CUDA (where it is in use), numpy and random."""
    torch.default_generator.manual_seed(word)  # 1 us; torch.manual_seed costs 78 on a CUDA build
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(word)
    np.random.seed(word & 0xFFFF_FFFF)
    random.seed(word)


def states() -> tuple[object, ...]:
    """The generators as they are, for `restore`."""
    return torch.default_generator.get_state(), np.random.get_state(), random.getstate()


def restore(saved: tuple[object, ...]) -> None:
    torch.default_generator.set_state(saved[0])  # type: ignore[arg-type]
    np.random.set_state(saved[1])  # type: ignore[arg-type]
    random.setstate(saved[2])  # type: ignore[arg-type]
