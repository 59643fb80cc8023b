"""The table of routes: what can be asked, what it takes and gives, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from springtide.pool.access import Identity
from springtide.pool.administration import Administration
from springtide.pool.api import model_shapes, shapes
from springtide.pool.models import Models
from springtide.pool.office import Seal
from springtide.pool.rows import Row
from springtide.pool.service import Jobs
from springtide.spec.job import Bid


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers work on."""

    jobs: Jobs
    administration: Administration
    health: Callable[[], Row]
    leave: Callable[[bool], None]  # ends the server; True: what runs goes on
    models: Models


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read and checked as far as its route tells."""

    who: Identity
    path: Mapping[str, str]
    query: Any
    body: Any
    version: str | None  # the If-Match header
    seal: Seal


Handler = Callable[[Desk, Asked], Row]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `operation` is its row in `access.RULES`, and its id in the OpenAPI document."""

    method: str
    path: str
    operation: str
    summary: str
    answer: Any  # a type, as is `body`
    handler: Handler | None = None  # None: no plain JSON, see `app`
    body: Any = None
    query: type[Struct] = shapes.Nothing
    status: int = 200
    also: tuple[int, ...] = field(default=())  # other statuses of success
    keeps: bool = True  # whether the answer is kept for its Idempotency-Key

    @property
    def changes(self) -> bool:
        return self.method not in ("GET", "HEAD") and self.operation != "prices.would-buy"


def _submit(desk: Desk, asked: Asked) -> Row:
    body: shapes.Submission = asked.body
    texts = [shapes.encode(one.job).decode() for one in body.jobs]
    sources = [(one.source, one.script) for one in body.jobs]
    return desk.jobs.submit(asked.who, texts, sources, body.dry_run, body.forecast, asked.seal)


def _jobs(desk: Desk, asked: Asked) -> Row:
    q: shapes.JobsQuery = asked.query
    return desk.jobs.listing(
        asked.who, team=q.team, state=q.state, kind=q.kind, name=q.name, limit=q.limit, cursor=q.cursor
    )


def _update(desk: Desk, asked: Asked) -> Row:
    body: shapes.Update = asked.body
    said = body.bid
    bid = None if said is None else Bid(per_core_hour=said.per_core_hour, per_gpu_hour=said.per_gpu_hour)
    replicas = None if body.replicas is None else str(body.replicas)
    return desk.jobs.update(
        asked.who, asked.path["job"], replicas=replicas, paused=body.paused, bid=bid, version=asked.version,
        seal=asked.seal,
    )  # fmt: skip


def _events(desk: Desk, asked: Asked) -> Row:
    q: shapes.EventsQuery = asked.query
    return desk.jobs.events(asked.who, job=q.job, team=q.team, after=q.after, limit=q.limit)


def _new_token(desk: Desk, asked: Asked) -> Row:
    body: shapes.NewToken = asked.body
    return desk.administration.new_token(asked.who, body.team, body.scope, body.name, body.expires_in_s, asked.seal)


def _would_buy(desk: Desk, asked: Asked) -> Row:
    body: shapes.Offer = asked.body
    return desk.administration.would_buy(body.per_core_hour, body.per_gpu_hour, body.cpu, body.gpu, body.span_s)


def _down(desk: Desk, asked: Asked) -> Row:
    row = desk.administration.down(asked.who, asked.body.keep, asked.seal)
    desk.leave(asked.body.keep)
    return row


