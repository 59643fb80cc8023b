"""Reading and writing word by word: the real functions run on sequences that hand out one fresh word a move.

A worker in the middle of `current` or `next_action` is the list of what it has read so far; the function is run anew
over that list until it asks for one word more than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from springtide.train.arena import Role
from springtide.train.protocol import Header, Kind, Wait, Wish
from train.model import working
from train.model.explore import Move, Violation
from train.model.world import IDLE, Local, Memory, State, put, words_of

if TYPE_CHECKING:
    from train.model.play import Model

LOOKING = "looking for the tick"
DECIDING = "deciding"
COVERING = "before the cover"
WISHING = "reading the wishes"
HEADER = "writing the header"


class _Pause(Exception):
    """The function wants another word."""


class _Reader:
    """Hands out what was read before, then one fresh word, then pauses."""

    def __init__(self, memory: Memory, read: tuple[Any, ...]) -> None:
        self.memory, self.read, self._at = memory, read, 0
        self._fresh = True

    def word(self, fetch: Callable[[Memory], Any]) -> Any:
        if self._at == len(self.read):
            if not self._fresh:
                raise _Pause
            self._fresh = False
            self.read = (*self.read, fetch(self.memory))
        self._at += 1
        return self.read[self._at - 1]


class _Words:
    """A sequence in the arena; each element is read when it is asked for."""

    def __init__(self, reader: _Reader, whole: Callable[[Memory], tuple[int, ...]]) -> None:
        self._reader, self._whole = reader, whole

    def __len__(self) -> int:
        return len(self._whole(self._reader.memory))

    def __getitem__(self, at: int) -> int:
        word: int = self._reader.word(lambda memory: self._whole(memory)[at])
        return word

    def __iter__(self) -> Iterator[int]:
        return (self[at] for at in range(len(self)))

    def tolist(self) -> list[int]:
        return list(self)


def idle(model: Model, state: State, me: int) -> Iterator[Move]:
    """Begin to look. Looking where there is nothing to see is the world's doing: progress must not rely on it."""
    now, local = model.current(state.memory), state.workers[me]
    news = now != local[1] or not isinstance(model.action(state.memory, me, now), Wait)
    after = working.step(state, me, (LOOKING, local[1], None, ()), "looks")
    yield after._replace(free=not news)


def moves(model: Model, state: State, me: int) -> Iterator[Move]:
    yield _MOVES[state.workers[me][0]](model, state, me)


def _look(model: Model, state: State, me: int) -> Move:
    _, old, _, read = state.workers[me]
    reader = _Reader(state.memory, read)

    def header(parity: int) -> Header:
        tick = reader.word(lambda memory: memory.headers[parity][0])
        return Header(tick, *reader.word(lambda memory: memory.headers[parity][1:]))

    try:
        found = model.rules.current(_Words(reader, lambda memory: memory.chunks), header)
    except _Pause:
        return _reads_on(state, me, reader)
    if found is None:
        return working.step(state, me, (IDLE, old, None, None), "finds the tick committed meanwhile")
    now = words_of(found)
    true = state.memory.history[now[0] - 1]
    if now != true:
        raise Violation(f"the header {now} was read where {true} was in force", f"worker {me}", "has read the header")
    if now[1] == Kind.END:
        return working.end(model, state, me, now)
    return working.step(state, me, (DECIDING, now, None, ()), f"has read header {now[0]}")


def _decide(model: Model, state: State, me: int) -> Move:
    _, now, _, read = state.workers[me]
    reader, setup = _Reader(state.memory, read), model.setup
    slot, training = now[3] % setup.tables, now[1] == Kind.TRAIN

    def words(whole: Callable[[Memory], Any]) -> Any:
        return _Words(reader, whole)

    try:
        held: dict[str, Any] = {}
        if now[1] == Kind.IDLE:
            held = {"held": model.idles(now, words(lambda memory: memory.wish).tolist())}
        action = model.rules.next_action(
            me,
            Header(*now),
            words(lambda memory: memory.tables[slot][0]),
            words(lambda memory: memory.tables[slot][1]),
            () if held else words(lambda memory: memory.blocks if training else memory.looks),
            () if held else words(lambda memory: memory.covers if training else (1,) * len(memory.looks)),
            words(lambda memory: memory.partials) if training and setup.partials else None,
            words(lambda memory: memory.chunks),
            setup.fused and training,
            **held,
        )
    except _Pause:
        return _reads_on(state, me, reader)
    if not isinstance(action, Wait):
        return working.act(model, state, me, now, action)
    if state.memory.roles[me] == Role.LEAVE and not model.named(state.memory, me, now):
        return working.leave(state, me)
    return working.step(state, me, (IDLE, now, None, None), "finds nothing to do")


def _reads_on(state: State, me: int, reader: _Reader) -> Move:
    at, now, item, _ = state.workers[me]
    return working.step(state, me, (at, now, item, reader.read), f"reads {reader.read[-1]} while {at}")


def _cover(model: Model, state: State, me: int) -> Move:
    _, now, item, _ = state.workers[me]
    memory = working.cover(state.memory, now, item[1])
    return working.step(state, me, (working.FLAGGING, now, item, ()), f"writes what {item[1]} covers", memory)


def _wish(model: Model, state: State, me: int) -> Move:
    at, now, item, read = state.workers[me]
    read = (*read, state.memory.wish[len(read)])
    local: Local = (at, now, item, read)
    if len(read) == len(Wish.__dataclass_fields__):
        local = HEADER, now, item, (0, model.following(now, read))
    return working.step(state, me, local, f"reads wish {read[-1]}")


def _write_header(model: Model, state: State, me: int) -> Move:
    """As `Arena.write_header`: no tick, then the rest, then the tick."""
    at, now, item, (done, header) = state.workers[me]
    parity = header[0] % 2
    words = state.memory.headers[parity]
    words = ((0, *words[1:]), (0, *header[1:]), header)[done]
    memory = state.memory._replace(headers=put(state.memory.headers, parity, words))
    local = (working.FLAGGING, now, item, ()) if done == 2 else (at, now, item, (done + 1, header))
    return working.step(state, me, local, f"writes part {done} of header {header[0]}", memory)


_MOVES: dict[str, Callable[[Model, State, int], Move]] = {
    LOOKING: _look,
    DECIDING: _decide,
    COVERING: _cover,
    WISHING: _wish,
    HEADER: _write_header,
}
