"""Who does what, and what happens when somebody comes, goes or is killed. Pure: events in, instructions out.

A worker is starting, parked (warm, named by no table), working, or leaving. Tables are proposed by number; the one
who completes chunk 0 puts the newest in force at the next tick (Membership law). A loss takes effect at once, by
rewriting the entries of the dead alone: a parked worker takes them if there is one, else the survivors share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from springtide.train import protocol
from springtide.train.protocol import NOBODY

ROWS = 64
SPARES = 1
GATHER_SECONDS = 5.0  # how long the first table waits for workers that are still starting
BALANCE_GAIN = 1.2  # a table is dealt anew for speed when steps get shorter by this factor
BALANCE_LOOKS = 3  # and look after look says so


class Phase(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    PARKED = "parked"
    WORKING = "working"
    LEAVING = "leaving"
    DOOMED = "doomed"  # killed here; named by tables until its death is confirmed


@dataclass(frozen=True, slots=True)
class Table:
    """Item -> worker, for one generation."""

    blocks: tuple[int, ...]
    chunks: tuple[int, ...]

    def named(self) -> frozenset[int]:
        return frozenset(self.blocks + self.chunks)


@dataclass(frozen=True, slots=True)
class Membership:
    """All that the supervisor knows of its workers. `tables`: the one in force, and a proposal if there is one."""

    wanted: int
    weights: tuple[int, ...]  # bytes of each chunk
    tables: Mapping[int, Table]
    adopted: int = 0
    members: Mapping[int, Phase] = field(default_factory=dict)
    main: int = NOBODY
    spares: int = SPARES
    first_ready: float | None = None
    unbalanced: int = 0  # looks in a row that found the shares unfair

    @property
    def generation(self) -> int:
        """The newest table."""
        return max(self.tables)

    @property
    def working(self) -> tuple[int, ...]:
        return tuple(sorted(w for w, phase in self.members.items() if phase == Phase.WORKING))

    def in_phase(self, phase: Phase) -> tuple[int, ...]:
        return tuple(sorted(w for w, found in self.members.items() if found == phase))


# --- events


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """Warm, and waiting to be named."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """Confirmed dead: its pidfd is readable."""

    worker: int


@dataclass(frozen=True, slots=True)
class TableAdopted:
    """A header names that generation, and its tick has begun."""

    generation: int


@dataclass(frozen=True, slots=True)
class SizeWanted:
    """So many workers, please. `now`: those beyond are killed, since their room is needed at once."""

    workers: int
    now: bool = False


@dataclass(frozen=True, slots=True)
class SpeedsMeasured:
    """Microbatches a second of the working."""

    speeds: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened."""


Event = WorkerReady | WorkerLost | TableAdopted | SizeWanted | SpeedsMeasured | TimePassed


# --- instructions


@dataclass(frozen=True, slots=True)
class Start:
    """Make a worker for that row."""

    worker: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Rewrite these entries of a table in place: their owners are dead."""

    generation: int
    blocks: Mapping[int, int]
    chunks: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Propose:
    """Write a table and wish for it."""

    generation: int
    table: Table
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Summon:
    """Wake a parked worker: a table names it, or it may leave."""

    worker: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """That worker may leave: no table names it any more."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Those workers end at once; what is theirs passes on when they are confirmed dead."""

    workers: tuple[int, ...]
    cause: str


@dataclass(frozen=True, slots=True)
class SetMain:
    """The worker whose output is shown, and in which the script goes on after the loop."""

    worker: int


Instruction = Start | Assign | Propose | Summon | Dismiss | Kill | SetMain


def empty(wanted: int, blocks: int, weights: tuple[int, ...]) -> Membership:
    """Before anybody came: table 0 names nobody."""
    return Membership(wanted, weights, {0: Table((NOBODY,) * blocks, (NOBODY,) * len(weights))})


