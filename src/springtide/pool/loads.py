"""A service's load as JSON, so that what its days look like outlives the pool server."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from springtide.core.load import Load

_ARRAYS = ("pattern", "usual")


def to_data(load: Load) -> dict[str, Any]:
    """What JSON holds; not-a-number is null."""
    data: dict[str, Any] = {}
    for field in fields(Load):
        value = getattr(load, field.name)
        if field.name in _ARRAYS and value is not None:
            value = [None if math.isnan(one) else round(one, 6) for one in value.tolist()]
        data[field.name] = None if isinstance(value, float) and math.isnan(value) else value
    return data


def from_data(data: dict[str, Any]) -> Load:
    """The load that `to_data` was given."""
    found = dict(data)
    for name in _ARRAYS:
        if found.get(name) is not None:
            found[name] = np.array([math.nan if one is None else one for one in found[name]], dtype=np.float64)
    found["scale"] = math.nan if found.get("scale") is None else found["scale"]
    found["recent"] = tuple((float(until_s), float(rate)) for until_s, rate in found.get("recent", ()))
    return Load(**found)
