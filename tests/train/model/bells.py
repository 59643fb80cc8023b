"""Waiting, down to the futexes: read the bell, look, sleep unless it rang; park on one's own word; ring after flags.

Bells have one value each, so what counts of a bell that was read is whether it rang since: FRESH or STALE.
A worker's `more` is (flags not rung for yet, what it was at, bell read, own word read).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from springtide.train.arena import Role
from springtide.train.protocol import Kind, Wait
from train.model import working
from train.model.explore import Move
from train.model.world import ASLEEP, AUDITED, DONE, ENDED, FINISHED, GONE, IDLE, PARKED, Local, Memory, State, put

if TYPE_CHECKING:
    from train.model.play import Model

FRESH, STALE = 0, 1
RINGING, WAKING = "about to ring", "about to wake the sleepers"
SEEN, LOOKING = "having read the bell", "having read bell and own word"
WAITING, PARKING = "about to wait", "about to park or wait"
ABOUT_TO_SLEEP, ABOUT_TO_PARK = "about to sleep", "about to park"
ENDING = "at the end"
NOTHING_READ = (False, "Wait", FRESH, FRESH)


def dirty(more: Any) -> Any:
    return (True, *more[1:])


def ring(model: Model, memory: Memory, workers: tuple[Local, ...], ringer: int) -> tuple[Memory, tuple[Local, ...]]:
    """Store the bell. What others had read of it is stale now, where no two rings are alike."""
    if model.rules.rings_alike:
        return memory._replace(bell=ringer + 2), workers
    changed = [
        (*local[:3], (local[3][0], local[3][1], STALE, local[3][3])) if local[3] is not None else local
        for local in workers
    ]
    return memory, tuple(changed)


def wake(workers: tuple[Local, ...]) -> tuple[Local, ...]:
    return tuple((IDLE, *local[1:]) if local[0] == ASLEEP else local for local in workers)


def store_own(workers: tuple[Local, ...], worker: int) -> tuple[Local, ...]:
    """The supervisor counts up a worker's own word."""
    at, now, item, more = workers[worker]
    return workers if more is None else put(workers, worker, (at, now, item, (*more[:3], STALE)))


def wake_one(workers: tuple[Local, ...], worker: int) -> tuple[Local, ...]:
    at, now, item, more = workers[worker]
    return put(workers, worker, (item, now, None, more)) if at == PARKED else workers


def idle(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, _, more = state.workers[me]
    more = more or NOTHING_READ
    bell = state.memory.bell if model.rules.rings_alike else FRESH
    yield working.step(state, me, (SEEN, now, None, (*more[:2], bell, more[3])), "reads the bell")


def moves(model: Model, state: State, me: int) -> Iterator[Move]:
    yield _MOVES[state.workers[me][0]](model, state, me)


def _seen(model: Model, state: State, me: int) -> Move:
    _, now, _, more = state.workers[me]
    return working.step(state, me, (LOOKING, now, None, (*more[:3], FRESH)), "reads its own word")


def _look(model: Model, state: State, me: int) -> Move:
    _, old, _, (unrung, phase, bell, own) = state.workers[me]
    now = model.current(state.memory)
    action = None if now[1] == Kind.END else model.action(state.memory, me, now)
    kind = phase if action is None else type(action).__name__
    local: Local = (RINGING, now, action, (unrung, kind, bell, own))
    if unrung and (now != old or kind != phase):
        return working.step(state, me, local, f"sees tick {now[0]} and what it is to do")
    after = State(state.memory, put(state.workers, me, local), state.boss, state.fate)
    return _carry_out(model, after, me)


def _ring(model: Model, state: State, me: int) -> Move:
    _, now, item, more = state.workers[me]
    memory, workers = ring(model, state.memory, state.workers, me)
    more = workers[me][3]
    workers = put(workers, me, (WAKING, now, item, (False, *more[1:])))
    return Move(f"worker {me}", "rings", State(memory, workers, state.boss, state.fate))


def _wake(model: Model, state: State, me: int) -> Move:
    _, now, item, more = state.workers[me]
    workers = wake(state.workers)
    state = State(state.memory, workers, state.boss, state.fate)
    if isinstance(item, tuple) and item[0] == working.FLAGGING:  # the mutation that rings first
        return working.step(state, me, (working.FLAGGING, now, item[1:], more), "wakes the sleepers")
    return _carry_out(model, state, me)


def _carry_out(model: Model, state: State, me: int) -> Move:
    """What it decided when it looked."""
    _, now, action, more = state.workers[me]
    if now[1] == Kind.END:
        return working.end(model, state, me, now)
    if isinstance(action, Wait):
        return working.step(state, me, (WAITING, now, None, more), f"finds nothing to do in tick {now[0]}")
    return working.act(model, state, me, now, action)


def _wait(model: Model, state: State, me: int) -> Move:
    _, now, _, more = state.workers[me]
    if model.named(state.memory, me, now):
        return working.step(state, me, (ABOUT_TO_SLEEP, now, None, more), "is named: it will sleep")
    if state.memory.roles[me] == Role.LEAVE:
        return working.leave(state, me)
    return working.step(state, me, (PARKING, now, None, more), "is not named")


def _parking(model: Model, state: State, me: int) -> Move:
    _, now, _, more = state.workers[me]
    if model.named_later(state.memory, me, now):
        return working.step(state, me, (ABOUT_TO_SLEEP, now, None, more), "is named by a later table: it will sleep")
    return working.step(state, me, (ABOUT_TO_PARK, now, IDLE, more), "will park")


def _sleep(model: Model, state: State, me: int) -> Move:
    _, now, _, more = state.workers[me]
    bell = state.memory.bell if model.rules.rings_alike else FRESH
    if more[2] == bell:
        return working.step(state, me, (ASLEEP, now, None, more), "falls asleep")
    return working.step(state, me, (IDLE, now, None, more), "does not sleep: it rang")


def _park(model: Model, state: State, me: int) -> Move:
    _, now, then, more = state.workers[me]
    if more[3] == FRESH:
        return working.step(state, me, (PARKED, now, then, more), "parks")
    return working.step(state, me, (then, now, None, more), "does not park: it was summoned")


def ended(model: Model, state: State, me: int) -> Iterator[Move]:
    _, now, _, more = state.workers[me]
    yield working.step(state, me, (ENDING, now, None, (*more[:3], FRESH)), "reads its own word at the end")


def _ending(model: Model, state: State, me: int) -> Move:
    _, now, _, more = state.workers[me]
    if state.memory.main == me:
        memory = state.memory if state.memory.end else state.memory._replace(end=AUDITED)
        return working.step(state, me, (DONE, now, None, more), "is main and counts", memory)
    if state.memory.end == FINISHED:
        return working.step(state, me, GONE, "ends with the script")
    return working.step(state, me, (ABOUT_TO_PARK, now, ENDED, more), "waits lest main dies")


_MOVES: dict[str, Callable[[Model, State, int], Move]] = {
    SEEN: _seen,
    LOOKING: _look,
    RINGING: _ring,
    WAKING: _wake,
    WAITING: _wait,
    PARKING: _parking,
    ABOUT_TO_SLEEP: _sleep,
    ABOUT_TO_PARK: _park,
    ENDING: _ending,
}
