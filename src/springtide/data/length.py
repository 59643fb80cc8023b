"""Batches of similar length, so that sequences need almost no padding.

The order is that of `Order`, rearranged inside windows: the samples of a window are sorted by length, cut into
microbatches, and the microbatches are shuffled. Each sample still comes once per epoch, and which samples form which
microbatch is still a pure function of (fingerprint, seed, step, microbatch): the lengths are part of the fingerprint.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from springtide.data.fingerprint import fingerprint
from springtide.data.order import BLOCK, Indices, Order, checksum, key_of, permute
from springtide.spec import UserError

WINDOW = 1 << 17  # arranging it takes 20 ms and 4 MB; most data fits into one or a few
WINDOW_MICROBATCHES = 256
_MASK = (1 << 64) - 1


class Padded(NamedTuple):
    """Sequences of one batch in one array: `values` (batch, longest, ...), and `mask` (batch, longest), True where a
    value is one and not padding."""

    values: Any
    mask: Any


@dataclass(frozen=True)
class LengthOrder:
    """An order whose microbatches hold samples of similar length; `window` samples at a time are sorted."""

    base: Order
    lengths: NDArray[np.int32]
    window: int
    _near: tuple[tuple[int, Indices], ...] = field(init=False, repr=False, compare=False, default=())

    @property
    def count(self) -> int:
        return self.base.count

    @property
    def batch_size(self) -> int:
        return self.base.batch_size

    @property
    def microbatches(self) -> int:
        return self.base.microbatches

    @property
    def microbatch_size(self) -> int:
        return self.base.microbatch_size

    def steps(self, epochs: float) -> int:
        """How many steps see each sample at least `epochs` times."""
        return self.base.steps(epochs)

    def epoch(self, step: int) -> float:
        """Epochs completed after step `step`."""
        return self.base.epoch(step)

    def indices(self, step: int, microbatch: int) -> Indices:
        """The samples of one microbatch of step `step` (from 1): shape (microbatch_size,)."""
        assert step >= 1 and 0 <= microbatch < self.microbatches
        size = self.microbatch_size
        return self.stream((step - 1) * self.batch_size + microbatch * size, size)

    def stream(self, start: int, length: int) -> Indices:
        """The samples at positions start, ..., start + length - 1 of the endless stream."""
        parts = []
        while length > 0:
            first, samples = self._window_at(start)
            part = samples[start - first : start - first + length]
            parts.append(part)
            start, length = start + part.size, length - part.size
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def expected(self, steps: int) -> tuple[int, int]:
        """How many samples the steps 1 ... `steps` count, and their checksum modulo 2**64."""
        total = steps * self.batch_size
        epochs, rest = divmod(total, self.count)
        whole = epochs * self.base.epoch_sum() if epochs else 0
        return total, (whole + self._sum(epochs * self.count, rest)) & _MASK

    def expected_of(self, step: int) -> tuple[int, int]:
        """The same for step `step` alone."""
        return self.batch_size, self._sum((step - 1) * self.batch_size, self.batch_size)

    def padding(self, epochs: float = 1) -> float:
        """Which share of all values in the batches of `epochs` is padding."""
        size, total = self.microbatch_size, self.steps(epochs) * self.batch_size
        room = held = 0
        for first in range(0, total, BLOCK * size):
            part = self.lengths[self.stream(first, min(BLOCK * size, total - first))].reshape(-1, size).astype(np.int64)
            room, held = room + size * int(part.max(axis=1).sum()), held + int(part.sum())
        return 1 - held / room if room else 0.0

    def _sum(self, start: int, length: int) -> int:
        steps = range(start, start + length, BLOCK)
        return sum(checksum(self.stream(first, min(BLOCK, start + length - first))) for first in steps) & _MASK

    def _window_at(self, position: int) -> tuple[int, Indices]:
        """The window that holds `position` of the stream: where it begins, and its samples in their final order."""
        for first, samples in self._near:
            if first <= position < first + samples.size:
                return first, samples
        epoch, place = divmod(position, self.count)
        cuts = self._cuts(epoch)
        number = bisect_right(cuts, place) - 1
        first = epoch * self.count + cuts[number]
        found = first, self._arranged(epoch, number, first, cuts)
        object.__setattr__(self, "_near", (found, *self._near[:2]))
        return found

    def _cuts(self, epoch: int) -> list[int]:
        """Where the windows of an epoch begin, and its end; all but the first and the last cut stand between
        microbatches."""
        size, count = self.microbatch_size, self.count
        head = -epoch * count % size
        full = (count - head) // size
        windows = max(1, round(full * size / self.window))
        return [0, *(head + size * (full * i // windows) for i in range(1, windows)), count]

    def _arranged(self, epoch: int, number: int, first: int, cuts: list[int]) -> Indices:
        size = self.microbatch_size
        samples = self.base.stream(first, cuts[number + 1] - cuts[number])
        samples = samples[np.argsort(self.lengths[samples], kind="stable")]
        # A microbatch across two epochs takes the shortest samples of both: there padding costs least.
        head = -first % size
        full = (samples.size - head) // size
        tail = samples.size - head - full * size
        middle = samples[head + tail :].reshape(full, size)
        key = np.uint64(key_of("windows", self.base.fingerprint, self.base.seed, epoch, number))
        middle = middle[permute(np.arange(full, dtype=np.uint64), full, key).astype(np.int64)] if full else middle
        return np.concatenate([samples[:head], middle.reshape(-1), samples[head : head + tail]])


class ByLength:
    """A dataset of sequences that brings its own order and its own way to make a batch; see `by_length`."""

    def __init__(
        self,
        dataset: Any,
        lengths: NDArray[np.int32],
        pad: Sequence[Any],
        padded: Sequence[int],
        window: int | None,
        longest: int | None,
    ) -> None:
        self.dataset, self.lengths, self._longest = dataset, lengths, longest
        self._pad = dict(zip(padded, pad, strict=True))
        self._window = window
        self.pure = bool(getattr(dataset, "pure", type(dataset) in (list, tuple)))
        many = getattr(dataset, "__getitems__", None)
        self.__getitems__: Callable[[Sequence[int]], Sequence[Any]] = many or self._one_by_one

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def _one_by_one(self, indices: Sequence[int]) -> Sequence[Any]:
        return [self.dataset[index] for index in indices]

    @property
    def bad(self) -> int:
        """How many bad records the dataset replaced so far."""
        return int(getattr(self.dataset, "bad", 0))

    @property
    def fingerprint(self) -> str:
        """Of the dataset and of all lengths."""
        digest = hashlib.blake2b(fingerprint(self.dataset).encode(), digest_size=8)
        digest.update(self.lengths.tobytes())
        digest.update(repr((self._pad, self._window, self._longest)).encode())
        return digest.hexdigest()

    def order(self, seed: int, batch_size: int, microbatches: int, sample: float | None = None) -> LengthOrder:
        """The order of a run over this dataset."""
        base = Order(self.fingerprint, seed, len(self), batch_size, microbatches, sample)
        window = self._window or max(WINDOW, WINDOW_MICROBATCHES * base.microbatch_size)
        return LengthOrder(base, self.lengths, max(window, base.microbatch_size))

    def collate(self, samples: Sequence[Any]) -> Any:
        """One batch of arrays: `Padded` in the place of each sequence, the rest as usual."""
        if not _has_parts(samples[0]):
            return padded(samples, self._pad[0], self._longest)
        columns = zip(*samples, strict=True)
        return tuple(
            padded(column, self._pad[place], self._longest) if place in self._pad else _together(column)
            for place, column in enumerate(columns)
        )


def by_length(
    dataset: Any,
    length: Callable[[Any], int] | Sequence[int] | NDArray[Any] | None = None,
    pad: Any = 0,
    *,
    sequences: Sequence[int] = (0,),
    window: int | None = None,
    longest: int | None = None,
) -> ByLength:
    """`dataset` in batches of sequences of similar length.

    A sample is a sequence (an array (length, ...), a tensor, a list of numbers), or a tuple with sequences at the
    places `sequences`. In a batch each of them is `Padded(values, mask)`, filled with `pad` (one value, or one per
    sequence): `for (x, mask), y in run`. `length` tells the length of a sample, or is the list of all lengths; without
    a list each sample is read once here. `window` samples are sorted at a time (default: 131,072, or 256 microbatches
    if that is more). Sequences are cut off after `longest` values: a few of extreme length cost most of what padding
    is left. Raises `UserError` where a sample has no length.
    """
    pads = list(pad) if isinstance(pad, tuple | list) else [pad] * len(sequences)
    if len(pads) != len(sequences):
        raise UserError(f"pad has {len(pads)} values for {len(sequences)} sequences; give one for all or one for each")
    if window is not None and window < 1:
        raise UserError(f"window={window} is not a number of samples; give a whole number from 1")
    if length is None or callable(length):
        lengths = _measured(dataset, length or (lambda sample: _length(sample, sequences)))
    else:
        lengths = np.asarray(length, dtype=np.int32)
        if lengths.shape != (len(dataset),):
            raise UserError(f"there are {lengths.size} lengths for {len(dataset)} samples; give one for each")
    if longest is not None:
        if longest < 1:
            raise UserError(f"longest={longest} is not a length; give a whole number from 1")
        lengths = np.minimum(lengths, np.int32(longest))
    return ByLength(dataset, lengths, pads, sequences, window, longest)


def padded(sequences: Sequence[Any], pad: Any, longest: int | None = None) -> Padded:
    """Sequences of shapes (length, ...), equal but for the length, in one array, with its mask."""
    arrays = [np.asarray(sequence)[:longest] for sequence in sequences]
    room = max(array.shape[0] for array in arrays)
    model = next((array for array in arrays if array.size), arrays[0])  # an empty list tells no type
    values = np.full((len(arrays), room, *model.shape[1:]), pad, dtype=model.dtype)
    lengths = np.array([array.shape[0] for array in arrays])
    for row, array in zip(values, arrays, strict=True):
        if array.size:
            row[: array.shape[0]] = array
    return Padded(values, np.arange(room) < lengths[:, None])


def _measured(dataset: Any, length: Callable[[Any], int]) -> NDArray[np.int32]:
    lengths = np.empty(len(dataset), dtype=np.int32)
    for index in range(len(dataset)):
        try:
            lengths[index] = length(dataset[index])
        except (TypeError, IndexError) as error:
            raise UserError(f"sample {index} has no length ({error}); give length=, a function of a sample") from None
    return lengths


def _length(sample: Any, sequences: Sequence[int]) -> int:
    if _has_parts(sample):
        return max(len(sample[place]) for place in sequences)
    return len(sample)


def _has_parts(sample: Any) -> bool:
    """Whether `sample` is features, target and the like, and not one sequence of numbers."""
    return isinstance(sample, tuple | list) and len(sample) > 0 and not isinstance(sample[0], int | float | np.generic)


def _together(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _together([value[key] for value in values]) for key in first}
    if isinstance(first, tuple):
        return tuple(_together(column) for column in zip(*values, strict=True))
    if isinstance(first, np.ndarray) or hasattr(first, "detach"):
        return np.stack([np.asarray(value) for value in values])
    return np.array(values) if isinstance(first, bool | int | float | np.generic) else list(values)
