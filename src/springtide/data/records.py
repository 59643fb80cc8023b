"""Records in files as map-style samples, and what is done about a bad one."""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from springtide.spec import UserError


class BadRecord(UserError):
    """One record that cannot be read: file, position, what is wrong."""


class Records(ABC):
    """A map-style dataset of records in files, whose samples are numpy arrays, numbers or texts.

    `on_bad="raise"` raises `UserError` with file and position at a bad record; `on_bad="skip"` takes the next good
    record instead (around the end to the first), a pure function of the data, and counts it in `bad`.
    """

    pure = True  # samples are the same whatever the random generators hold

    def __init__(self, on_bad: str) -> None:
        if on_bad not in ("raise", "skip"):
            raise UserError(f'on_bad="{on_bad}" is not known; write "raise" or "skip"')
        self.on_bad = on_bad
        self.bad = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Any:
        """The sample at `index`, from 0. Raises `BadRecord`."""

    @abstractmethod
    def _fingerprint(self) -> str: ...

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the content and the way it is read: equal fingerprints give equal samples."""
        return self._fingerprint()

    def __getitem__(self, index: SupportsIndex) -> Any:
        number, count = operator.index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"there is no sample {number}: the dataset has {count}")
        number %= count
        try:
            return self.read(number)
        except BadRecord as error:
            if self.on_bad == "raise":
                raise
            first = error
        self.bad += 1
        for other in (*range(number + 1, count), *range(number)):
            try:
                return self.read(other)
            except BadRecord:
                continue
        raise UserError(f"none of the {count} records can be read: {first}")

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self[index] for index in indices]

    def stack(self, samples: list[Any]) -> Any:
        """The samples as one batch of arrays, the same bits as collating them; None where they are not all arrays."""
        if not isinstance(samples[0], tuple):
            return _stack(samples)
        columns = [_stack(list(column)) for column in zip(*samples, strict=True)]
        return columns if all(column is not None for column in columns) else None


def _stack(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, np.ndarray):
        return np.stack(values) if all(value.shape == first.shape for value in values) else None
    return np.array(values, dtype=first.dtype) if isinstance(first, np.generic) else None
