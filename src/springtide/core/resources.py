"""Resource vectors as arrays: the columns, what fits, and how large a share of the pool something is."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

CPU, MEMORY, GPU, DISK, NETWORK = range(5)
KINDS = ("cpu", "memory", "gpu", "disk", "network")
COUNT = len(KINDS)
# A hundredth of a millicore is nothing: sums of float64 requests may differ from their parts by less than this share.
SLACK = 1e-9


def vector(**amounts: float) -> FloatArray:
    """A (5,) vector from amounts by name: cores, bytes, devices, bytes/s, bytes/s; what is not named is 0."""
    return np.array([amounts.get(kind, 0.0) for kind in KINDS])


def copies(free: FloatArray, request: FloatArray) -> FloatArray:
    """How many times `request` (5,) goes into each row of `free` (..., 5), GPUs as a plain sum; inf for no request."""
    asked = request > 0
    if not asked.any():
        return np.full(free.shape[:-1], np.inf)
    whole: FloatArray = np.floor(np.min(free[..., asked] / request[asked], axis=-1) * (1 + SLACK) + SLACK)
    return whole


def dominant(amount: FloatArray, total: FloatArray) -> FloatArray:
    """The largest share of `total` (5,) that `amount` (..., 5) takes of any resource (Ghodsi et al., NSDI'11)."""
    finite = (total > 0) & np.isfinite(total)
    if not finite.any():
        nothing: FloatArray = np.zeros(amount.shape[:-1])
        return nothing
    share: FloatArray = np.max(amount[..., finite] / total[finite], axis=-1)
    return share
