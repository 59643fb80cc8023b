"""What a submitted job means beside the one that is there under its name: a new job, an update, or nothing. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from springtide.pool.records import JobRecord, State, Wish
from springtide.spec.errors import Refused, UserError
from springtide.spec.files import jobs_from_text
from springtide.spec.job import Bid, Job, Priority
from springtide.spec.quantities import Range

# What replicas run and what each of them holds: a change of it reaches them only when they are started anew.
_RUN = (
    "command", "model", "requests", "args", "environment", "python", "image", "port", "listen", "secrets", "data",
    "checkpoint", "resources", "scratch", "microbatches",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """One job as it was handed in; `script` is its path within the source."""

    job: Job
    source: str | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True)
class Meant:
    """What becomes of an order: `record` is kept if `outcome` is submitted or updated."""

    record: JobRecord
    outcome: str  # "submitted", "updated" or "unchanged"


def read(bodies: Sequence[str]) -> list[Job]:
    """Jobs from the JSON text of each. UserError: all that is wrong with any of them, a line for each fault."""
    found: list[Job] = []
    faults: list[str] = []
    for number, text in enumerate(bodies):
        where = f"jobs[{number}]"
        try:
            found += jobs_from_text(text, where)
        except UserError as error:
            # A column of the JSON text that a client made is of no use to a person.
            faults += [re.sub(rf"^{re.escape(where)}(:\d+)*", where, line) for line in str(error).splitlines()]
    names = [job.name for job in found]
    faults += [f'"{name}" is the name of two of these jobs; rename one' for name in sorted(_twice(names))]
    if faults:
        raise UserError("\n".join(faults))
    return found


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def meaning(order: Order, there: JobRecord | None, now_s: float, by: str) -> Meant:
    """Of an order beside the unfinished job of its name. Refused: it changes what cannot change."""
    if there is None:
        return Meant(JobRecord("", order.job, now_s, by, order.source, order.script), "submitted")
    if there.job.team != order.job.team:
        raise Refused(f"{order.job.name}: a job of that name belongs to another team; choose another name")
    if there.job.kind != order.job.kind:
        raise Refused(
            f"{order.job.name}: kind cannot change from {there.job.kind} to {order.job.kind}; cancel the job first, or "
            "choose another name"
        )
    if there.wish is Wish.CANCEL:
        raise Refused(f"{order.job.name} is being cancelled; submit it again when that is done")
    changed = replace(there, job=order.job, source=order.source, script=order.script)
    if _same(there, changed):
        return Meant(there, "unchanged")
    return Meant(replace(changed, revision=there.revision + runs_else(there, changed)), "updated")


def runs_else(old: JobRecord, new: JobRecord) -> bool:
    """Whether replicas of the new record run something else, or hold something else, than those of the old one."""
    names: tuple[str, ...] = _RUN
    if new.source is None:
        names += ("folder", "script")  # there is no copy: what runs is what lies there
    if any(getattr(old.job, name) != getattr(new.job, name) for name in names):
        return True
    return (old.source, old.script) != (new.source, new.script)


def _same(old: JobRecord, new: JobRecord) -> bool:
    if (old.source, old.script) != (new.source, new.script):
        return False
    if new.source is None:
        return old.job == new.job
    # Where there is a copy, it does not matter from which folder it was taken.
    return replace(old.job, folder=None, script=None) == replace(new.job, folder=None, script=None)


def changed(
    record: JobRecord, *, replicas: Range | str | None = None, paused: bool | None = None,
    bid: Bid | None = None,
) -> JobRecord:  # fmt: skip
    """The record as its owner wants it now; `replicas` "auto" ends a pin.

    Refused: it is over. UserError: a bid for what is no spot job.
    """
    if record.state.over:
        raise Refused(f"{record.name} is {record.state}; there is nothing left to change")
    if record.wish is Wish.CANCEL:
        raise Refused(f"{record.name} is being cancelled")
    if replicas is not None:
        record = replace(record, pinned=None if isinstance(replicas, str) else replicas)
    if paused is not None:
        record = replace(record, wish=Wish.PAUSE if paused else Wish.RUN)
    if bid is not None:
        if record.job.priority is not Priority.SPOT:
            raise UserError(f"bid: only spot jobs bid, and {record.name} is {record.job.priority}")
        record = replace(record, job=replace(record.job, bid=bid))
    return record


def again(record: JobRecord, now_s: float, by: str) -> JobRecord:
    """A new record like one that failed or was cancelled. Refused: it did neither."""
    if record.state not in (State.FAILED, State.CANCELLED):
        raise Refused(f"{record.name} is {record.state}; only what failed or was cancelled is tried again")
    return JobRecord("", record.job, now_s, by, record.source, record.script, pinned=record.pinned)


def cancelled(record: JobRecord) -> JobRecord:
    """The record as it is wanted when it is to end. Refused: it is over."""
    if record.state.over:
        raise Refused(f"{record.name} is {record.state} already")
    return replace(record, wish=Wish.CANCEL)
