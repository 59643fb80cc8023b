"""What a worker does at once, as `springtide.train.worker` does it: one access of the arena, or the end of a longer
one.

What nobody else can tell apart is one move: data and the flag after them (nobody reads data before their flag, and the
time of writing is a place of its own), looking and beginning what is one's own (it stays one's own). With `Setup.words`
even these are taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from springtide.train.arena import Role
from springtide.train.protocol import Compute, Kind, Partial, Update, Wait
from train.model import bells, slowly
from train.model.explore import Move, Violation
from train.model.world import (
    ASLEEP,
    AUDITED,
    COMPLETING,
    CORPSE,
    DEAD,
    DONE,
    ENDED,
    ENTERING,
    IDLE,
    LOOP_BODY,
    NOBODY_THERE,
    PARKED,
    PUBLISHING,
    STARTING,
    SUMMING,
    TORN,
    UPDATING,
    HeaderWords,
    Local,
    Memory,
    State,
    header_of,
    leaders,
    put,
    read_step,
)

if TYPE_CHECKING:
    from train.model.play import Model

FLAGGING = "before the flag"
HEADING = "before the header"
CHECKED = "having seen no break"
_OUTSIDE = (NOBODY_THERE, DEAD, STARTING)
_STILL = (STARTING, ASLEEP, PARKED, DONE)


def moves(model: Model, state: State, me: int) -> Iterator[Move]:
    """Everything that worker `me` may do next, and its death."""
    local = state.workers[me]
    at = local[0]
    if at in (NOBODY_THERE, DEAD):
        return
    if state.fate.kills:
        fate = state.fate._replace(kills=state.fate.kills - 1)
        yield Move(_name(me), "is killed", State(state.memory, put(state.workers, me, CORPSE), state.boss, fate), True)
    if at == IDLE:
        if model.setup.bells:
            yield from bells.idle(model, state, me)
        elif model.setup.words:
            yield from slowly.idle(model, state, me)
        else:
            yield from _idle(model, state, me)
    elif at in _MIDDLE:
        yield from _MIDDLE[at](model, state, me)
    elif at not in _STILL:
        more = slowly.moves if model.setup.words else bells.moves
        yield from more(model, state, me)


def _name(me: int) -> str:
    return f"worker {me}"


# --- looking


def _idle(model: Model, state: State, me: int) -> Iterator[Move]:
    memory, local = state.memory, state.workers[me]
    old = local[1]
    now = model.current(memory)
    if old is not None and old != now:
        # It had looked before the tick was committed, and decides only now: then there must be nothing to decide.
        action = model.action(memory, me, old)
        if not isinstance(action, Wait):
            yield act(model, state, me, old, action)
    if model.setup.breaks:
        if local[2] == CHECKED:
            yield from _after_check(model, state, me, old)
            return
        if memory.drained == now[0] or now[1] == Kind.END:
            yield end(model, state, me, now)
        elif wanted(model, memory, me, now):
            news = old != now or not isinstance(model.action(memory, me, now), Wait)
            checked = step(state, me, (IDLE, now, CHECKED, None), f"sees tick {now[0]}, not left by break")
            yield checked._replace(free=not news)
        return
    if now[1] == Kind.END:
        if wanted(model, memory, me, now) or memory.main == me:
            yield end(model, state, me, now)
        return
    action = model.action(memory, me, now)
    if model.setup.settings and old != now and (not isinstance(action, Wait) or wanted(model, memory, me, now)):
        yield step(state, me, (ENTERING, now, None, None), f"sees tick {now[0]}, reads its settings")
    elif not isinstance(action, Wait):
        yield act(model, state, me, now, action)
    elif memory.roles[me] == Role.LEAVE and not model.named(memory, me, now):
        yield leave(state, me)
    elif old != now and wanted(model, memory, me, now):
        yield step(state, me, (IDLE, now, None, None), f"sees tick {now[0]}")


def _entering(model: Model, state: State, me: int) -> Iterator[Move]:
    """Others may write while it reads its settings, where it holds nothing up: then it must find out."""
    _, now, torn, _ = state.workers[me]
    what = "has read the settings"
    if torn and (model.rules.settings_unconfirmed or model.current(state.memory) == now):
        raise Violation(f"the settings of tick {now[0]} were read while they were overwritten", _name(me), what)
    yield step(state, me, (IDLE, now, None, None), what)


def _after_check(model: Model, state: State, me: int, now: HeaderWords) -> Iterator[Move]:
    action = model.action(state.memory, me, now)
    idle = (IDLE, now, None, None)
    if not model.rules.drained_seen_first and state.memory.drained == now[0]:
        yield step(state, me, idle, "sees the break")
    elif isinstance(action, Wait):
        yield step(state, me, idle, "finds nothing to do")
    else:
        yield act(model, state, me, now, action)


def wanted(model: Model, memory: Memory, me: int, now: HeaderWords) -> bool:
    """Whether it is awake: a parked worker sleeps until it is summoned."""
    if model.named(memory, me, now) or memory.roles[me] == Role.LEAVE:
        return True
    return model.named_later(memory, me, now)


def step(state: State, me: int, local: Local, what: str, memory: Memory | None = None) -> Move:
    """A move of worker `me` that touches nothing but itself and the arena."""
    workers = put(state.workers, me, local)
    if local[0] == COMPLETING and local[1][1] == Kind.TRAIN:
        workers = tuple(
            (*other[:2], True, None) if other[0] == ENTERING and other[1][4] == local[1][5] else other
            for other in workers
        )
    return Move(_name(me), what, State(memory or state.memory, workers, state.boss, state.fate))


def leave(state: State, me: int) -> Move:
    """In peace: the supervisor learns of it as of any death."""
    return step(state, me, CORPSE, "leaves")


def end(model: Model, state: State, me: int, now: HeaderWords) -> Move:
    return step(state, me, (ENDED, now, None, state.workers[me][3]), "comes to the end")


def act(model: Model, state: State, me: int, now: HeaderWords, action: Any) -> Move:
    """Begin an action: from here on, until it ends, the data that it needs are being accessed."""
    more = state.workers[me][3] if model.setup.bells else None
    if isinstance(action, Compute):
        kind = "the held-out microbatch" if now[1] == Kind.EVALUATE else "microbatch"
        local: Local = (LOOP_BODY, now, action.blocks, more)
        what = f"begins {kind} {_listed(action.blocks)} of tick {now[0]}, reading buffer {now[4]}"
    elif isinstance(action, Partial):
        local, what = (SUMMING, now, action.chunk, more), f"begins partial {action.chunk} of tick {now[0]}"
    else:
        assert isinstance(action, Update)
        local = UPDATING, now, action.chunk, more
        what = f"begins to update chunk {action.chunk} in tick {now[0]}, from buffer {now[4]} to {now[5]}"
    return begin(model, state, me, local, what)


def begin(model: Model, state: State, me: int, local: Local, what: str, memory: Memory | None = None) -> Move:
    """Enter an access: nobody else may be at the same data, and what is read must be whole and right."""
    memory = memory or state.memory
    reads, writes = model.access(local)
    for other, theirs in enumerate(state.workers):
        if other != me and theirs[0] not in _OUTSIDE:
            read, written = model.access(theirs)
            if writes & (read | written) or reads & written:
                clash = model.region((writes & (read | written)) | (reads & written))
                raise Violation(f"{clash} is accessed while worker {other} is {theirs[0]}", _name(me), what)
    if writes & model.lent(state.boss):
        raise Violation(f"{model.region(writes & model.lent(state.boss))} is written while lent", _name(me), what)
    if wrong := _wrong(local, memory):
        raise Violation(wrong, _name(me), what)
    return step(state, me, local, what, _torn(local, memory))


def _wrong(local: Local, memory: Memory) -> str:
    """What is the matter with the data that are about to be read."""
    at, now, item, _ = local
    tick, training, read = now[0], now[1] == Kind.TRAIN, now[4]
    if at == LOOP_BODY:
        if any(label != read_step(now) for label in memory.state[read]):
            return f"buffer {read} holds {memory.state[read]} where step {read_step(now)} is to be read"
        return ""
    if at == PUBLISHING:
        return ""
    if now[1] == Kind.IDLE:
        return ""
    if not training:
        return "" if all(label == tick for label in memory.results) else f"results {memory.results} in tick {tick}"
    reading = leaders(memory.covers)
    if sum(max(1, memory.covers[block]) for block in reading) != len(memory.covers):
        return f"passes cover {memory.covers} of {len(memory.covers)} microbatches"
    if any(memory.slots[block] != (tick, memory.covers[block]) for block in reading):
        return f"slots {memory.slots} are summed in tick {tick} where passes cover {memory.covers}"
    if at == SUMMING:
        return ""
    if memory.partials is not None and any(label != tick for label in memory.sums):
        return f"partials {memory.sums} are used in tick {tick}"
    part = item if at == UPDATING else -1
    if memory.state[read][part] != read_step(now):
        return f"part {part} of buffer {read} is of step {memory.state[read][part]}, not {read_step(now)}"
    return ""


def _torn(local: Local, memory: Memory) -> Memory:
    """What is being written is nobody's until it is done."""
    at, now, item, _ = local
    if at == PUBLISHING:
        if now[1] == Kind.EVALUATE:
            return memory._replace(results=put(memory.results, item[0], TORN))
        return memory._replace(slots=put(memory.slots, item[0], TORN))
    if at == SUMMING:
        return memory._replace(sums=put(memory.sums, item, TORN))
    if at in (UPDATING, COMPLETING) and now[1] == Kind.TRAIN:
        return _labelled(memory, now, item if at == UPDATING else -1, TORN)
    return memory


