"""Puts the product's functions and the processes together: all moves from a state, and what an end must look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from springtide.train import membership, protocol
from springtide.train.protocol import BUFFERS, Kind
from train.model import leading, working
from train.model.explore import Move, Walk, explore
from train.model.world import (
    COMPLETING,
    DEAD,
    DONE,
    FINISHED,
    GONE,
    LOOP_BODY,
    NOBODY_THERE,
    PUBLISHING,
    STARTING,
    SUMMING,
    UPDATING,
    Fate,
    HeaderWords,
    Local,
    Memory,
    Rules,
    Setup,
    State,
    empty_memory,
    header_of,
    words_of,
)

Table = tuple[tuple[int, ...], tuple[int, ...], frozenset[int]]


class Model:
    """One configuration under one set of rules. Decisions are looked up where they were made before: they are pure."""

    def __init__(self, setup: Setup, rules: Rules) -> None:
        self.setup, self.rules = setup, rules
        self._actions: dict[Any, protocol.Action] = {}
        self._advances: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
        self._following: dict[Any, HeaderWords] = {}
        self._current: dict[Any, HeaderWords] = {}
        self._access: dict[Any, tuple[int, int]] = {}
        self._tables: dict[Any, Table] = {}
        self._first_state = setup.blocks + setup.chunks + setup.held_out

    # --- the product's decisions

    def current(self, memory: Memory) -> HeaderWords:
        """What a worker finds that looks at one instant."""
        key = memory.chunks, memory.headers
        found = self._current.get(key)
        if found is None:
            header = self.rules.current(memory.chunks, lambda parity: header_of(memory.headers[parity]))
            assert header is not None, f"no header for the tick after {min(memory.chunks)}: {memory.headers}"
            found = self._current[key] = words_of(header)
        return found

    def action(self, memory: Memory, me: int, now: HeaderWords) -> protocol.Action:
        if now[1] == Kind.IDLE:
            table = memory.tables[now[3] % self.setup.tables]
            held = self.idles(now, memory.wish)
            return self.rules.next_action(me, header_of(now), *table, (), (), None, memory.chunks, held=held)
        training = now[1] == Kind.TRAIN
        flags = memory.blocks if training else memory.looks
        covers = memory.covers if training else memory.looks
        table = memory.tables[now[3] % self.setup.tables]
        partials = memory.partials if training else None
        key = me, now, table, flags, covers, partials, memory.chunks
        found = self._actions.get(key)
        if found is None:
            covers = memory.covers if training else (1,) * len(flags)
            fused = training and self.setup.fused
            found = self._actions[key] = self.rules.next_action(
                me, header_of(now), *table, flags, covers, partials, memory.chunks, fused
            )
        return found

    def following(self, now: HeaderWords, wish: Any) -> HeaderWords:
        key = now, wish
        found = self._following.get(key)
        if found is None:
            header = self.rules.following(header_of(now), protocol.Wish(*wish), self.setup.course)
            found = self._following[key] = words_of(header)
        return found

    def idles(self, now: HeaderWords, wish: Any) -> bool:
        return protocol.idles(header_of(now), protocol.Wish(*wish), self.setup.course)

    def advance(self, known: Any, event: membership.Event, now: float) -> tuple[Any, tuple[Any, ...]]:
        key = known, repr(event), now
        found = self._advances.get(key)
        if found is None:
            state, out = self.rules.advance(leading.thaw(known), event, now)
            found = self._advances[key] = leading.freeze(state), tuple(out)
        return found

    # --- what follows from a state

    def table(self, memory: Memory, generation: int) -> Table:
        """Owners of blocks, of chunks, and all of them."""
        key = memory.tables[generation % self.setup.tables]
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = (*key, frozenset(key[0] + key[1]))
        return found

    def named(self, memory: Memory, me: int, now: HeaderWords) -> bool:
        return me in self.table(memory, now[3])[2]

    def named_later(self, memory: Memory, me: int, now: HeaderWords) -> bool:
        """Whether a table wished for since names that worker: it may be in force before the worker looks again."""
        newest = memory.wish[0]
        first = newest if self.rules.parks_by_newest_table else newest - self.setup.tables + 1
        return any(me in self.table(memory, number)[2] for number in range(max(now[3] + 1, first), newest + 1))

    def access(self, local: Local) -> tuple[int, int]:
        """The data that are read and written where a worker is, as bits."""
        at, now, item, _ = local
        if at not in (LOOP_BODY, PUBLISHING, SUMMING, UPDATING, COMPLETING):
            return 0, 0
        key = at, now[1], now[4], now[5], item
        found = self._access.get(key)
        if found is None:
            found = self._access[key] = self._accessed(at, now, item)
        return found

    def _accessed(self, at: str, now: HeaderWords, item: Any) -> tuple[int, int]:
        setup, training = self.setup, now[1] == Kind.TRAIN
        slots = (1 << setup.blocks) - 1
        sums = ((1 << setup.chunks) - 1) << setup.blocks
        results = ((1 << setup.held_out) - 1) << setup.blocks + setup.chunks
        if at == LOOP_BODY:
            return self.buffer(now[4]), 0
        if at == PUBLISHING:
            return 0, 1 << item[0] if training else 1 << setup.blocks + setup.chunks + item[0]
        if at == SUMMING:
            return slots, 1 << setup.blocks + item
        if not training:
            return results if now[1] == Kind.EVALUATE else 0, 0
        part = item if at == UPDATING else setup.chunks
        reads = slots | (sums if setup.partials else 0) | self._part(now[4], part)
        return reads, self._part(now[5], part)

    def _part(self, buffer: int, part: int) -> int:
        return 1 << self._first_state + buffer * (self.setup.chunks + 1) + part

    def buffer(self, buffer: int) -> int:
        """All parts of one buffer."""
        return sum(self._part(buffer, part) for part in range(self.setup.chunks + 1))

    def lent(self, boss: Any) -> int:
        """What the supervisor's thread is reading."""
        return self.buffer(boss[2][0]) if boss[2] is not None else 0

    def region(self, bits: int) -> str:
        """The first of these data, in words."""
        number = (bits & -bits).bit_length() - 1
        setup = self.setup
        for count, what in ((setup.blocks, "slot"), (setup.chunks, "partial"), (setup.held_out, "result")):
            if number < count:
                return f"{what} {number}"
            number -= count
        buffer, part = divmod(number, setup.chunks + 1)
        assert buffer < BUFFERS
        return f"{'position' if part == setup.chunks else f'chunk {part}'} of buffer {buffer}"

    # --- walking

    def first(self) -> State:
        """Step 0; unless one begins from nothing, all who are wanted are ready and table 0 names them."""
        setup = self.setup
        memory = empty_memory(setup)
        fate = Fate(
            setup.kills, setup.supervisor_kills, 0, setup.rebalances, setup.checkpoints, setup.stop, setup.breaks
        )
        nobody = membership.empty(setup.workers, setup.blocks, (1,) * setup.chunks)
        known = leading.freeze(nobody)
        known = (*known[:6], setup.spares, *known[7:])
        state = State(memory, (GONE,) * setup.rows, (known, (), None), fate)
        state = self._settled(leading.advance(self, state, membership.TimePassed(), ""))
        if not setup.from_nothing:
            for worker in range(setup.workers):
                state = state._replace(
                    workers=(
                        *state.workers[:worker],
                        ("between actions", None, None, None),
                        *state.workers[worker + 1 :],
                    )
                )
                state = self._settled(leading.advance(self, state, membership.WorkerReady(worker), ""))
        return state

    def _settled(self, move: Move) -> State:
        state = move.after
        assert isinstance(state, State)
        while state.boss[1]:
            after = leading.write(self, state).after
            assert isinstance(after, State)
            state = after
        return state

    def moves(self, state: Any) -> Iterator[Move]:
        """By anybody."""
        if state.memory.end == FINISHED and not self.setup.bells:
            return
        for worker in range(len(state.workers)):
            yield from working.moves(self, state, worker)
        yield from leading.moves(self, state)

    def wrong(self, state: Any) -> str:
        """What is wrong with a state in which nobody moves any more; empty if it is a proper end."""
        if state.memory.end != FINISHED:
            return "nobody does anything any more, and the run has not ended"
        if self.setup.bells:
            waiting = [
                w for w, local in enumerate(state.workers) if local[0] not in (NOBODY_THERE, DEAD, STARTING, DONE)
            ]
            return f"the run has ended and workers {waiting} wait for ever" if waiting else ""
        return ""

    def walk(self, limit: int = 5_000_000) -> Walk:
        return explore(self.first(), self.moves, self.wrong, limit)


def check(setup: Setup, rules: Rules | None = None, limit: int = 5_000_000) -> Walk:
    """Walk every state of a configuration. Raises `explore.Broken` with the shortest story of what went wrong."""
    return Model(setup, rules or Rules()).walk(limit)
