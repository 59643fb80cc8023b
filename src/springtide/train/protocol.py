"""The step protocol: what a worker does next, and what the next tick looks like.

Pure; the model checker walks this very code. A *tick* is one round of the protocol: a training step, an evaluation
(which updates nothing), or an idle one where the next step is not planned yet (Stream law). Items of a tick (blocks of
microbatches, partials, chunks) have one flag each: the number of the last tick for which they are complete. Flags only
grow, and an owner changes only when the old one is confirmed dead, so a decision made from a slow, torn reading of them
is one that an instantaneous reading would have allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

BUFFERS = 3
NOBODY = -1
UNLIMITED = 1 << 62  # steps


class Kind(IntEnum):
    """What a tick is for."""

    TRAIN = 1
    EVALUATE = 2
    END = 3
    IDLE = 4  # has no microbatch; its chunk 0 is held back until there is something to go on for


@dataclass(frozen=True, slots=True)
class Header:
    """What tick `tick` uses; decided inside the tick before it by whoever completes chunk 0 (Membership law)."""

    tick: int
    kind: int
    step: int  # training: the step that this tick makes; otherwise the last committed step
    generation: int  # whose table says who does what
    read: int  # buffer that holds the state
    write: int  # buffer that the update goes to
    lent: int  # buffer lent to the supervisor, or NOBODY
    loan: int  # number of the last loan granted
    lent_step: int  # the step whose state the lent buffer holds


@dataclass(frozen=True, slots=True)
class Wish:
    """What the supervisor asks for. One writer; a decider may see an old wish and grant it a tick later."""

    generation: int = 0  # newest table
    loan: int = 0  # newest loan asked for
    returned: int = 0  # newest loan given back
    stop: int = 0  # end before the next step
    planned: int = UNLIMITED  # the last step that the step log holds
    end: int = UNLIMITED  # the last step, once it is known


@dataclass(frozen=True, slots=True)
class Course:
    """Which ticks there are: `steps` in all, an evaluation after every `evaluate_every` of them and after the last."""

    steps: int
    evaluate_every: int = 0

    def evaluates_after(self, step: int) -> bool:
        return self.evaluate_every > 0 and step > 0 and (step % self.evaluate_every == 0 or step >= self.steps)

    def until(self, end: int) -> Course:
        """The same, ending there at the latest."""
        return self if end >= self.steps else Course(end, self.evaluate_every)


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute these neighbouring blocks and publish them together (one block, unless passes are fused)."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    """Reduce this chunk and publish what it adds to the global quantity."""

    chunk: int


@dataclass(frozen=True, slots=True)
class Update:
    """Bring this chunk into the buffer that is written, then flag it."""

    chunk: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is mine to do until somebody flags something or an owner changes."""


Action = Compute | Partial | Update | Wait


def committed(chunk_flags: Sequence[int]) -> int:
    """The last committed tick: a pure function of the flags (Slot law)."""
    return min(chunk_flags)


def current(chunk_flags: Sequence[int], header: Callable[[int], Header]) -> Header | None:
    """The header of the tick under way; `header(parity)` reads one. None: the tick was committed meanwhile, look
    again.

    Header t is complete before t - 1 is committed, and overwritten only in tick t + 1: what was read while t - 1
    stayed the last committed tick is whole.
    """
    tick = committed(chunk_flags) + 1
    found = header(tick % 2)
    return found if found.tick == tick and committed(chunk_flags) + 1 == tick else None


def missing(flags: Sequence[int], covers: Sequence[int], tick: int) -> Iterator[int]:
    """Blocks not yet complete for `tick`. A flagged block speaks for the `covers` blocks that begin with it."""
    block, count = 0, len(flags)
    while block < count:
        if flags[block] >= tick:
            block += max(1, covers[block])
        else:
            yield block
            block += 1


def next_action(
    me: int,
    now: Header,
    block_owner: Sequence[int],
    chunk_owner: Sequence[int],
    block_flags: Sequence[int],
    covers: Sequence[int],
    partial_flags: Sequence[int] | None,
    chunk_flags: Sequence[int],
    fused: bool = False,
    held: bool = False,
) -> Action:
    """What worker `me` does next in tick `now`. `held`: it idles, so chunk 0 and with it the next tick have time.

    `block_flags` are those of the tick's kind (blocks, held-out microbatches, or none); item i belongs to
    `block_owner[i % len(block_owner)]`. `partial_flags` is None where the update needs no global quantity.
    """
    # Owners before flags: what was handed to me carries all the flags that its dead owner ever set.
    block_owners, chunk_owners = list(block_owner), list(chunk_owner)
    tick, owners = now.tick, len(block_owners)
    open_blocks = list(missing(block_flags, covers, tick))
    mine = [block for block in open_blocks if block_owners[block % owners] == me]
    if committed(chunk_flags) >= tick:
        return Wait()  # covers may already be those of the next tick, under which blocks look missing that are not
    if mine:
        return Compute(_neighbours(mine) if fused else (mine[0],))
    if open_blocks:
        return Wait()
    if partial_flags is not None:
        for chunk, flag in enumerate(partial_flags):
            if flag < tick and chunk_owners[chunk] == me:
                return Partial(chunk)
        if min(partial_flags) < tick:
            return Wait()
    for chunk, flag in enumerate(chunk_flags):
        if flag < tick and chunk_owners[chunk] == me and (chunk or not held):
            return Update(chunk)
    return Wait()


