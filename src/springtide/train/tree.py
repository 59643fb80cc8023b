"""The one binary tree over microbatches 0..M-1 by which everything is summed (Microbatch law)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def split(count: int) -> int:
    """How many of `count` leaves hang on the left: the largest power of two below it."""
    return 1 << (count - 1).bit_length() - 1


def fold(leaves: Sequence[T | None], add: Callable[[T, T], T]) -> T | None:
    """The sum of the leaves that are there, in tree order; a missing leaf adds nothing."""
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    left, right = fold(leaves[:middle], add), fold(leaves[middle:], add)
    if left is None or right is None:
        return right if left is None else left
    return add(left, right)


class Stack(Generic[T]):
    """The same sum when the leaves come one after another: at most log2(M) parts are held at a time.

    `add(left, right)` may work in place on `left`. Each leaf is a list of parts, any of which may be missing.
    """

    def __init__(self, add: Callable[[T, T], T]) -> None:
        self._add = add
        self._parts: list[tuple[int, list[T | None]]] = []  # (leaves in it, sums), sizes falling

    def push(self, leaf: list[T | None]) -> None:
        size = 1
        while self._parts and self._parts[-1][0] == size:
            leaf = self._join(self._parts.pop()[1], leaf)
            size *= 2
        self._parts.append((size, leaf))

    def total(self) -> list[T | None]:
        """The sums; the stack is empty afterwards."""
        _, right = self._parts.pop()
        while self._parts:
            right = self._join(self._parts.pop()[1], right)
        return right

    def _join(self, left: list[T | None], right: list[T | None]) -> list[T | None]:
        return [b if a is None else a if b is None else self._add(a, b) for a, b in zip(left, right, strict=True)]