def advance(state: Membership, event: Event, now: float) -> tuple[Membership, list[Instruction]]:
    """What the supervisor does about `event`. The only place where a generation begins."""
    out: list[Instruction] = []
    match event:
        case WorkerReady(worker) if state.members.get(worker) == Phase.STARTING:
            state = _with(state, {worker: Phase.PARKED})
            if state.first_ready is None:
                state = replace(state, first_ready=now)
        case WorkerLost(worker):
            state = replace(state, members={w: p for w, p in state.members.items() if w != worker})
        case TableAdopted(generation) if generation > state.adopted:
            kept = {number: table for number, table in state.tables.items() if number >= generation}
            state = replace(state, adopted=generation, tables=kept)
        case SizeWanted(workers, now=at_once):
            state = replace(state, wanted=workers)
            if at_once:
                state = _hand_over(state, out)
        case SpeedsMeasured(speeds):
            state = _weigh(state, speeds, out)
        case _:
            pass
    state = _replace_dead(state, now, out)
    state = _resize(state, out)
    state = _release(state, out)
    state = _choose_main(state, out)
    return _start(state, out), out


def _hand_over(state: Membership, out: list[Instruction]) -> Membership:
    """Kill who is beyond the wanted, the warm beyond the spares too: by law 6 nobody else loses what he is at."""
    leaving, parked = _staying(state)[state.wanted :], state.in_phase(Phase.PARKED)
    doomed = tuple(sorted([*leaving, *parked[state.spares :]] if state.working else []))
    if doomed:
        out.append(Kill(doomed, f"{_named(sorted(leaving))} left at once" if leaving else ""))
    return _with(state, dict.fromkeys(doomed, Phase.DOOMED))


def _staying(state: Membership) -> list[int]:
    """The working, in the order in which they stay: the main one first."""
    return sorted(state.working, key=lambda worker: (worker != state.main, worker))


def _replace_dead(state: Membership, now: float, out: list[Instruction]) -> Membership:
    """Give what the dead owned to the living, in every table; the order of heirs is the same in each."""
    dead = sorted({w for table in state.tables.values() for w in table.named()} - set(state.members))
    for worker in dead:
        heirs = _heirs(state, worker, now)
        if not heirs:
            return state
        tables, inheriting = {}, set()
        for number, table in state.tables.items():
            blocks = protocol.substitute(table.blocks, worker, heirs)
            chunks = protocol.substitute(table.chunks, worker, heirs)
            if blocks or chunks:
                out.append(Assign(number, blocks, chunks))
            inheriting |= {*blocks.values(), *chunks.values()}
            tables[number] = Table(_changed(table.blocks, blocks), _changed(table.chunks, chunks))
        state = _with(replace(state, tables=tables), dict.fromkeys(sorted(inheriting), Phase.WORKING))
        out.extend(Summon(heir) for heir in sorted(inheriting))
    return state


def _heirs(state: Membership, dead: int, now: float) -> list[int]:
    parked, working = state.in_phase(Phase.PARKED), state.working
    if dead == NOBODY:
        waiting = len(parked) < state.wanted and state.in_phase(Phase.STARTING)
        young = state.first_ready is None or now - state.first_ready < GATHER_SECONDS
        return [] if waiting and young else list(parked[: state.wanted])
    if parked and len(working) < state.wanted:
        return [parked[0]]
    return list(working) or list(parked[:1])


def _resize(state: Membership, out: list[Instruction]) -> Membership:
    """Propose a table for another number of workers, once the last proposal is in force."""
    if state.generation != state.adopted or NOBODY in state.tables[state.adopted].named():
        return state
    working, parked = state.working, state.in_phase(Phase.PARKED)
    if not working:
        return state
    if len(working) < state.wanted and parked:
        table = _dealt(state, [*working, *parked[: state.wanted - len(working)]])
        # More workers than items: those for whom nothing is left stay parked, and nobody is moved for nothing.
        if len(table.named()) > len(working):
            joining = sorted(table.named().intersection(parked))
            return _propose(state, table, f"{_named(joining)} joined", out)
    elif len(working) > state.wanted:
        staying = _staying(state)
        table, leaving = _dealt(state, sorted(staying[: state.wanted])), sorted(staying[state.wanted :])
        return _propose(state, table, f"{_named(leaving)} left in peace", out)
    return state


def _dealt(state: Membership, workers: Iterable[int]) -> Table:
    """Equal shares, as near as items can be cut."""
    shares = dict.fromkeys(workers, 1.0)
    items = len(state.tables[state.adopted].blocks)
    return Table(tuple(protocol.deal(shares, items)), tuple(deal_weighted(shares, state.weights)))


