"""What there is in the model: the arena's words and data, each worker, the supervisor, and what may still befall them.

A state is four tuples: memory, workers, boss, fate. Data are labels: a state buffer's part carries the step whose state
it holds, a slot (tick, microbatches in it), a partial and an evaluation's result the tick. TORN is being written, or
was left so by a dead writer. What a step makes out of data that carry the right labels is therefore a function of the
step alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from springtide.train import arena, membership, protocol
from springtide.train.protocol import BUFFERS, NOBODY, UNLIMITED, Course, Header, Kind, Wish

TORN = -1
Words = tuple[int, ...]
HeaderWords = tuple[int, ...]
Local = tuple[Any, ...]  # a worker: (at, header, item, more)

# Where a worker is. Each of the middle ones is the time of an access to data that is not atomic.
NOBODY_THERE, DEAD, STARTING, ENDED = "none", "dead", "starting", "ended"
IDLE = "between actions"
LOOP_BODY = "in the loop body"  # the user's code may read the state at any time
PUBLISHING = "publishing"
SUMMING = "computing a partial"
UPDATING = "updating"
ASLEEP, PARKED = "asleep", "parked"
DONE = "after the loop"
ENTERING = "entering a tick"  # the settings of the optimizer travel with the position
COMPLETING = "completing"  # module buffers, position, then the header


@dataclass(frozen=True)
class Setup:
    """One configuration: how large, and what may happen."""

    workers: int = 2
    spares: int = 0
    blocks: int = 2
    chunks: int = 2
    steps: int = 2
    evaluate_every: int = 0
    partials: bool = False
    fused: bool = False
    kills: int = 0
    supervisor_kills: int = 0
    resizes: tuple[int, ...] = ()
    hasty: bool = False  # those beyond a size are killed
    rebalances: int = 0
    checkpoints: int = 0
    stop: bool = False
    settings: bool = False  # of a torch scheduler: read from the position when a tick is entered
    breaks: int = 0  # loop bodies left by `break`
    words: bool = False  # every word is read and written on its own, however slowly
    bells: bool = False  # waiting is modelled down to the futexes
    from_nothing: bool = False  # begin before anybody is ready
    stream: bool = False  # steps are planned one by one, and their number is known at last
    tables: int = arena.TABLES
    rows: int = 6

    @property
    def course(self) -> Course:
        return Course(UNLIMITED if self.stream else self.steps, self.evaluate_every)

    @property
    def held_out(self) -> int:
        return 1 if self.evaluate_every else 0


@dataclass(frozen=True)
class Rules:
    """The product's decisions, and the order in which its shells write. Mutations replace one of them."""

    current: Callable[..., Header | None] = protocol.current
    next_action: Callable[..., protocol.Action] = protocol.next_action
    following: Callable[..., Header] = protocol.following
    advance: Callable[..., Any] = membership.advance
    flag_before_data: bool = False
    flag_in_loop_body: bool = False
    flag_before_header: bool = False
    ring_before_flag: bool = False
    rings_alike: bool = False
    settings_unconfirmed: bool = False  # settings are used without looking again whether the tick is still under way
    parks_by_newest_table: bool = False  # whether a later table names one is asked of the newest alone
    adopts_silently: bool = False  # a new supervisor wakes nobody
    nobody_rings_for_the_idle: bool = False
    drained_seen_first: bool = False  # whether the run was left by `break` is read before the flags, not after


class Memory(NamedTuple):
    """The arena."""

    blocks: Words
    covers: Words
    partials: Words | None
    chunks: Words
    looks: Words  # flags of held-out microbatches
    headers: tuple[HeaderWords, HeaderWords]
    tables: tuple[tuple[Words, Words], ...]
    wish: Words  # generation, loan, returned, stop, planned, end
    slots: tuple[Any, ...]
    sums: Words
    results: Words
    state: tuple[Words, ...]  # buffer -> part -> step; the last part is what goes with chunk 0
    roles: Words
    main: int
    wanted: int
    drained: int
    end: int  # 0, AUDITED or FINISHED
    bell: int
    history: tuple[HeaderWords, ...]  # the header in force in each tick so far; kept where reads may be torn


AUDITED, FINISHED = 1, 2


class Fate(NamedTuple):
    """What may still happen."""

    kills: int
    supervisor_kills: int
    resizes: int  # how many have come
    rebalances: int
    checkpoints: int
    stop: bool
    breaks: int


class State(NamedTuple):
    memory: Memory
    workers: tuple[Local, ...]
    boss: tuple[Any, ...]
    fate: Fate


NEW: Local = (STARTING, None, None, None)
GONE: Local = (NOBODY_THERE, None, None, None)
CORPSE: Local = (DEAD, None, None, None)

_headers: dict[HeaderWords, Header] = {}


def header_of(words: HeaderWords) -> Header:
    """The product's own value."""
    found = _headers.get(words)
    if found is None:
        found = _headers[words] = Header(*words)
    return found


def words_of(header: Header) -> HeaderWords:
    return (
        header.tick,
        int(header.kind),
        header.step,
        header.generation,
        header.read,
        header.write,
        header.lent,
        header.loan,
        header.lent_step,
    )


def empty_memory(setup: Setup) -> Memory:
    """Step 0 lies in buffer 0 and the first header is written."""
    wish = 0, 0, 0, 0, 0 if setup.stream else UNLIMITED, UNLIMITED
    first = words_of(protocol.first_header(0, 0, setup.course, evaluated=False, wish=Wish(*wish)))
    nowhere = (0, 0, 0, 0, 0, 0, NOBODY, 0, 0)
    nobody = (NOBODY,) * setup.blocks, (NOBODY,) * setup.chunks
    return Memory(
        blocks=(0,) * setup.blocks,
        covers=(1,) * setup.blocks,
        partials=(0,) * setup.chunks if setup.partials else None,
        chunks=(0,) * setup.chunks,
        looks=(0,) * setup.held_out,
        headers=(nowhere, first),
        tables=(nobody,) * setup.tables,
        wish=wish,
        slots=(0,) * setup.blocks,
        sums=(0,) * setup.chunks,
        results=(0,) * setup.held_out,
        state=((0,) * (setup.chunks + 1), *[(TORN,) * (setup.chunks + 1)] * (BUFFERS - 1)),
        roles=(0,) * setup.rows,
        main=NOBODY,
        wanted=setup.workers,
        drained=0,
        end=0,
        bell=0,
        history=(first,) if setup.words else (),
    )


def put(words: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    """`words` with one of them changed."""
    return (*words[:at], value, *words[at + 1 :])


def read_step(header: HeaderWords) -> int:
    """The step whose state a tick reads."""
    return header[2] - (header[1] == Kind.TRAIN)


def leaders(covers: Words) -> list[int]:
    """The blocks that speak for themselves and for those after them."""
    found, block = [], 0
    while block < len(covers):
        found.append(block)
        block += max(1, covers[block])
    return found
