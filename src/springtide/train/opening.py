"""How a job's arena comes to be, and how a supervisor finds its way in one that is already there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from springtide.spec import SpringtideError
from springtide.train import arena as arenas
from springtide.train import hardware, offsets
from springtide.train.arena import TABLES, Arena, Shape, Word
from springtide.train.launched import Launched
from springtide.train.membership import Membership, Table
from springtide.train.planner import Task
from springtide.train.protocol import NOBODY, UNLIMITED, Header


def make(launched: Launched, description: dict[str, Any]) -> Arena:
    """The arena for a run as its first process describes it. SpringtideError: it does not fit, with the numbers."""
    shape = Shape(**description["shape"])
    _check_memory(shape)
    arenas.allocate(launched.arena, shape)
    launched.keep_shape(description["shape"])
    arena = Arena(launched.arena, shape)
    words = arena.words
    words[Word.WANTED], words[Word.MAIN] = launched.start, NOBODY
    words[Word.LAUNCHER], words[Word.LAUNCHER_STARTED] = launched.launcher, launched.launcher_started
    if description.get("stream") is not None:
        words[Word.PLANNED] = launched.resumed_step(launched.resume) + 1
    arena.tables[0].write(0, [NOBODY] * shape.blocks, [NOBODY] * shape.chunks)
    arena.describe(description)
    return arena


def resumed(task: Task, launched: Launched, arena: Arena) -> Task:
    """What is to be planned, where the run is by now."""
    planned, last = arena.words[Word.PLANNED], arena.words[Word.LAST]
    task = replace(
        task, run_id=launched.run_id, handed_out=planned - 1, last=last - 1 if last else None, began=launched.began
    )
    manifest = launched.resumed_manifest()
    if manifest is None:
        return task
    position = manifest.position
    return replace(
        task, step=manifest.step, offsets=offsets.kept(manifest) or {}, samples=position.get("samples", 0),
        checksum=position.get("checksum", 0),
    )  # fmt: skip


def find(launched: Launched, descriptor_size_bytes: int) -> Arena | None:
    """The arena that an earlier supervisor made, if it came so far."""
    if not descriptor_size_bytes:
        return None
    try:
        arena = Arena(launched.arena, Shape(**launched.shape()))
    except (OSError, ValueError):
        return None
    return arena if arena.words[Word.MAGIC] == arenas.MAGIC else None


def membership(arena: Arena, header: Header | None) -> Membership:
    """Who does what, as the tables in the arena say; who lives is for the caller to find out."""
    newest = arena.words[Word.GENERATION]
    adopted = header.generation if header else newest
    numbers = range(max(adopted, newest - TABLES + 1), newest + 1)
    tables = {number: Table(tuple(arena.table(number).blocks), tuple(arena.table(number).chunks)) for number in numbers}
    return Membership(arena.words[Word.WANTED], tuple(arena.description()["chunk_bytes"]), tables, adopted)


def start_event(launched: Launched, arena: Arena, resume: str | None) -> dict[str, Any]:
    """What there is to say at the start."""
    description = arena.description()
    steps = description["course"]["steps"]
    return {
        "event": "start", "name": launched.name, "run_id": launched.run_id, "workers": launched.start,
        "minimum": launched.minimum, "maximum": launched.maximum,
        "microbatches": description["order"]["microbatches"], "batch_size": description["order"]["batch_size"],
        "steps": steps if steps < UNLIMITED else None, "steps_per_epoch": description["steps_per_epoch"],
        "parameters": description["parameters"], "arena_bytes": arena.at.fixed,
        "resumed_step": launched.resumed_step(resume), "threads": description["config"]["threads"],
    }  # fmt: skip


def too_many_workers(launched: Launched, arena: Arena) -> str | None:
    """A sentence where more workers were asked for than there are microbatches."""
    most, items = launched.start, arena.description()["order"]["microbatches"]
    if most <= items:
        return None
    return (
        f"{most} workers share {items} microbatches a step, so {most - items} have none to compute; "
        f"train.Run(microbatches={_next_divisor(arena, most)}) would use them all, with other sums"
    )


def differences(arena: Arena, identity: dict[str, Any]) -> str | None:
    """A sentence where a process does not hold the run that the arena holds."""
    mine = arena.description()["identity"]
    wrong = [
        f"{key} {mine[key]} in the run, {identity.get(key)} here" for key in mine if mine[key] != identity.get(key)
    ]
    if not wrong:
        return None
    return f"this process does not hold the same run: {', '.join(wrong)}; seed what is random before Run"


def _next_divisor(arena: Arena, workers: int) -> int:
    batch = int(arena.description()["order"]["batch_size"])
    return next((count for count in range(workers, batch + 1) if batch % count == 0), batch)


def _check_memory(shape: Shape) -> None:
    size, free = arenas.Regions(shape).fixed, hardware.free_memory_bytes()
    if size > free:
        raise SpringtideError(
            f"the arena needs {size / 1e9:.2f} GB (two states of {shape.state_bytes / 1e9:.2f} GB, "
            f"{shape.blocks} gradient slots of {shape.slot_bytes / 1e9:.2f} GB) and {free / 1e9:.2f} GB are free: "
            "take fewer microbatches, a smaller model or a larger machine"
        )