def _neighbours(blocks: list[int]) -> tuple[int, ...]:
    """The run of consecutive numbers at the head of `blocks`."""
    end = 1
    while end < len(blocks) and blocks[end] == blocks[0] + end:
        end += 1
    return tuple(blocks[:end])


def first_header(step: int, buffer: int, course: Course, evaluated: bool, wish: Wish | None = None) -> Header:
    """The header of tick 1 for a state at `step` that lies in `buffer` (0 for a new run)."""
    wish = wish or Wish()
    tick, course = Header(0, Kind.TRAIN, step, 0, buffer, buffer, NOBODY, 0, 0), course.until(wish.end)
    evaluated = evaluated or not course.evaluates_after(step)
    return _enter(tick, course, evaluated, wish.planned, stop=False, read=buffer, lent=NOBODY)


def following(now: Header, wish: Wish, course: Course, *, stop: bool = False) -> Header:
    """The header of the next tick. `stop`: the tick itself found a reason to end (early stopping).

    A training tick moves the state to the buffer it wrote. A loan that was asked for is granted on the buffer that the
    next tick reads, which nobody writes until the loan is returned (Checkpoint law).
    """
    read = now.write if now.kind == Kind.TRAIN else now.read
    lent = NOBODY if wish.returned >= now.loan else now.lent
    loan, lent_step = now.loan, now.lent_step
    if wish.loan > loan and lent == NOBODY:
        lent, loan, lent_step = read, wish.loan, now.step
    done = Header(now.tick, now.kind, now.step, max(now.generation, wish.generation), read, read, lent, loan, lent_step)
    course = course.until(wish.end)
    looked = now.kind == Kind.IDLE and now.step % max(1, course.evaluate_every) == 0  # before it became idle
    evaluated = now.kind == Kind.EVALUATE or looked or not course.evaluates_after(now.step)
    return _enter(done, course, evaluated, wish.planned, stop=stop or bool(wish.stop), read=read, lent=lent)


def idles(now: Header, wish: Wish, course: Course) -> bool:
    """Whether an idle tick has nothing to go on for: the next one would be the same."""
    return now.kind == Kind.IDLE and replace(following(now, wish, course), tick=now.tick) == now


def _enter(done: Header, course: Course, evaluated: bool, planned: int, *, stop: bool, read: int, lent: int) -> Header:
    """The tick after `done`, where `done` names the state reached and `evaluated` says whether it was looked at."""
    free = min(buffer for buffer in range(BUFFERS) if buffer not in (read, lent))
    if not evaluated:
        kind, step = Kind.EVALUATE, done.step
    elif stop or done.step >= course.steps:
        kind, step = Kind.END, done.step
    elif done.step >= planned:
        kind, step = Kind.IDLE, done.step
    else:
        kind, step = Kind.TRAIN, done.step + 1
    return Header(done.tick + 1, kind, step, done.generation, read, free, lent, done.loan, done.lent_step)


def deal(shares: dict[int, float], items: int) -> list[int]:
    """Item -> worker: each worker gets a run of neighbours, as long as its share says (largest remainders)."""
    total = sum(shares.values())
    ideal = {worker: items * share / total for worker, share in sorted(shares.items())}
    counts = {worker: int(part) for worker, part in ideal.items()}
    rest = sorted(ideal, key=lambda worker: (counts[worker] - ideal[worker], worker))
    for worker in rest[: items - sum(counts.values())]:
        counts[worker] += 1
    return [worker for worker, count in counts.items() for _ in range(count)]


def substitute(owners: Sequence[int], dead: int, heirs: Sequence[int]) -> dict[int, int]:
    """Item -> new owner for all that `dead` owned, dealt in turn to `heirs`; nobody alive loses anything."""
    lost = [item for item, owner in enumerate(owners) if owner == dead]
    return {item: heirs[k * len(heirs) // len(lost)] for k, item in enumerate(lost)}
