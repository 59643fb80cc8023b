"""Which waiting requests are computed together: of one version and of equal shapes but for the rows. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol, TypeVar

from springtide.serve.server import tensors
from springtide.serve.server.tensors import Texts, Value


class Waiting(Protocol):
    """A request in the queue. `key` None: it is computed alone."""

    @property
    def key(self) -> Hashable: ...

    @property
    def rows(self) -> int: ...


W = TypeVar("W", bound=Waiting)


def key_of(inputs: Mapping[str, Value]) -> tuple[Hashable, int]:
    """What has to be equal for two requests to be computed together, and the rows of this one.

    (None, 1): its inputs do not agree on a number of rows, so it is computed alone.
    """
    rows: int | None = None
    parts: list[Hashable] = []
    for name, value in sorted(inputs.items()) if len(inputs) > 1 else inputs.items():
        shape = value.shape
        if not shape or (rows is not None and shape[0] != rows):
            return None, 1
        rows = shape[0]
        parts.append((name, tensors.BYTES if isinstance(value, Texts) else value.dtype, tuple(shape[1:])))
    return (tuple(parts), rows) if rows else (None, 1)


def take(waiting: deque[W], most_rows: int) -> list[W]:
    """Removes and returns the oldest and those that may be computed with it, at most so many rows."""
    first = waiting.popleft()
    batch, rows = [first], first.rows
    if first.key is None:
        return batch
    passed: list[W] = []
    while waiting and rows < most_rows:
        one = waiting.popleft()
        if one.key == first.key and rows + one.rows <= most_rows:
            batch.append(one)
            rows += one.rows
        else:
            passed.append(one)
    waiting.extendleft(reversed(passed))
    return batch


def drop(waiting: deque[W], which: Callable[[W], bool]) -> Iterable[W]:
    """Removes and returns those."""
    gone = [one for one in waiting if which(one)]
    if gone:
        kept = [one for one in waiting if not which(one)]
        waiting.clear()
        waiting.extend(kept)
    return gone
