"""Jobs in the store. Owners change their half of a record (spec, wish, size), the loop its own half (course, replicas).

So neither ever writes over the other, and each write of an owner carries a number that the loop reads on from.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from springtide.pool.database import Database
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.spec.errors import Refused
from springtide.spec.job import Job
from springtide.spec.quantities import Range

_COURSE = (
    "reason", "attempt", "failures", "serial", "retry_at_s", "started_s", "finished_s", "suspended_s", "resized_s",
    "attained_s", "result", "learned",
)  # fmt: skip
_RETRIED_S = 7 * 86_400.0  # after its end, for which the folder of a job is kept
_COLUMNS = (
    "id, name, team, kind, state, over, number, submitted_s, submitted_by, spec, source, script, wish, pinned, "
    "revision, version, change, course"
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was decided or happened, in one sentence. `id` is 0 until it is kept."""

    time_s: float
    kind: str
    sentence: str
    team: str | None = None
    job: str | None = None
    job_id: str | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """What a job had in some seconds: asked for, was given, and used; in core-seconds or gpu-seconds."""

    hour: int  # since 1970
    team: str
    job: str
    resource: str  # "core" or "gpu"
    asked_s: float
    allocated_s: float
    used_s: float


@dataclass(slots=True)
class Round:
    """What one round of the loop changes; kept as a whole or not at all."""

    jobs: dict[str, JobRecord] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)  # name -> anything that JSON holds
    price: tuple[float, float, float] | None = None  # since_s, per core-hour, per gpu-hour

    def __bool__(self) -> bool:
        return bool(self.jobs or self.events or self.uses or self.kept or self.price)


