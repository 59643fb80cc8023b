"""What the supervisor does at once, as `springtide.train.crew` and `keeper` do it: each word of an instruction is one
move.

The boss is (membership, words still to write, step lent to the thread that writes a checkpoint, or None); membership
None: it is dead, and the next one finds its way from the arena alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from springtide.train import membership
from springtide.train.arena import TABLES, Role
from springtide.train.membership import Phase, Table
from springtide.train.protocol import Kind
from train.model import bells
from train.model.explore import Move, Violation
from train.model.world import (
    ASLEEP,
    AUDITED,
    CORPSE,
    DEAD,
    FINISHED,
    GONE,
    IDLE,
    NEW,
    NOBODY_THERE,
    STARTING,
    State,
    put,
)

if TYPE_CHECKING:
    from train.model.play import Model

LATER = 1000.0
Frozen = tuple[Any, ...]


def moves(model: Model, state: State) -> Iterator[Move]:
    """Everything that the supervisor may do next, what may be asked of it, and its death."""
    memory, workers, (known, queue, _), fate = state
    if memory.end == FINISHED and not queue:
        return
    if known is None:
        yield _adopt(model, state)
        return
    if fate.supervisor_kills and memory.end != FINISHED:
        dead = None, (), None
        fate_then = fate._replace(supervisor_kills=fate.supervisor_kills - 1)
        yield Move("supervisor", "is killed", State(memory, workers, dead, fate_then), True)
    if queue:
        yield write(model, state)
    elif memory.end != FINISHED:
        yield from _events(model, state)
    yield from _keep(model, state)


def _events(model: Model, state: State) -> Iterator[Move]:
    memory, workers, (known, _, _), _ = state
    header = model.current(memory)
    for worker, local in enumerate(workers):
        if local[0] == DEAD:
            after = state._replace(workers=put(workers, worker, GONE))
            yield advance(model, after, membership.WorkerLost(worker), f"learns that worker {worker} is dead")
        elif local[0] == STARTING and any(w == worker for w, _ in known[4]):
            after = state._replace(workers=put(workers, worker, (IDLE, None, None, None)))
            yield advance(model, after, membership.WorkerReady(worker), f"learns that worker {worker} is ready")
    if header[3] > known[3]:
        yield advance(model, state, membership.TableAdopted(header[3]), f"sees table {header[3]} in force")
    now = LATER if model.setup.from_nothing else 0.0
    if model.advance(known, membership.TimePassed(), now) != (known, ()):
        yield advance(model, state, membership.TimePassed(), "looks round", now)
    if (header[1] == Kind.END or memory.drained == header[0]) and memory.end == AUDITED:
        yield _finish(model, state)
    yield from _asked(model, state)
    if model.setup.stream:
        yield from _stream(model, state)


def _stream(model: Model, state: State) -> Iterator[Move]:
    """The next step is in the step log; there will be no other; who idles has something to go on for."""
    memory, steps = state.memory, model.setup.steps
    *wish, planned, end = memory.wish
    if planned < steps:
        after = state._replace(memory=memory._replace(wish=(*wish, planned + 1, end)))
        yield Move("supervisor", f"hands out step {planned + 1}", after)
    elif end > steps:
        after = state._replace(memory=memory._replace(wish=(*wish, planned, steps)))
        yield Move("supervisor", f"says that step {steps} is the last", after)
    if model.setup.bells and not model.rules.nobody_rings_for_the_idle:
        header = model.current(memory)
        owner = model.table(memory, header[3])[1][0]
        asleep = owner >= 0 and state.workers[owner][0] == ASLEEP
        if asleep and header[1] == Kind.IDLE and not model.idles(header, memory.wish):
            boss = state.boss[0], (("ring",), ("wake all",)), state.boss[2]
            yield Move("supervisor", "finds that the idle tick can go on", state._replace(boss=boss))


def _asked(model: Model, state: State) -> Iterator[Move]:
    """What the world may want."""
    memory, _, (known, _, _), fate = state
    resizes = model.setup.resizes
    if fate.resizes < len(resizes):
        size = resizes[fate.resizes]
        after = state._replace(memory=memory._replace(wanted=size), fate=fate._replace(resizes=fate.resizes + 1))
        move = advance(model, after, membership.SizeWanted(size, model.setup.hasty), f"is asked for {size} workers")
        yield move._replace(free=True)
    if fate.rebalances:
        found = known
        working = [worker for worker, phase in found[4] if phase == Phase.WORKING]
        speeds = {worker: 1.0 if k else 10.0 for k, worker in enumerate(sorted(working))}
        for _ in range(membership.BALANCE_LOOKS):
            found, out = model.advance(found, membership.SpeedsMeasured(speeds), 0.0)
            if out:
                after = state._replace(fate=fate._replace(rebalances=fate.rebalances - 1))
                yield _queued(model, after, found, out, f"finds the shares unfair at speeds {speeds}")._replace(
                    free=True
                )
                break
    generation, loan, returned, stop, *plan = memory.wish
    if fate.checkpoints and loan == returned:
        after = state._replace(
            memory=memory._replace(wish=(generation, loan + 1, returned, stop, *plan)),
            fate=fate._replace(checkpoints=fate.checkpoints - 1),
        )
        yield Move("supervisor", "asks for a loan", after, True)
    if fate.stop:
        after = state._replace(
            memory=memory._replace(wish=(generation, loan, returned, 1, *plan)), fate=fate._replace(stop=False)
        )
        yield Move("supervisor", "wishes for the end", after, True)


def advance(model: Model, state: State, event: membership.Event, what: str, now: float = 0.0) -> Move:
    """Let membership decide; its instructions are written word by word from here on."""
    known, out = model.advance(state.boss[0], event, now)
    return _queued(model, state, known, out, what)


def _queued(model: Model, state: State, known: Frozen, out: tuple[Any, ...], what: str) -> Move:
    queue = tuple(word for instruction in out for word in _words(model, instruction))
    after = state._replace(boss=(known, queue, state.boss[2]))
    return Move("supervisor", what, _hasten(model, after))


def _words(model: Model, instruction: membership.Instruction) -> list[tuple[Any, ...]]:
    """What `Crew` writes for an instruction, in its order."""
    bell = [("ring",), ("wake all",)] if model.setup.bells else []
    match instruction:
        case membership.Start(worker):
            return [("start", worker)]
        case membership.Assign(generation, blocks, chunks):
            owns = [("own", generation, 0, item, heir) for item, heir in blocks.items()]
            return [*owns, *[("own", generation, 1, item, heir) for item, heir in chunks.items()], *bell]
        case membership.Propose(generation, table):
            return [("table", generation, table.blocks, table.chunks), ("wish", generation)]
        case membership.Summon(worker):
            return [("role", worker, Role.WORK), *_summon(model, worker)]
        case membership.Dismiss(worker):
            return [("role", worker, Role.LEAVE), *_summon(model, worker), *bell]
        case membership.Kill(workers, _):
            return [("kill", worker) for worker in workers]
        case membership.SetMain(worker):
            return [("main", worker), *_summon(model, worker)]
    raise AssertionError(instruction)


def _summon(model: Model, worker: int) -> list[tuple[Any, ...]]:
    return [("summon", worker), ("wake", worker)] if model.setup.bells else []


def _hasten(model: Model, state: State) -> State:
    """Write at once what nobody can tell from having been written later.

    A table is not read before the wish for it (which is not so where a laggard may read an old table in the same
    place); a role other than LEAVE is read by nobody but the next supervisor, main by none but those who have ended. If
    no supervisor can die any more, these are as good as one with the word after them.
    """
    while state.boss[1] and not state.fate.supervisor_kills and not model.setup.words and not model.setup.bells:
        word = state.boss[1][0]
        if not (word[0] in ("start", "table", "main") or (word[0] == "role" and word[2] == Role.WORK)):
            break
        after = write(model, state).after
        assert isinstance(after, State)
        state = after
    return state


def write(model: Model, state: State) -> Move:
    """The next word of the queue."""
    memory, workers, (known, (word, *rest), lent), fate = state
    boss = known, tuple(rest), lent
    match word:
        case ("start", worker):
            if worker >= model.setup.rows:
                raise AssertionError(f"the model has no row {worker}; give it more")
            if workers[worker][0] not in (NOBODY_THERE, DEAD):
                raise Violation(f"row {worker} has a living worker already", "supervisor", f"starts worker {worker}")
            workers = put(workers, worker, NEW)
            memory = memory._replace(roles=put(memory.roles, worker, Role.PARKED))
            what = f"starts worker {worker}"
        case ("own", generation, kind, item, heir):
            memory = _own(model, state, generation, kind, item, heir)
            what = f"gives {('microbatch', 'chunk')[kind]} {item} of table {generation} to worker {heir}"
        case ("table", generation, blocks, chunks):
            tables = put(memory.tables, generation % model.setup.tables, (tuple(blocks), tuple(chunks)))
            memory, what = memory._replace(tables=tables), f"writes table {generation}: {blocks}, {chunks}"
        case ("wish", generation):
            memory = memory._replace(wish=(generation, *memory.wish[1:]))
            what = f"wishes for table {generation}"
        case ("role", worker, role):
            memory = memory._replace(roles=put(memory.roles, worker, role))
            what = f"lets worker {worker} {'leave' if role == Role.LEAVE else 'work'}"
        case ("main", worker):
            memory, what = memory._replace(main=worker), f"makes worker {worker} main"
        case ("kill", worker):
            if workers[worker][0] not in (NOBODY_THERE, DEAD):
                workers = put(workers, worker, CORPSE)
            what = f"kills worker {worker}"
        case ("ring",):
            memory, workers = bells.ring(model, memory, workers, -1)
            what = "rings"
        case ("wake all",):
            workers, what = bells.wake(workers), "wakes the sleepers"
        case ("summon", worker):
            workers, what = bells.store_own(workers, worker), f"counts up the word of worker {worker}"
        case ("wake", worker):
            workers, what = bells.wake_one(workers, worker), f"wakes worker {worker}"
        case _:
            raise AssertionError(word)
    return Move("supervisor", what, State(memory, workers, boss, fate))


def _own(model: Model, state: State, generation: int, kind: int, item: int, heir: int) -> Any:
    slot = generation % model.setup.tables
    owners = state.memory.tables[slot][kind]
    before = owners[item]
    if before >= 0 and state.workers[before][0] not in (NOBODY_THERE, DEAD):
        what = f"gives {('microbatch', 'chunk')[kind]} {item} of table {generation} to worker {heir}"
        raise Violation(f"worker {before}, which owns it, is alive", "supervisor", what)
    table = put(state.memory.tables[slot], kind, put(owners, item, heir))
    return state.memory._replace(tables=put(state.memory.tables, slot, table))


# --- checkpoints


def _keep(model: Model, state: State) -> Iterator[Move]:
    """The loan is granted by a header; a thread reads the buffer, then the wish says that it is returned."""
    memory, workers, (known, queue, lent), fate = state
    generation, loan, returned, stop, *plan = memory.wish
    if lent is not None:
        buffer, step = lent
        if any(label != step for label in memory.state[buffer]):
            raise Violation(
                f"buffer {buffer} holds {memory.state[buffer]}, lent as step {step}", "supervisor", "has read it"
            )
        after = memory._replace(wish=(generation, loan, loan, stop, *plan))
        yield Move("supervisor", f"has written step {step} out", State(after, workers, (known, queue, None), fate))
    elif loan > returned and not queue:
        header = model.current(memory)
        if header[7] == loan and header[6] >= 0:
            boss = known, queue, (header[6], header[8])
            if any(label != header[8] for label in memory.state[header[6]]):
                why = f"buffer {header[6]} holds {memory.state[header[6]]}, lent as step {header[8]}"
                raise Violation(why, "supervisor", "begins to read it")
            what = f"begins to write step {header[8]} out of buffer {header[6]}"
            yield Move("supervisor", what, State(memory, workers, boss, fate))


# --- beginnings and ends


def _finish(model: Model, state: State) -> Move:
    memory, workers, (known, _, lent), fate = state
    queue: tuple[Any, ...] = ()
    if model.setup.bells:
        queue = tuple(word for worker in range(model.setup.rows) for word in _summon(model, worker))
    after = State(memory._replace(end=FINISHED), workers, (known, queue, lent), fate)
    return Move("supervisor", "keeps the last state: finished", after)


def _adopt(model: Model, state: State) -> Move:
    """As `Crew.adopt`: what the arena says; who died meanwhile is found dead at the first look."""
    memory, workers, _, fate = state
    header = model.current(memory)
    newest = memory.wish[0]
    numbers = range(max(header[3], newest - TABLES + 1), newest + 1)
    tables = {number: Table(*memory.tables[number % model.setup.tables]) for number in numbers}
    named = {worker for table in tables.values() for worker in table.named()}
    members = {}
    for worker, local in enumerate(workers):
        if local[0] != NOBODY_THERE:
            leaving = memory.roles[worker] == Role.LEAVE and worker not in named
            ready = Phase.STARTING if local[0] == STARTING else Phase.PARKED
            members[worker] = Phase.LEAVING if leaving else Phase.WORKING if worker in named else ready
    found = membership.Membership(
        memory.wanted, (1,) * model.setup.chunks, tables, header[3], members, memory.main, model.setup.spares
    )
    after = State(memory, workers, (freeze(found), (), None), fate)
    move = advance(model, after, membership.TimePassed(), f"adopts workers {sorted(members)}")
    if model.setup.bells and not model.rules.adopts_silently:
        adopted = move.after
        assert isinstance(adopted, State)
        roused = [word for worker in members for word in _summon(model, worker)]
        known, queue, lent = adopted.boss
        boss = known, (*queue, *roused, ("ring",), ("wake all",)), lent
        move = move._replace(after=adopted._replace(boss=boss))
    return move


def freeze(state: membership.Membership) -> Frozen:
    """Membership as something that can be looked up."""
    tables = tuple((number, table.blocks, table.chunks) for number, table in sorted(state.tables.items()))
    return (
        state.wanted,
        state.weights,
        tables,
        state.adopted,
        tuple(sorted(state.members.items())),
        state.main,
        state.spares,
        state.first_ready,
        state.unbalanced,
    )


def thaw(words: Frozen) -> membership.Membership:
    wanted, weights, tables, adopted, members, main, spares, first_ready, unbalanced = words
    return membership.Membership(
        wanted,
        weights,
        {number: Table(blocks, chunks) for number, blocks, chunks in tables},
        adopted,
        dict(members),
        main,
        spares,
        first_ready,
        unbalanced,
    )