_R = Route
ROUTES: tuple[Route, ...] = (
    _R("GET", "/v1/health", "health", "Whether the pool answers, and who it is", shapes.Health,
       lambda desk, asked: desk.health()),
    _R("GET", "/v1/jobs", "jobs.list", "Jobs, the newest first", shapes.JobList, _jobs, query=shapes.JobsQuery),
    _R("POST", "/v1/jobs", "jobs.submit", "Submit jobs, or update those that are there by name; all of them or none",
       shapes.SubmissionAnswer, _submit, shapes.Submission, status=201),
    _R("GET", "/v1/jobs/{job}", "jobs.show", "All that is known of a job", shapes.JobDetail,
       lambda desk, asked: desk.jobs.show(asked.who, asked.path["job"])),
    _R("PATCH", "/v1/jobs/{job}", "jobs.update", "Resize, pause, resume or bid", shapes.JobRow, _update, shapes.Update),
    _R("DELETE", "/v1/jobs/{job}", "jobs.cancel", "Cancel", shapes.JobRow,
       lambda desk, asked: desk.jobs.cancel(asked.who, asked.path["job"], asked.version, asked.seal), status=202),
    _R("POST", "/v1/jobs/{job}/retry", "jobs.retry", "Try a failed or cancelled job again", shapes.JobRow,
       lambda desk, asked: desk.jobs.retry(asked.who, asked.path["job"], asked.seal), status=201),
    _R("GET", "/v1/jobs/{job}/replicas", "jobs.replicas", "Its replicas", shapes.ReplicaList,
       lambda desk, asked: desk.jobs.replicas(asked.who, asked.path["job"])),
    _R("GET", "/v1/jobs/{job}/logs", "jobs.logs", "What its replicas wrote, as text", shapes.Nothing,
       query=shapes.LogsQuery),
    _R("GET", "/v1/jobs/{job}/explain", "jobs.explain", "Why it is as it is, and what would change that",
       shapes.ExplanationRow, lambda desk, asked: desk.jobs.explain(asked.who, asked.path["job"])),
    _R("GET", "/v1/jobs/{job}/forecast", "jobs.forecast", "When it would start and end", shapes.ForecastRow,
       lambda desk, asked: desk.jobs.forecast(asked.who, asked.path["job"])),
    _R("GET", "/v1/events", "events.list", "What happened; with follow=1 as server-sent events", shapes.EventList,
       _events, query=shapes.EventsQuery),
    _R("GET", "/v1/nodes", "nodes.list", "The nodes, and what is held on them", shapes.NodeList,
       lambda desk, asked: desk.administration.nodes(asked.who)),
    _R("PATCH", "/v1/nodes/{node}", "nodes.update", "Drain a node, or take it back", shapes.NodeRow,
       lambda desk, asked: desk.administration.drain(asked.who, asked.path["node"], asked.body.drained, asked.seal),
       shapes.NodeUpdate),
    _R("GET", "/v1/teams", "teams.list", "The teams, and what they hold", shapes.TeamList,
       lambda desk, asked: desk.administration.teams(asked.who)),
    _R("PUT", "/v1/teams/{team}", "teams.set", "Make or change a team", shapes.TeamData,
       lambda desk, asked: desk.administration.set_team(asked.who, asked.path["team"], asked.body, asked.seal),
       shapes.TeamData),
    _R("GET", "/v1/tokens", "tokens.list", "Tokens, without what makes them good", shapes.TokenList,
       lambda desk, asked: desk.administration.tokens(asked.who)),
    _R("POST", "/v1/tokens", "tokens.new", "A new token, shown once", shapes.TokenShown, _new_token, shapes.NewToken,
       status=201, keeps=False),
    _R("DELETE", "/v1/tokens/{id}", "tokens.revoke", "Turn a token away from now on", shapes.TokenRow,
       lambda desk, asked: desk.administration.revoke(asked.who, asked.path["id"], asked.seal)),
    _R("GET", "/v1/secrets", "secrets.list", "Names of a team's secrets", shapes.SecretList,
       lambda desk, asked: desk.administration.secrets(asked.who, asked.query.team), query=shapes.TeamQuery),
    _R("PUT", "/v1/secrets/{name}", "secrets.set", "Set a secret", shapes.SecretRow,
       lambda desk, asked: desk.administration.set_secret(
           asked.who, asked.path["name"], asked.body.team, asked.body.value, asked.seal), shapes.NewSecret),
    _R("DELETE", "/v1/secrets/{name}", "secrets.remove", "Remove a secret", shapes.SecretGone,
       lambda desk, asked: desk.administration.remove_secret(
           asked.who, asked.path["name"], asked.query.team, asked.seal), query=shapes.TeamQuery),
    _R("GET", "/v1/usage", "usage", "Core-seconds and gpu-seconds asked, allocated and used", shapes.UsageList,
       lambda desk, asked: desk.administration.usage(
           asked.who, asked.query.by, asked.query.since_s, asked.query.team), query=shapes.UsageQuery),
    _R("GET", "/v1/prices", "prices", "What spot jobs pay", shapes.PriceList,
       lambda desk, asked: desk.administration.prices(asked.query.since_s), query=shapes.PricesQuery),
    _R("POST", "/v1/prices/would-buy", "prices.would-buy", "What a bid would have bought", shapes.Bought, _would_buy,
       shapes.Offer),
    _R("GET", "/v1/models", "models.list", "The models that are registered", model_shapes.ModelList,
       lambda desk, asked: desk.models.listing(asked.who)),
    _R("GET", "/v1/models/{model}", "models.show", "A model, its gate and its history", model_shapes.ModelDetail,
       lambda desk, asked: desk.models.show(asked.who, asked.path["model"])),
    _R("GET", "/v1/models/{model}/versions", "models.versions", "Its versions", model_shapes.ModelVersionList,
       lambda desk, asked: desk.models.versions(asked.who, asked.path["model"])),
    _R("POST", "/v1/models/{model}/promote", "models.promote", "Make a version production", model_shapes.ModelChange,
       lambda desk, asked: desk.models.promote(
           asked.who, asked.path["model"], asked.body.version, asked.body.force, asked.seal), model_shapes.Promotion),
    _R("POST", "/v1/models/{model}/rollback", "models.rollback", "Make the previous version production again",
       model_shapes.ModelChange, lambda desk, asked: desk.models.rollback(asked.who, asked.path["model"], asked.seal)),
    _R("GET", "/v1/audit", "audit", "Who did what", shapes.AuditList,
       lambda desk, asked: desk.administration.audit(asked.who, asked.query.after, asked.query.limit),
       query=shapes.AuditQuery),
    _R("PUT", "/v1/sources/{digest}", "sources.put", "Send a folder, as a tar file named by its SHA-256",
       shapes.SourceAnswer, status=201, also=(200,), keeps=False),
    _R("HEAD", "/v1/sources/{digest}", "sources.head", "Whether that folder is there", shapes.Nothing),
    _R("GET", "/v1/metrics", "metrics", "Metrics for Prometheus", shapes.Nothing),
    _R("GET", "/v1/openapi.json", "openapi", "This document", shapes.Nothing),
    _R("POST", "/v1/down", "down", "Stop all that runs, with checkpoints, and end the server", shapes.DownAnswer, _down,
       shapes.Down, status=202, keeps=False),
)  # fmt: skip
