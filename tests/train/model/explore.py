"""Walks every reachable state, breadth first; a violation comes with the shortest story that leads to it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Violation(Exception):
    """A law was broken by one move: why, and which move."""

    def __init__(self, why: str, who: str, what: str) -> None:
        super().__init__(why)
        self.move = f"{who}: {what}"


class Move(NamedTuple):
    """What one process does at once.

    `free`: the world's own doing (a kill, a wish), which progress must not rely on.
    """

    who: str
    what: str
    after: Hashable
    free: bool = False


@dataclass(frozen=True)
class Walk:
    """How much was seen."""

    states: int
    moves: int
    ends: int  # states where nothing is left to do, all of them proper ends


class Broken(AssertionError):
    """Carries the story: one line a move."""

    def __init__(self, why: str, story: list[str]) -> None:
        self.why, self.story = why, story
        lines = "\n".join(f"  {number:3d}. {line}" for number, line in enumerate(story, 1))
        super().__init__(f"{why}\n{lines}")


def explore(
    first: Hashable,
    moves: Callable[[Hashable], Iterable[Move]],
    is_end: Callable[[Hashable], str],
    limit: int = 5_000_000,
) -> Walk:
    """Every state from `first` on. `is_end(state)` says what is wrong with a state from which nothing moves by itself.

    Raises Broken where a move violates a law, where somebody waits for ever, or where processes can go round in circles
    without the world's doing. Without circles, every run in which kills and wishes are finite comes to a proper end.
    """
    index = {first: 0}
    order = [first]
    came = array("q", [-1])  # state -> the state before
    stories: list[tuple[str, str]] = [("", "")]
    edges, offsets = array("q"), array("q", [0])
    walked = ends = 0

    def story(number: int) -> list[str]:
        lines = []
        while number > 0:
            who, what = stories[number]
            lines.append(f"{who}: {what}")
            number = came[number]
        return lines[::-1]

    at = 0
    while at < len(order):
        state = order[at]
        stuck = True
        iterator: Iterator[Move] = iter(moves(state))
        while True:
            try:
                move = next(iterator, None)
            except Violation as violation:
                raise Broken(str(violation), [*story(at), violation.move]) from None
            if move is None:
                break
            walked += 1
            found = index.get(move.after)
            if found is None:
                found = index[move.after] = len(order)
                order.append(move.after)
                came.append(at)
                stories.append((move.who, move.what))
                if found > limit:
                    raise AssertionError(f"more than {limit} states: make the configuration smaller")
            if not move.free:
                stuck = False
                edges.append(found)
        if stuck:
            wrong = is_end(state)
            if wrong:
                raise Broken(wrong, story(at))
            ends += 1
        offsets.append(len(edges))
        at += 1
    circle = _circle(edges, offsets)
    if circle >= 0:
        raise Broken("processes go round in circles without progress", story(circle))
    return Walk(len(order), walked, ends)


def _circle(edges: array[int], offsets: array[int]) -> int:
    """A state on a circle of moves, or -1: states are taken away in topological order until only circles remain."""
    count = len(offsets) - 1
    arriving = array("l", bytes(array("l").itemsize * count))
    for target in edges:
        arriving[target] += 1
    ready = [state for state in range(count) if arriving[state] == 0]
    taken = 0
    while ready:
        state = ready.pop()
        taken += 1
        for target in edges[offsets[state] : offsets[state + 1]]:
            arriving[target] -= 1
            if arriving[target] == 0:
                ready.append(target)
    return -1 if taken == count else next(state for state in range(count) if arriving[state] > 0)
