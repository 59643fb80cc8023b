"""From the named values of a record to a sample: features and target as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from springtide.data.files import nearest
from springtide.data.records import BadRecord
from springtide.spec import UserError

PROBED = 256  # records looked at to tell whether a target counts or measures

Get = Callable[[str], Any]


@dataclass(frozen=True)
class Fields:
    """Which values of a record make a sample.

    Features are one of: `columns`, numbers that become one float32 vector; `text`, the name of one value taken as it
    is; `sequence`, the name of one list of numbers, an array of type `dtype`. A target is one name (a number, or an
    index into `classes`) or several (a float32 vector). `missing` stands in for an empty value of `columns`.
    """

    columns: tuple[str, ...] = ()
    text: str | None = None
    sequence: str | None = None
    target: str | tuple[str, ...] | None = None
    target_type: str | None = None  # "int64" or "float32"
    classes: tuple[str, ...] = ()
    missing: float | None = None
    dtype: str = "float32"

    @classmethod
    def of(
        cls,
        columns: Sequence[str] | None,
        target: str | Sequence[str] | None,
        text: str | None = None,
        sequence: str | None = None,
        classes: Sequence[str] = (),
        **more: Any,
    ) -> Fields:
        """Fields as the user gave them. Raises `UserError` where they contradict each other."""
        if sum(each is not None for each in (columns, text, sequence)) > 1:
            raise UserError("give one of columns=, text= and sequence=: a sample has one kind of features")
        targets = target if isinstance(target, str | None) else tuple(target)
        named = (columns,) if isinstance(columns, str) else tuple(columns or ())
        return cls(named, text, sequence, targets, classes=tuple(str(each) for each in classes), **more)

    def known(self, names: Iterable[str], where: str) -> Fields:
        """The same, checked against the names that there are; without columns, all but the target."""
        names = list(names)
        targets = self.targets()
        for name in (*self.columns, *targets, self.text, self.sequence):
            if name is not None and name not in names:
                raise UserError(f"{where}: there is no column '{name}'{nearest(name, names)}")
        if self.columns or self.text or self.sequence:
            return self
        columns = tuple(name for name in names if name not in targets)
        if not columns:
            raise UserError(f"{where}: nothing is left to learn from besides the target {', '.join(targets)}")
        return replace(self, columns=columns)

    def targets(self) -> tuple[str, ...]:
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else self.target

    def typed(self, values: Iterable[Any]) -> Fields:
        """The same with the type of a single target: int64 if each of its first `values` is a whole number."""
        if self.target_type is not None or not isinstance(self.target, str) or self.classes:
            return self
        whole = [_is_whole(value) for value in values if value is not None and value != ""]
        return replace(self, target_type="int64" if whole and all(whole) else "float32")

    def sample(self, get: Get, where: Callable[[], str]) -> Any:
        """Features, or (features, target) where there is one. Raises `BadRecord`, which begins with `where()`."""
        if self.text is not None:
            features: Any = str(get(self.text))
        elif self.sequence is not None:
            features = self._sequence(get(self.sequence), where)
        else:
            features = self._numbers(self.columns, get, where)
        if self.target is None:
            return features
        return features, self._target(get, where)

    def _numbers(self, names: Sequence[str], get: Get, where: Callable[[], str]) -> Any:
        try:
            return np.array([float(get(name)) for name in names], dtype=np.float32)
        except (TypeError, ValueError):
            return np.array([self._number(name, get(name), where) for name in names], dtype=np.float32)

    def _number(self, name: str, value: Any, where: Callable[[], str]) -> float:
        if value is None or value == "":
            if self.missing is not None:
                return self.missing
            raise BadRecord(f"{where()}: column '{name}' is empty; mend it, or give missing=0, or on_bad=\"skip\"")
        try:
            return float(value)
        except (TypeError, ValueError):
            raise BadRecord(
                f"{where()}: column '{name}': {_short(value)} is not a number; mend it, or give on_bad=\"skip\""
            ) from None

    def _sequence(self, value: Any, where: Callable[[], str]) -> Any:
        try:
            array = np.array(value, dtype=self.dtype)
        except (TypeError, ValueError, OverflowError):
            array = np.array(0)
        if array.ndim == 0:
            raise BadRecord(f"{where()}: column '{self.sequence}': {_short(value)} is not a list of numbers")
        return array

    def _target(self, get: Get, where: Callable[[], str]) -> Any:
        if not isinstance(self.target, str):
            return self._numbers(self.targets(), get, where)
        value = get(self.target)
        if self.classes:
            if (word := str(value)) in self.classes:
                return np.int64(self.classes.index(word))
            raise BadRecord(
                f"{where()}: column '{self.target}': {_short(value)} is not one of the classes"
                f"{nearest(word, self.classes)}"
            )
        number = value if type(value) is int else self._goal(value, where)
        if self.target_type == "float32":
            return np.float32(number)
        if number != number or number != int(number):
            raise BadRecord(
                f"{where()}: column '{self.target}': {_short(value)} is not a whole number, as the first ones are; "
                'mend it, or give target_type="float32"'
            )
        return np.int64(number)

    def _goal(self, value: Any, where: Callable[[], str]) -> float:
        assert isinstance(self.target, str)
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                pass
            if not _is_number(value) and value:
                raise BadRecord(
                    f"{where()}: column '{self.target}': {_short(value)} is not a number; mend it, "
                    'or give classes=["...", ...] for words, or on_bad="skip"'
                )
        if value is None or value == "":
            raise BadRecord(f"{where()}: the target '{self.target}' is empty; mend it, or give on_bad=\"skip\"")
        return self._number(self.target, value, where)


def _is_whole(value: Any) -> bool:
    try:
        int(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(value, float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
