"""What differs between two versions: build, config, metrics, code and weights. Pure but for reading their files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from springtide.serve.registry import folder
from springtide.serve.registry.folder import CODE, WEIGHTS
from springtide.serve.registry.version import Version
from springtide.train.tensors import Stored, map_file, parse

_NUMBERS = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "<u1",
}


@dataclass(frozen=True, slots=True)
class TensorChange:
    """A tensor as it is in both, in words; `largest` is the greatest difference of two elements, where that is said."""

    name: str
    before: str | None
    after: str | None
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Values are (before, after), None where there is none. `code` is path -> lines of a unified diff."""

    build: tuple[str, str] | None
    config: Mapping[str, tuple[Any, Any]]
    metrics: Mapping[str, tuple[float | None, float | None]]
    code: Mapping[str, tuple[str, ...]]
    weights: tuple[TensorChange, ...]
    tensors: int  # of both together

    def __bool__(self) -> bool:
        return bool(self.build or self.config or self.metrics or self.code or self.weights)


def difference(before: Version, after: Version) -> Difference:
    """SpringtideError: one of them cannot be read."""
    weights, tensors = _weights(before, after)
    return Difference(
        (before.build, after.build) if before.build != after.build else None,
        _changed(before.config, after.config), _changed(before.metrics, after.metrics), _code(before, after), weights,
        tensors,
    )  # fmt: skip


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*before, *after))
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if (name in before, before.get(name)) != (name in after, after.get(name))
    }


def _code(before: Version, after: Version) -> dict[str, tuple[str, ...]]:
    old, new = folder.read(before.path).code, folder.read(after.path).code
    return {
        name: tuple(
            difflib.unified_diff(
                _lines(before, name, name in old), _lines(after, name, name in new), f"{before.number}/{name}",
                f"{after.number}/{name}", lineterm="", n=1,
            )
        )
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    }  # fmt: skip


def _lines(version: Version, name: str, there: bool) -> list[str]:
    return (version.path / CODE / name).read_text(errors="replace").splitlines() if there else []


def _weights(before: Version, after: Version) -> tuple[tuple[TensorChange, ...], int]:
    old, new = (parse(map_file(one.path / WEIGHTS), str(one.path / WEIGHTS)) for one in (before, after))
    names = dict.fromkeys((*old, *new))
    changes = [
        TensorChange(name, _text(old.get(name)), _text(new.get(name)), _largest(old.get(name), new.get(name)))
        for name in names
        if name not in old or name not in new or old[name][:2] != new[name][:2] or old[name].data != new[name].data
    ]
    return tuple(changes), len(names)


def _text(stored: Stored | None) -> str | None:
    return f"{stored.dtype}{list(stored.shape)}" if stored else None


def _largest(old: Stored | None, new: Stored | None) -> float | None:
    if old is None or new is None or old[:2] != new[:2] or old.dtype not in _NUMBERS or not prod(old.shape):
        return None
    kind = _NUMBERS[old.dtype]
    one, other = (np.frombuffer(stored.data, dtype=kind).astype(np.float64) for stored in (old, new))
    return float(np.max(np.abs(one - other)))