class Store:
    """Jobs, their replicas and events, and what the loop must not forget."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- the owners' half

    def submit(self, new: Sequence[JobRecord]) -> list[JobRecord]:
        """Keeps new jobs, all or none, each with an id of its own. Refused: an unfinished job has that name."""
        with self.database.writing() as rows:
            return [self._insert(rows, record) for record in new]

    def change(self, record: JobRecord) -> JobRecord:
        """Keeps the owner's half of a record as the next version. Refused: it was changed meanwhile, or is over."""
        with self.database.writing() as rows:
            return self._change(rows, record)

    def submit_and_change(self, new: Sequence[JobRecord], changed: Sequence[JobRecord]) -> list[JobRecord]:
        """Both, all or none; in the order given, the new ones first."""
        with self.database.writing() as rows:
            return [self._insert(rows, one) for one in new] + [self._change(rows, one) for one in changed]

    def _insert(self, rows: sqlite3.Connection, record: JobRecord) -> JobRecord:
        number = _next(rows, "number")
        record = replace(record, id=f"{record.name}-{number}")
        try:
            rows.execute(
                f"INSERT INTO jobs ({_COLUMNS}) VALUES ({','.join('?' * 18)})",
                (
                    record.id, record.name, record.job.team, str(record.job.kind), str(record.state), record.state.over,
                    number, record.submitted_s, record.by, _spec(record.job), record.source, record.script,
                    str(record.wish), _range(record.pinned), record.revision, record.version, _next(rows, "change"),
                    _course(record),
                ),
            )  # fmt: skip
        except sqlite3.IntegrityError:
            raise Refused(
                f"a job named {record.name} is there and not done; cancel it, or choose another name"
            ) from None
        return record

    def _change(self, rows: sqlite3.Connection, record: JobRecord) -> JobRecord:
        done = rows.execute(
            "UPDATE jobs SET spec = ?, source = ?, script = ?, wish = ?, pinned = ?, revision = ?, version = ?, "
            "change = ? WHERE id = ? AND version = ? AND over = 0",
            (
                _spec(record.job), record.source, record.script, str(record.wish), _range(record.pinned),
                record.revision, record.version + 1, _next(rows, "change"), record.id, record.version,
            ),
        )  # fmt: skip
        if not done.rowcount:
            raise Refused(f"{record.name} was changed or ended meanwhile; look at it again with `tide ps`")
        return replace(record, version=record.version + 1)

    def configure(self, name: str, value: Any) -> None:
        """Keeps what administrators say of the pool itself ("pool", "drained"), and lets the loop notice."""
        with self.database.writing() as rows:
            rows.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, json.dumps(value)))
            _next(rows, "change")

    # --- the loop's half

    def since(self, change: int) -> tuple[list[JobRecord], int]:
        """Records that owners changed after that number, with all their replicas; and the number to go on from.

        From 0 these are all jobs that are not over.
        """
        with self.database.reading() as rows:
            where = "change > ?" if change else "over = 0 AND change > ?"
            found = rows.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY number", (change,)).fetchall()
            newest = rows.execute("SELECT value FROM kept WHERE name = 'last change'").fetchone()
            return self._records(rows, found), int(newest[0]) if newest else 0

    def keep(self, round_: Round) -> None:
        """What a round has changed."""
        if not round_:
            return
        with self.database.writing() as rows:
            for record in round_.jobs.values():
                _keep_course(rows, record)
            rows.executemany(
                "INSERT INTO events (time_s, team, job, job_id, kind, sentence) VALUES (?, ?, ?, ?, ?, ?)",
                [(one.time_s, one.team, one.job, one.job_id, one.kind, one.sentence) for one in round_.events],
            )
            rows.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET asked_s = asked_s + "
                "excluded.asked_s, allocated_s = allocated_s + excluded.allocated_s, used_s = used_s + excluded.used_s",
                [(u.hour, u.team, u.job, u.resource, u.asked_s, u.allocated_s, u.used_s) for u in round_.uses],
            )
            for name, value in round_.kept.items():
                rows.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, json.dumps(value)))
            if round_.price:
                rows.execute("INSERT OR REPLACE INTO prices VALUES (?, ?, ?)", round_.price)

    # --- reading

    def kept(self, name: str) -> Any:
        """What was kept under that name; None for nothing."""
        with self.database.reading() as rows:
            found = rows.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else None

    def job(self, name_or_id: str) -> JobRecord | None:
        """By id; or by name: the unfinished one, else the newest."""
        with self.database.reading() as rows:
            found = rows.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE id = ?1 OR name = ?1 "
                "ORDER BY id = ?1 DESC, over, number DESC LIMIT 1",
                (name_or_id,),
            ).fetchall()
            return next(iter(self._records(rows, found)), None)

    def jobs(
        self, *, teams: Iterable[str] | None = None, states: Iterable[str] | None = None, kind: str | None = None,
        name: str | None = None, before: int | None = None, limit: int = 1000,
    ) -> list[JobRecord]:  # fmt: skip
        """Newest first; `before` is the number (the end of the id) to go on from."""
        where, values = ["1"], list[Any]()
        for column, some in (("team", teams), ("state", states)):
            if some is not None:
                chosen = sorted(some)
                where.append(f"{column} IN ({','.join('?' * len(chosen))})")
                values += chosen
        for column, one in (("kind", kind), ("name", name)):
            if one is not None:
                where.append(f"{column} = ?")
                values.append(one)
        if before is not None:
            where.append("number < ?")
            values.append(before)
        with self.database.reading() as rows:
            found = rows.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
            return self._records(rows, found)

    def sources_named(self, now_s: float) -> set[str]:
        """Digests of folders that are needed: of jobs that are not over, or ended so lately that a retry may come."""
        with self.database.reading() as rows:
            found = rows.execute(
                "SELECT DISTINCT source FROM jobs WHERE source IS NOT NULL AND "
                "(over = 0 OR coalesce(json_extract(course, '$.finished_s'), submitted_s) > ?)",
                (now_s - _RETRIED_S,),
            )
            return {str(source) for (source,) in found}

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        with self.database.reading() as rows:
            return dict(rows.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def events(
        self, *, after: int = 0, job_id: str | None = None, teams: Iterable[str] | None = None, limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:  # fmt: skip
        """Oldest first, with ids greater than `after`; `newest`: the last ones instead of the first."""
        where, values = ["id > ?"], list[Any]([after])
        if job_id is not None:
            where.append("job_id = ?")
            values.append(job_id)
        if teams is not None:
            chosen = sorted(teams)
            where.append(f"team IN ({','.join('?' * len(chosen))})")
            values += chosen
        with self.database.reading() as rows:
            found = rows.execute(
                "SELECT time_s, kind, sentence, team, job, job_id, id FROM events "
                f"WHERE {' AND '.join(where)} ORDER BY id {'DESC' if newest else ''} LIMIT ?",
                (*values, limit),
            ).fetchall()
        events = [Event(*row) for row in found]
        return events[::-1] if newest else events

    def usage(self, since_s: float, teams: Iterable[str] | None = None) -> list[Use]:
        """What was used in the hours from that moment on."""
        with self.database.reading() as rows:
            found = rows.execute("SELECT * FROM usage WHERE hour >= ?", (int(since_s // 3600),)).fetchall()
        allowed = None if teams is None else set(teams)
        return [use for use in (Use(*row) for row in found) if allowed is None or use.team in allowed]

    def prices(self, since_s: float = 0.0) -> list[tuple[float, float, float]]:
        """(since when, per core-hour, per gpu-hour), oldest first; the one in force at `since_s` included."""
        with self.database.reading() as rows:
            found = rows.execute(
                "SELECT since_s, core, gpu FROM prices WHERE since_s >= "
                "coalesce((SELECT max(since_s) FROM prices WHERE since_s <= ?), 0) ORDER BY since_s",
                (since_s,),
            ).fetchall()
        return [(float(a), float(b), float(c)) for a, b, c in found]

    def _records(self, rows: sqlite3.Connection, found: Sequence[tuple[Any, ...]]) -> list[JobRecord]:
        replicas: dict[str, list[ReplicaRecord]] = {}
        if not found:
            return []
        if len(found) == 1:
            chosen = rows.execute("SELECT * FROM replicas WHERE job = ? ORDER BY at", (found[0][0],))
        else:
            chosen = rows.execute("SELECT * FROM replicas ORDER BY job, at")
        for job, name, node, devices, step, revision, since_s, _ in chosen:
            replicas.setdefault(job, []).append(
                ReplicaRecord(name, node, tuple(json.loads(devices)), Step(step), revision, since_s)
            )
        return [_record(row, tuple(replicas.get(row[0], ()))) for row in found]


def number_of(job_id: str) -> int:
    """The number at the end of a job's id."""
    return int(job_id.rpartition("-")[2])


def _record(row: tuple[Any, ...], replicas: tuple[ReplicaRecord, ...]) -> JobRecord:
    (id_, _, _, _, state, _, _, submitted_s, by, spec, source, script, wish, pinned, revision, version, _, course) = row
    kept: Mapping[str, Any] = json.loads(course)
    return JobRecord(
        id=id_, job=msgspec.json.decode(spec, type=Job), submitted_s=submitted_s, by=by, source=source, script=script,
        wish=Wish(wish), pinned=msgspec.json.decode(pinned, type=Range) if pinned else None, revision=revision,
        version=version, state=State(state), replicas=replicas, **kept,
    )  # fmt: skip


def _keep_course(rows: sqlite3.Connection, record: JobRecord) -> None:
    rows.execute(
        "UPDATE jobs SET state = ?, over = ?, course = ? WHERE id = ?",
        (str(record.state), record.state.over, _course(record), record.id),
    )
    rows.execute("DELETE FROM replicas WHERE job = ?", (record.id,))
    rows.executemany(
        "INSERT INTO replicas VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (record.id, one.id, one.node, json.dumps(one.devices), str(one.step), one.revision, one.since_s, at)
            for at, one in enumerate(record.replicas)
        ],
    )


def _next(rows: sqlite3.Connection, name: str) -> int:
    """A number that was never given out before."""
    rows.execute("INSERT INTO kept VALUES (?, '1') ON CONFLICT DO UPDATE SET value = value + 1", (f"last {name}",))
    return int(rows.execute("SELECT value FROM kept WHERE name = ?", (f"last {name}",)).fetchone()[0])


def _spec(job: Job) -> str:
    return msgspec.json.encode(job).decode()


def _range(pinned: Range | None) -> str | None:
    return msgspec.json.encode(pinned).decode() if pinned else None


def _course(record: JobRecord) -> str:
    return json.dumps({name: getattr(record, name) for name in _COURSE})