def _labelled(memory: Memory, now: HeaderWords, part: int, step: int) -> Memory:
    parts = memory.state[now[5]]
    return memory._replace(state=put(memory.state, now[5], put(parts, part % len(parts), step)))


# --- in the middle of things


def _loop_body(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, item, more = state.workers[me]
    memory, rules = state.memory, model.rules
    if model.setup.breaks and state.fate.breaks and now[1] == Kind.TRAIN:
        fate = state.fate._replace(breaks=state.fate.breaks - 1)
        left = put(state.workers, me, (ENDED, now, None, more))
        what = f"leaves the loop by break in tick {now[0]}"
        yield Move(_name(me), what, State(memory._replace(drained=now[0]), left, state.boss, fate), True)
    asks = f"asks for the next after {_listed(item)} of tick {now[0]}"
    if rules.flag_in_loop_body:
        if more == FLAGGING:
            yield step(state, me, (IDLE, now, None, None), asks)
        else:
            done = flag(model, _whole(memory, PUBLISHING, now, item), PUBLISHING, now, item, me)
            yield step(
                state, me, (LOOP_BODY, now, item, FLAGGING), f"publishes and flags {_listed(item)} in backward", done
            )
        return
    if rules.flag_before_data:
        memory = flag(model, memory, PUBLISHING, now, item, me)
        asks += ", flags it"
    yield begin(model, state, me, (PUBLISHING, now, item, more), asks, memory)


def _publishing(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, item, more = state.workers[me]
    if model.rules.flag_before_data:
        done = _whole(state.memory, PUBLISHING, now, item)
        yield step(state, me, (IDLE, now, None, more), f"has written slot {item[0]}", done)
    else:
        yield finish(model, state, me, PUBLISHING)


def _summing(model: Model, state: State, me: int) -> Iterator[Move]:
    yield finish(model, state, me, SUMMING)


def _updating(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, item, more = state.workers[me]
    if item != 0:
        yield finish(model, state, me, UPDATING)
        return
    done = _whole(state.memory, UPDATING, now, item)
    what = f"has updated chunk 0 in tick {now[0]}; module buffers and position follow"
    yield begin(model, state, me, (COMPLETING, now, 0, more), what, done)


def _completing(model: Model, state: State, me: int) -> Iterator[Move]:
    yield finish(model, state, me, COMPLETING)


def finish(model: Model, state: State, me: int, at: str) -> Move:
    """The data are whole; the flag follows, at once where nobody could tell."""
    _, now, item, more = state.workers[me]
    memory, rules = _whole(state.memory, at, now, item), model.rules
    what = f"has done {_described(at, item)} of tick {now[0]}"
    if model.setup.words:
        following = slowly.WISHING if at == COMPLETING else slowly.COVERING if at == PUBLISHING else FLAGGING
        return step(state, me, (following, now, (at, item), ()), what, memory)
    if rules.ring_before_flag:
        memory = head(model, memory, now, memory.wish) if at == COMPLETING else memory
        return step(state, me, (bells.RINGING, now, (FLAGGING, at, item), more), what, memory)
    if at == COMPLETING:
        if rules.flag_before_header:
            memory = flag(model, memory, at, now, item, me)
            return step(state, me, (HEADING, now, item, more), what + " and flagged it", memory)
        memory = head(model, memory, now, memory.wish)
        what += f", written {_header(memory.headers[(now[0] + 1) % 2])}"
    memory = flag(model, memory, at, now, item, me)
    more = bells.dirty(more) if model.setup.bells else more
    return step(state, me, (IDLE, now, None, more), what + " and flagged it", memory)


def _heading(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, _, more = state.workers[me]
    memory = head(model, state.memory, now, state.memory.wish)
    yield step(state, me, (IDLE, now, None, more), "writes the header", memory)


def _flagging(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, (at, item), more = state.workers[me]
    memory = flag(model, state.memory, at, now, item, me)
    yield step(state, me, (IDLE, now, None, more), f"flags {_described(at, item)} of tick {now[0]}", memory)


def _ended(model: Model, state: State, me: int) -> Iterator[Move]:
    if model.setup.bells:
        yield from bells.ended(model, state, me)
    elif state.memory.main == me and not state.memory.end:
        yield step(state, me, state.workers[me], "is main and counts", state.memory._replace(end=AUDITED))


_MIDDLE: dict[str, Callable[[Model, State, int], Iterator[Move]]] = {
    LOOP_BODY: _loop_body,
    PUBLISHING: _publishing,
    SUMMING: _summing,
    UPDATING: _updating,
    COMPLETING: _completing,
    ENTERING: _entering,
    HEADING: _heading,
    FLAGGING: _flagging,
    ENDED: _ended,
}


# --- the writes


def _whole(memory: Memory, at: str, now: HeaderWords, item: Any) -> Memory:
    """The data of an action are there, and carry what they are."""
    tick = now[0]
    if at == PUBLISHING:
        if now[1] == Kind.EVALUATE:
            return memory._replace(results=put(memory.results, item[0], tick))
        return memory._replace(slots=put(memory.slots, item[0], (tick, len(item))))
    if at == SUMMING:
        return memory._replace(sums=put(memory.sums, item, tick))
    if now[1] != Kind.TRAIN:
        return memory
    return _labelled(memory, now, item if at == UPDATING else -1, now[2])


def head(model: Model, memory: Memory, now: HeaderWords, wish: Any) -> Memory:
    """The next header, decided from the wishes as they were read."""
    header = model.following(now, wish)
    return memory._replace(headers=put(memory.headers, header[0] % 2, header))


def flag(model: Model, memory: Memory, at: str, now: HeaderWords, item: Any, me: int) -> Memory:
    """Slot law: the number of the tick, once. With the last chunk, the tick is committed."""
    tick = now[0]
    if at == PUBLISHING:
        if not model.setup.words:
            memory = cover(memory, now, item)
        if now[1] == Kind.EVALUATE:
            return memory._replace(looks=_flagged(memory.looks, item[0], tick, "held-out microbatch", me))
        return memory._replace(blocks=_flagged(memory.blocks, item[0], tick, "microbatch", me))
    if at == SUMMING:
        assert memory.partials is not None
        return memory._replace(partials=_flagged(memory.partials, item, tick, "partial", me))
    before = min(memory.chunks)
    memory = memory._replace(chunks=_flagged(memory.chunks, item, tick, "chunk", me))
    return _committed(model, memory, me) if min(memory.chunks) > before else memory


def cover(memory: Memory, now: HeaderWords, item: tuple[int, ...]) -> Memory:
    if now[1] == Kind.EVALUATE:
        return memory
    return memory._replace(covers=put(memory.covers, item[0], len(item)))


def _flagged(flags: Any, item: int, tick: int, what: str, me: int) -> Any:
    if flags[item] >= tick:
        raise Violation(f"{what} {item} is flagged {flags[item]} already", _name(me), f"flags it for tick {tick}")
    return put(flags, item, tick)


def _committed(model: Model, memory: Memory, me: int) -> Memory:
    """The state of a step is unique: what was just committed is all there, and so is the header that says where."""
    tick = min(memory.chunks)
    what = f"commits tick {tick}"
    header = memory.headers[(tick + 1) % 2]
    if header[0] != tick + 1:
        raise Violation(f"tick {tick} is committed and its successor's header is not there", _name(me), what)
    if any(label != read_step(header) for label in memory.state[header[4]]):
        raise Violation(
            f"buffer {header[4]} holds {memory.state[header[4]]} as step {read_step(header)}", _name(me), what
        )
    if header[1] == Kind.TRAIN and header[2] > memory.wish[4]:
        raise Violation(f"step {header[2]} is handed out and the step log ends at {memory.wish[4]}", _name(me), what)
    if memory.drained == tick:
        raise Violation(f"tick {tick} was left by break and is committed all the same", _name(me), what)
    return memory._replace(history=(*memory.history, header)) if model.setup.words else memory


# --- words for the story


def _listed(blocks: tuple[int, ...]) -> str:
    return "+".join(map(str, blocks))


def _described(at: str, item: Any) -> str:
    if at == PUBLISHING:
        return f"microbatch {_listed(item)}"
    return f"partial {item}" if at == SUMMING else f"chunk {item}"


def _header(words: HeaderWords) -> str:
    header = header_of(words)
    lent = f", {header.lent} lent" if header.lent >= 0 else ""
    kind = Kind(header.kind).name
    return f"header {header.tick} ({kind}, table {header.generation}, buffers {header.read} to {header.write}{lent})"
