"""From (step, microbatch) to a batch: indices, samples, collating; the same wherever it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Subset, TensorDataset, default_collate, default_convert

from springtide.data.order import Indices, OrderLike
from springtide.spec import UserError
from springtide.train.ahead import Group, Item

Seed = Callable[[int, int], None]
Gather = Callable[[Indices], Any]


@dataclass(frozen=True)
class Fetched:
    """The batch of one microbatch (or several fused), its samples, and how many bad ones were replaced."""

    batch: Any
    indices: NDArray[np.int64]
    skipped: int = 0


class Fetch:
    """The fetching of one dataset in one order.

    `seed` is called before the samples of a microbatch, unless they are known to draw no random numbers (`pure`).
    Datasets are read with `__getitems__` or `gather` where they have it; `bad`, a count of replaced records,
    is watched. An exception carries `item`, `samples` and, where it is known, `sample`.
    """

    def __init__(
        self, dataset: Any, order: OrderLike, collate: Callable[[list[Any]], Any] | None, seed: Seed | None
    ) -> None:
        own = getattr(dataset, "collate", None)
        self.collate: Callable[[list[Any]], Any] = collate or (_with_tensors(own) if own else default_collate)
        self.pure = collate is None and _draws_nothing(dataset)
        self._gather = _gatherer(dataset) if self.collate is default_collate else None
        self._dataset, self._order, self._seed = dataset, order, None if self.pure else seed
        self._many = getattr(dataset, "__getitems__", None)
        self._stack = getattr(_innermost(dataset), "stack", None) if self.collate is default_collate else None
        self._counter = _innermost(dataset) if hasattr(_innermost(dataset), "bad") else None
        self._unfit = getattr(dataset, "unfit", None)  # how a dataset names the samples that do not go together
        self._one_at_a_time = threading.Lock()

    def ready(self, group: Group) -> bool:
        """Whether what these microbatches hold is settled; a guess at what comes next may be too early."""
        settled = getattr(self._order, "ready", None)
        return settled is None or all(settled(step) for step, _ in group)

    def __call__(self, group: Group) -> Fetched:
        if self._counter is None:
            return Fetched(*self._batch(group))
        with self._one_at_a_time:  # or one thread would count the bad records of another
            before = self._counter.bad
            return Fetched(*self._batch(group), skipped=self._counter.bad - before)

    def _batch(self, group: Group) -> tuple[Any, Indices]:
        parts = [self._order.indices(step, microbatch) for step, microbatch in group]
        indices = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self._gather is not None:
            with _named(group, indices):
                return self._gather(indices), indices
        samples: list[Any] = []
        for item, part in zip(group, parts, strict=True):
            samples += self._samples(item, part)
        with _named(group, indices):
            arrays = self._stack(samples) if self._stack is not None and self.pure else None
            return self._collated(samples, indices) if arrays is None else _tensors(arrays), indices

    def _collated(self, samples: list[Any], indices: Indices) -> Any:
        try:
            return self.collate(samples)
        except Exception as error:
            if self._unfit is None or isinstance(error, UserError):
                raise
            raise self._unfit(indices.tolist(), error) from None

    def _samples(self, item: Item, part: Indices) -> Sequence[Any]:
        if self._seed is not None:
            self._seed(*item)
        numbers: list[int] = part.tolist()
        if self._many is not None:
            with _named((item,), part):
                samples: Sequence[Any] = self._many(numbers)
            return samples
        one_by_one = []
        for number in numbers:
            with _named((item,), part, number):
                one_by_one.append(self._dataset[number])
        return one_by_one


class _named:
    """Attaches to an exception which samples were being fetched."""

    __slots__ = ("_group", "_indices", "_sample")

    def __init__(self, group: Group, indices: Indices, sample: int | None = None) -> None:
        self._group, self._indices, self._sample = group, indices, sample

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            label(error, self._group[0], self._indices.tolist(), self._sample)


def label(error: Exception, item: Item, samples: list[int], sample: int | None = None) -> None:
    """Makes `error` say which samples it is about: attributes `item`, `samples`, `sample`, and a note."""
    with contextlib.suppress(AttributeError):  # an exception with slots takes only the note
        error.item, error.samples, error.sample = item, samples, sample  # type: ignore[attr-defined]
    which = f"sample {sample} of " if sample is not None else ""
    error.add_note(f"while fetching {which}samples {samples} (microbatch {item[1]} of step {item[0]})")


def _innermost(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _draws_nothing(dataset: Any) -> bool:
    """Whether the samples are known to be the same whatever the random generators hold."""
    if type(dataset) is Subset:
        return _draws_nothing(dataset.dataset)
    return type(dataset) in (TensorDataset, np.ndarray, list, tuple) or bool(getattr(dataset, "pure", False))


def _selected(tensors: Sequence[torch.Tensor], numbers: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.index_select(0, numbers) for tensor in tensors]


def _gatherer(dataset: Any) -> Gather | None:
    """A way to the whole batch at once, where it gives the same bits as collating samples does."""
    if type(dataset) is TensorDataset:
        tensors = dataset.tensors
        # Other strides would survive the indexing, where collating gives a batch of its own layout.
        if all(t.device.type == "cpu" and t.is_contiguous() and not t.requires_grad for t in tensors):
            return lambda indices: _selected(tensors, torch.from_numpy(indices))
    elif isinstance(dataset, np.ndarray) and dataset.dtype.kind in "biuf":
        return lambda indices: torch.from_numpy(np.asarray(dataset[indices]))
    elif type(dataset) is Subset and (inner := _gatherer(dataset.dataset)) is not None:
        chosen = np.asarray(dataset.indices, dtype=np.int64)
        return lambda indices: inner(chosen[indices])
    elif (gather := getattr(dataset, "gather", None)) is not None and getattr(dataset, "pure", False):
        return lambda indices: _tensors(gather(indices))
    return None


def _tensors(arrays: Any) -> Any:
    if isinstance(arrays, np.ndarray):
        return torch.from_numpy(arrays)
    return [torch.from_numpy(array) for array in arrays]


def _with_tensors(collate: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """A dataset's own collate; it may know no torch, so its arrays become tensors here."""
    convert: Callable[[Any], Any] = default_convert
    return lambda samples: convert(collate(samples))
