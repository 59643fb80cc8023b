"""What the API says of jobs, replicas, nodes, teams and the rest: records in, plain data out. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from springtide.core.forward import Forecast, misses
from springtide.engines.engine import JobSeen, Phase, ReplicaSeen
from springtide.pool.audit import Entry
from springtide.pool.live import TeamUse
from springtide.pool.records import JobRecord, ReplicaRecord, Step
from springtide.pool.store import Event, Use
from springtide.pool.tokens import Token
from springtide.pool.vault import Secret
from springtide.spec.amounts import memory_text, number_text, rate_text
from springtide.spec.files import to_data
from springtide.spec.job import Kind
from springtide.spec.quantities import Range
from springtide.spec.resources import RESOURCES, Resources
from springtide.spec.sharing import Pool, Team

Row = dict[str, Any]
_NOTHING = JobSeen()
_LIVES = (Phase.STARTING, Phase.RUNNING)


def job_row(record: JobRecord, seen: JobSeen | None) -> Row:
    """One line of `tide ps --json`."""
    seen = seen or _NOTHING
    training, result, learned = seen.training, record.result or {}, record.learned
    workers = [] if record.state.over else _workers(record, seen)
    return {
        "id": record.id,
        "name": record.name,
        "kind": str(record.job.kind),
        "team": record.job.team,
        "priority": str(record.job.priority),
        "state": str(record.state),
        "replicas": len(workers),
        "wanted": _range(record.range),
        "planned": sum(one.step != Step.STOPPING for one in record.replicas),
        "workers": workers,
        "step": training.step if training else result.get("step"),
        "steps": (training.steps if training else None) or learned.get("steps"),
        "loss": _finite(training.loss) if training else None,
        "digest": result.get("digest"),
        "supervisor": training.supervisor if training and not record.state.over else None,
        "where": "pool",
        "reason": record.reason,
        "submitted_s": record.submitted_s,
        "started_s": record.started_s,
        "finished_s": record.finished_s,
        "pinned": record.pinned is not None,
        "version": record.version,
    }


def _workers(record: JobRecord, seen: JobSeen) -> list[Row]:
    if record.job.kind == Kind.TRAINING:
        workers = seen.training.workers if seen.training else ()
        return [{"pid": one.pid, "share": round(one.share, 4)} for one in workers]
    return [
        {"pid": one.pid, "node": one.node, "id": name}
        for name, one in seen.replicas.items()
        if one.phase in _LIVES and one.pid is not None
    ]


def job_detail(record: JobRecord, seen: JobSeen | None, events: Sequence[Event]) -> Row:
    """All that is known of a job."""
    return job_row(record, seen) | {
        "by": record.by,
        "source": record.source,
        "script": record.script,
        "revision": record.revision,
        "result": dict(record.result) if record.result else None,
        "job": to_data(record.job),
        "events": [event_row(event) for event in events],
    }


def replica_rows(record: JobRecord, seen: JobSeen | None) -> list[Row]:
    """A job's replicas: as planned, and what is seen of them."""
    there = seen.replicas if seen else {}
    process = next((one for one in there.values() if one.phase in _LIVES), None)
    training, rows = record.job.kind == Kind.TRAINING, []
    for one in record.replicas:
        found = process if training else there.get(one.id)
        rows.append(
            {
                "id": one.id,
                "node": one.node,
                "devices": list(one.devices),
                "step": str(one.step),
                "phase": _phase(one, found),
                "pid": found.pid if found else None,
                "since_s": one.since_s,
                "revision": one.revision,
            }
        )
    return rows


def _phase(record: ReplicaRecord, seen: ReplicaSeen | None) -> str:
    if record.step == Step.STOPPING:
        return str(Phase.STOPPING)
    return str(seen.phase) if seen else "assigned"


def event_row(event: Event) -> Row:
    return {
        "id": event.id,
        "time_s": event.time_s,
        "team": event.team,
        "job": event.job,
        "job_id": event.job_id,
        "kind": event.kind,
        "sentence": event.sentence,
    }


