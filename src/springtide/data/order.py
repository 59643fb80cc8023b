"""Which samples form which microbatch: the Order law.

An order is an endless stream of positions 0, 1, 2, ... Position g belongs to epoch g // n and holds the sample that a
keyed permutation of that epoch puts at g % n. Step s takes the batch of positions that begins at (s - 1) * batch_size,
so a short tail of an epoch is carried into the next one and no sample is dropped or seen twice.

The permutation is a Feistel network on Z_a x Z_b with a * b just above n, and cycle walking for the few points beyond n
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): no list of n indices is ever in memory.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from springtide.spec import UserError

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]

BLOCK = 1 << 14  # positions computed at once: 128 KiB, which stays in the second-level cache
ROUNDS = 8
_MASK = (1 << 64) - 1
_SHIFT = np.uint64(0x9E3779B97F4A7C15)
_GOLDEN = 0x9E3779B97F4A7C15
_WALK = np.uint64(0xD1342543DE82EF95)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)


class OrderLike(Protocol):
    """What the runtime and the loader ask of an order, whoever made it."""

    @property
    def count(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def microbatches(self) -> int: ...
    def indices(self, step: int, microbatch: int) -> Indices: ...
    def steps(self, epochs: float) -> int: ...
    def epoch(self, step: int) -> float: ...
    def expected(self, steps: int) -> tuple[int, int]: ...
    def expected_of(self, step: int) -> tuple[int, int]: ...


def key_of(*parts: object) -> int:
    """A 64-bit key, a pure function of `parts`."""
    text = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def mix(words: Words) -> Words:
    """The output function of splitmix64 (Steele, Lea and Flood, 2014), element by element."""
    mixed = words + np.uint64(_GOLDEN)
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def checksum(indices: Indices) -> int:
    """A 64-bit sum over `indices` that does not depend on their order, and notices one that stands in for another.

    The sum of squares of shifted numbers: two instructions a sample, where it is asked for at every step.
    """
    words = np.asarray(indices).astype(np.uint64) + _SHIFT
    return int(np.dot(words, words))


def permute(positions: Words, n: int, keys: Words | np.uint64) -> Words:
    """Where each of `positions` (all below `n`) lands; `keys` names the permutation, one for all or one for each."""
    a = math.isqrt(n - 1) + 1 if n > 1 else 1
    wide, high = np.uint64(a), np.uint64(-(-n // a))
    points = _feistel(positions, wide, high, keys)
    beyond = np.flatnonzero(points >= np.uint64(n))
    while beyond.size:
        points[beyond] = _feistel(points[beyond], wide, high, keys if isinstance(keys, np.uint64) else keys[beyond])
        beyond = beyond[points[beyond] >= np.uint64(n)]
    return points


def _feistel(points: Words, wide: np.uint64, high: np.uint64, keys: Words | np.uint64) -> Words:
    right, left = np.divmod(points, wide)
    scratch, shifted = np.empty_like(left), np.empty_like(left)
    for turn in range(ROUNDS):
        # left, the half that changes, is taken modulo `size`; each round is undone by subtracting the same amount.
        size = wide if turn % 2 == 0 else high
        np.multiply(right, _WALK, out=scratch)
        scratch += np.uint64((_GOLDEN * (turn + 1)) & _MASK)
        scratch += keys
        np.right_shift(scratch, _HALF, out=shifted)
        scratch ^= shifted
        scratch *= _MIX_1
        np.right_shift(scratch, _HALF, out=shifted)
        scratch ^= shifted
        scratch *= _MIX_2
        scratch >>= _HALF
        scratch *= size
        scratch >>= _HALF
        left += scratch
        # min(x, x - size) is x mod size for x below 2 * size: the difference wraps around when it would be negative.
        np.subtract(left, size, out=scratch)
        np.minimum(left, scratch, out=left)
        left, right = right, left
    right *= wide  # an even number of rounds: left and right are what they were
    right += left
    return right


@dataclass(frozen=True)
class Order:
    """The order of samples of a run: a pure function of the data's fingerprint and the seed.

    `count` is the number of samples trained on: the dataset's length (kept as `available`), or the size of the fixed
    `sample` of it. The sample depends on the fingerprint alone, so runs of several seeds see the same part of the data.
    Raises `UserError` where no batch can be formed.
    """

    fingerprint: str
    seed: int
    count: int
    batch_size: int
    microbatches: int
    sample: float | None = None
    available: int = field(init=False)
    _key: int = field(init=False, repr=False, compare=False)
    _sample_key: np.uint64 = field(init=False, repr=False, compare=False)
    _blocks: tuple[tuple[int, Indices], ...] = field(init=False, repr=False, compare=False, default=())
    _epoch_sum: int | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        check_batch(self.batch_size, self.microbatches)
        set_ = object.__setattr__
        set_(self, "available", self.count)
        set_(self, "count", sample_size(self.count, self.sample))
        check_count(self.count, self.available, self.batch_size)
        set_(self, "_key", key_of("order", self.fingerprint, self.seed))
        set_(self, "_sample_key", np.uint64(key_of("sample", self.fingerprint)))

    @property
    def microbatch_size(self) -> int:
        return self.batch_size // self.microbatches

    def indices(self, step: int, microbatch: int) -> Indices:
        """The samples of one microbatch of step `step` (from 1): shape (microbatch_size,)."""
        assert step >= 1 and 0 <= microbatch < self.microbatches
        size = self.batch_size // self.microbatches
        return self.stream((step - 1) * self.batch_size + microbatch * size, size)

    def stream(self, start: int, length: int) -> Indices:
        """The samples at positions start, ..., start + length - 1 of the endless stream."""
        number, offset = divmod(start, BLOCK)
        if offset + length <= BLOCK:
            return self._block(number)[offset : offset + length].copy()
        parts = [self._block(number)[offset:]]
        length -= BLOCK - offset
        while length > 0:
            number += 1
            parts.append(self._block(number)[:length])
            length -= BLOCK
        return np.concatenate(parts)

    def steps(self, epochs: float) -> int:
        """How many steps see each sample at least `epochs` times."""
        return math.ceil(Fraction(str(epochs)) * self.count / self.batch_size)

    def epoch(self, step: int) -> float:
        """Epochs completed after step `step`."""
        return step * self.batch_size / self.count

    def expected(self, steps: int) -> tuple[int, int]:
        """How many samples the steps 1 ... `steps` count, and their checksum modulo 2**64."""
        total = steps * self.batch_size
        epochs, rest = divmod(total, self.count)
        summed = epochs * self.epoch_sum() if epochs else 0
        return total, (summed + self._sum(epochs * self.count, rest)) & _MASK

    def expected_of(self, step: int) -> tuple[int, int]:
        """The same for step `step` alone."""
        return self.batch_size, self._sum((step - 1) * self.batch_size, self.batch_size)

    def _block(self, number: int) -> Indices:
        blocks = self._blocks  # one read: another thread may replace the tuple, which is itself never changed
        for held, block in blocks:
            if held == number:
                return block
        block = self._compute(number * BLOCK, BLOCK)
        object.__setattr__(self, "_blocks", ((number, block), *blocks[:1]))
        return block

    def _compute(self, start: int, length: int) -> Indices:
        positions = np.arange(start, start + length, dtype=np.uint64)
        epochs, positions = np.divmod(positions, np.uint64(self.count))
        epochs *= np.uint64(_GOLDEN)
        epochs += np.uint64(self._key)
        points = permute(positions, self.count, mix(epochs))
        if self.count < self.available:
            points = permute(points, self.available, self._sample_key)
        return points.astype(np.int64)

    def _sum(self, start: int, length: int) -> int:
        total = 0
        for first in range(start, start + length, BLOCK):
            total += checksum(self.stream(first, min(BLOCK, start + length - first)))
        return total & _MASK

    def epoch_sum(self) -> int:
        """The checksum of one whole epoch."""
        if self._epoch_sum is None:
            object.__setattr__(self, "_epoch_sum", self._sum(0, self.count))
        assert self._epoch_sum is not None
        return self._epoch_sum


def check_batch(batch_size: int, microbatches: int) -> None:
    """Raises `UserError` unless `microbatches` parts of equal size make a batch."""
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is not a batch; give a whole number from 1")
    if microbatches < 1 or batch_size % microbatches:
        near = [m for m in range(1, min(batch_size, 2 * max(microbatches, 1)) + 1) if batch_size % m == 0]
        fits = max((m for m in near if m <= microbatches), default=1)
        raise UserError(
            f"batch_size={batch_size} is not divisible by microbatches={microbatches}; microbatches={fits} would be, "
            f"or batch_size={max(1, batch_size // max(microbatches, 1)) * max(microbatches, 1)}"
        )


def check_count(count: int, available: int, batch_size: int) -> None:
    """Raises `UserError` where the data is shorter than a batch."""
    if count >= batch_size:
        return
    if available == 0:
        raise UserError("the dataset is empty: it has no sample to train on")
    right = f"give batch_size={count} or less" if count else "take a larger sample"
    if count < available:
        raise UserError(
            f"the sample has {count} of the dataset's {available} samples, fewer than one batch of {batch_size}; "
            f"{right}, or a larger sample"
            if count
            else f"the sample of {available} samples is empty; {right}"
        )
    raise UserError(f"the dataset has {count} samples, fewer than one batch of {batch_size}; {right}")


def sample_size(count: int, sample: float | None) -> int:
    """How many of `count` samples a share `sample` (above 0, at most 1) takes: at least one, where there is one."""
    if sample is None:
        return count
    if not 0 < sample <= 1:
        raise UserError(f"sample={sample} is not a share of the data; give a number above 0 and at most 1 (0.01 is 1%)")
    return min(count, max(1, round(Fraction(str(sample)) * count)))