def _propose(state: Membership, table: Table, cause: str, out: list[Instruction]) -> Membership:
    generation = state.generation + 1
    out.append(Propose(generation, table, cause))
    out.extend(Summon(w) for w in sorted(table.named()) if state.members[w] == Phase.PARKED)
    tables = {**state.tables, generation: table}
    return _with(replace(state, tables=tables, unbalanced=0), dict.fromkeys(table.named(), Phase.WORKING))


def _release(state: Membership, out: list[Instruction]) -> Membership:
    """Whoever works and is named by no table any more may leave."""
    named = {w for table in state.tables.values() for w in table.named()}
    leaving = [w for w in state.working if w not in named]
    out.extend(Dismiss(w) for w in leaving)
    return _with(state, dict.fromkeys(leaving, Phase.LEAVING))


def _choose_main(state: Membership, out: list[Instruction]) -> Membership:
    candidates = [w for w in state.working if w in state.tables[state.generation].named()] or list(state.working)
    if state.main in candidates or not candidates:
        return state
    out.append(SetMain(candidates[0]))
    return replace(state, main=candidates[0])


def _start(state: Membership, out: list[Instruction]) -> Membership:
    """Keep as many workers as wanted, and a warm one beside them."""
    staying = [w for w, phase in state.members.items() if phase not in (Phase.LEAVING, Phase.DOOMED)]
    named = {w for table in state.tables.values() for w in table.named()}
    free = [row for row in range(ROWS) if row not in state.members and row not in named]
    begun = free[: max(0, state.wanted + state.spares - len(staying))]
    out.extend(Start(worker) for worker in begun)
    return _with(state, dict.fromkeys(begun, Phase.STARTING))


def _weigh(state: Membership, speeds: Mapping[int, float], out: list[Instruction]) -> Membership:
    """Deal blocks by measured speed where that shortens a step enough, look after look."""
    table = state.tables[state.adopted]
    settled = state.generation == state.adopted and set(speeds) == set(state.working) == set(table.blocks)
    if not settled or min(speeds.values()) <= 0:
        return replace(state, unbalanced=0)
    now = _longest(table.blocks, speeds)
    fair = fastest(speeds, len(table.blocks))
    everybody = {*fair, *table.chunks}.issuperset(state.working)  # else the slow would leave, and be asked back at once
    if now < BALANCE_GAIN * _longest(fair, speeds) or not everybody:
        return replace(state, unbalanced=0)
    state = replace(state, unbalanced=state.unbalanced + 1)
    if state.unbalanced < BALANCE_LOOKS:
        return state
    return _propose(state, Table(tuple(fair), table.chunks), "shares follow the measured speeds", out)


def fastest(speeds: Mapping[int, float], items: int) -> list[int]:
    """Item -> worker so that the slowest share takes as little time as possible: each item to whoever ends it first."""
    counts = dict.fromkeys(sorted(speeds), 0)
    for _ in range(items):
        worker = min(counts, key=lambda w: ((counts[w] + 1) / speeds[w], w))
        counts[worker] += 1
    return [worker for worker, count in counts.items() for _ in range(count)]


def deal_weighted(shares: Mapping[int, float], weights: Iterable[int]) -> list[int]:
    """Item -> worker: neighbours together, each worker as much weight as its share says, as near as the cuts allow."""
    sizes = list(weights)
    total, workers = float(sum(sizes)) or 1.0, sorted(shares)
    whole = sum(shares.values())
    owners, done, k, limit = [], 0.0, 0, shares[workers[0]] / whole
    for size in sizes:
        while k < len(workers) - 1 and (done + size / 2) / total > limit + 1e-12:
            k += 1
            limit += shares[workers[k]] / whole
        owners.append(workers[k])
        done += size
    return owners


def _longest(owners: Iterable[int], speeds: Mapping[int, float]) -> float:
    counts: dict[int, int] = {}
    for owner in owners:
        counts[owner] = counts.get(owner, 0) + 1
    return max(count / speeds[owner] for owner, count in counts.items())


def _named(workers: Iterable[int]) -> str:
    listed = [str(worker) for worker in workers]
    return f"worker {listed[0]}" if len(listed) == 1 else f"workers {', '.join(listed)}"


def _with(state: Membership, phases: Mapping[int, Phase]) -> Membership:
    return replace(state, members={**state.members, **phases}) if phases else state


def _changed(owners: tuple[int, ...], changes: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(changes.get(item, owner) for item, owner in enumerate(owners))