def forecast_row(forecast: Forecast) -> Row:
    """Times are null where it does not come to that within what was looked ahead."""
    return {
        "name": forecast.name,
        "start_s": _finite(forecast.start_s),
        "finish_s": _finite(forecast.finish_s),
        "cost": forecast.cost,
        "shrinks": list(forecast.shrinks),
        "sentence": str(forecast),
        "misses_deadline": misses(forecast),
    }


def node_rows(pool: Pool, records: Iterable[JobRecord], drained: Iterable[str], shown: Mapping[str, bool]) -> list[Row]:
    """`shown` by job id: whether the asker may see the job; of others only the sum of what they hold is told."""
    held: dict[str, list[Resources]] = {}
    replicas: dict[str, list[Row]] = {}
    for record in records:
        for one in record.replicas:
            held.setdefault(one.node, []).append(record.job.resources)
            if shown.get(record.id):
                kind, priority = str(record.job.kind), str(record.job.priority)
                row = {"job": record.name, "id": one.id, "kind": kind, "priority": priority}
                replicas.setdefault(one.node, []).append(row)
    out = set(drained)
    return [
        {
            "name": node.name,
            "resources": resources_row(node.resources),
            "held": resources_row(total(held.get(node.name, ()))),
            "labels": dict(node.labels),
            "gpu_model": node.gpu_model,
            "drained": node.name in out,
            "replicas": replicas.get(node.name, []),
        }
        for node in pool.nodes
    ]


def total(amounts: Iterable[Resources]) -> Resources:
    """The sum of some amounts."""
    columns = list(zip(*(one.vector() for one in amounts), strict=True))
    return Resources(**{name: math.fsum(column) for name, column in zip(RESOURCES, columns, strict=bool(columns))})


def resources_row(amount: Resources) -> Row:
    """By name, as a job file would say them; what is 0 or not limited is left out."""
    row: Row = {}
    for name in RESOURCES:
        value = getattr(amount, name)
        if value and math.isfinite(value):
            match name:
                case "memory":
                    row[name] = memory_text(value)
                case "disk" | "network":
                    row[name] = rate_text(value)
                case _:
                    row[name] = number_text(round(value, 6))
    return row


def team_row(team: Team, use: TeamUse | None) -> Row:
    data: Row = to_data(Pool(teams=(team,)))["teams"][0]
    held = resources_row(use.held) if use else {}
    return data | {"held": held, "share": use.share if use else 0.0, "spent": use.spent if use else 0.0}


def usage_rows(uses: Iterable[Use], by: str) -> list[Row]:
    """Sums by team, or by job of a team."""
    rows: dict[tuple[str, ...], Row] = {}
    for use in uses:
        key = (use.team,) if by == "team" else (use.team, use.job)
        names: Row = {"team": use.team} if by == "team" else {"team": use.team, "job": use.job}
        row = rows.setdefault(key, names | {"core_s": _no_use(), "gpu_s": _no_use()})
        sums = row["gpu_s" if use.resource == "gpu" else "core_s"]
        sums["asked"] += use.asked_s
        sums["allocated"] += use.allocated_s
        sums["used"] += use.used_s
    return [rows[key] for key in sorted(rows)]


def _no_use() -> dict[str, float]:
    return {"asked": 0.0, "allocated": 0.0, "used": 0.0}


def token_row(token: Token) -> Row:
    return {
        "id": token.id,
        "team": token.team,
        "scope": str(token.scope),
        "name": token.name,
        "made_by": token.made_by,
        "made_s": token.made_s,
        "expires_s": token.expires_s,
        "used_s": token.used_s,
    }


def secret_row(secret: Secret) -> Row:
    return {"team": secret.team, "name": secret.name, "set_by": secret.set_by, "set_s": secret.set_s}


def audit_row(entry: Entry) -> Row:
    return {
        "id": entry.id,
        "time_s": entry.time_s,
        "who": entry.who,
        "what": entry.what,
        "job": entry.job,
        "team": entry.team,
    }


def _range(value: Range) -> str:
    return str(value.minimum) if value.minimum == value.maximum else f"{value.minimum}..{value.maximum}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
