"""What requests and answers look like: bodies and queries are read by these, the OpenAPI document shows them all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=10_000)]
Number = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e15)]
Money = Annotated[float, Meta(ge=0, le=1e12)]
Text = Annotated[str, Meta(max_length=500)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
JobData = Annotated[
    dict[str, Any],
    Meta(
        description="A job, as a job file says it; see `tide schema`.",
        extra_json_schema={"$ref": "#/components/schemas/JobFile"},
    ),
]
TeamData = Annotated[
    dict[str, Any],
    Meta(description="A team, as a pool file says it; see `tide schema --kind pool`."),
]
StateName = Literal["waiting", "running", "paused", "done", "failed", "cancelled", "live"]
KindName = Literal["training", "service", "stream", "batch"]
ScopeName = Literal["viewer", "member", "admin"]


class Body(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a request carries."""


# --- what is asked


class Submitted(Body):
    job: JobData
    source: Digest | None = None
    script: Text | None = None


class Submission(Body):
    jobs: Annotated[list[Submitted], Meta(min_length=1, max_length=20_000)]
    dry_run: bool = False
    forecast: bool = False


class BidBody(Body):
    per_core_hour: Money = 0.0
    per_gpu_hour: Money = 0.0


class Update(Body):
    replicas: str | int | None = None
    paused: bool | None = None
    bid: BidBody | None = None


class NodeUpdate(Body):
    drained: bool


class NewToken(Body):
    team: Text
    scope: ScopeName
    name: Text = ""
    expires_in_s: Annotated[float, Meta(gt=0, le=1e10)] | None = None


class NewSecret(Body):
    team: Text
    value: str


class Offer(Body):
    per_core_hour: Money = 0.0
    per_gpu_hour: Money = 0.0
    cpu: Money = 1.0
    gpu: Money = 0.0
    span_s: Seconds = 86_400.0


class Down(Body):
    keep: bool = False


# --- what stands behind the question mark


class JobsQuery(Body):
    team: Text | None = None
    state: StateName | None = None
    kind: KindName | None = None
    name: Text | None = None
    limit: Count = 1000
    cursor: Text | None = None


class LogsQuery(Body):
    replica: Text | None = None
    lines: Annotated[int, Meta(ge=0, le=100_000)] = 200
    follow: bool = False


class EventsQuery(Body):
    job: Text | None = None
    team: Text | None = None
    after: Number | None = None
    limit: Count = 100
    follow: bool = False


class TeamQuery(Body):
    team: Text = "default"


class UsageQuery(Body):
    by: Literal["team", "job"] = "team"
    since_s: Seconds | None = None
    team: Text | None = None


class PricesQuery(Body):
    since_s: Seconds | None = None


class AuditQuery(Body):
    after: Number = 0
    limit: Count = 100


class Nothing(Body):
    pass


# --- what is answered


class Health(Struct):
    ok: bool
    pid: int
    version: str
    address: str
    since_s: float
    engine: str
    limits: str
    overcommitted: str | None
    protected: bool


class Worker(Struct, omit_defaults=True):
    pid: int | None
    share: float | None = None
    node: str | None = None
    id: str | None = None


class JobRow(Struct):
    id: str
    name: str
    kind: KindName
    team: str
    priority: str
    state: str
    replicas: int
    wanted: str
    planned: int
    workers: list[Worker]
    step: int | None
    steps: int | None
    loss: float | None
    digest: str | None
    supervisor: int | None
    where: str
    reason: str
    submitted_s: float
    started_s: float | None
    finished_s: float | None
    pinned: bool
    version: int


class JobAnswer(JobRow):
    outcome: Literal["submitted", "updated", "unchanged"]


class EventRow(Struct):
    id: int
    time_s: float
    team: str | None
    job: str | None
    job_id: str | None
    kind: str
    sentence: str


class JobDetail(JobRow):
    by: str
    source: str | None
    script: str | None
    revision: int
    result: dict[str, Any] | None
    job: JobData
    events: list[EventRow]


class JobList(Struct):
    jobs: list[JobRow]
    next: str | None


class ForecastRow(Struct):
    name: str
    start_s: float | None
    finish_s: float | None
    cost: float
    shrinks: list[str]
    sentence: str
    misses_deadline: str | None


class SubmissionAnswer(Struct):
    jobs: list[JobAnswer]
    warnings: list[str]
    forecasts: list[ForecastRow]


class ReplicaRow(Struct):
    id: str
    node: str
    devices: list[int]
    step: str
    phase: str
    pid: int | None
    since_s: float
    revision: int


class ReplicaList(Struct):
    replicas: list[ReplicaRow]


class Decision(Struct):
    time_s: float
    sentence: str


class ExplanationRow(Struct):
    name: str
    sentence: str
    changes: list[str]
    decisions: list[Decision]


class EventList(Struct):
    events: list[EventRow]
    next: int


class Held(Struct):
    job: str
    id: str
    kind: str
    priority: str


class NodeRow(Struct):
    name: str
    resources: dict[str, Any]
    held: dict[str, Any]
    labels: dict[str, str]
    gpu_model: str | None
    drained: bool
    replicas: list[Held]


class NodeList(Struct):
    nodes: list[NodeRow]


class TeamList(Struct):
    teams: list[TeamData]


class TokenRow(Struct):
    id: str
    team: str
    scope: ScopeName
    name: str
    made_by: str
    made_s: float
    expires_s: float | None
    used_s: float | None


class TokenShown(TokenRow):
    token: str


class TokenList(Struct):
    tokens: list[TokenRow]


class SecretRow(Struct):
    team: str
    name: str
    set_by: str
    set_s: float


class SecretList(Struct):
    secrets: list[SecretRow]


class SecretGone(Struct):
    team: str
    name: str


class Sums(Struct):
    asked: float
    allocated: float
    used: float


class UsageRow(Struct, omit_defaults=True):
    team: str
    core_s: Sums
    gpu_s: Sums
    job: str | None = None


class UsageList(Struct):
    since_s: float
    rows: list[UsageRow]


class Price(Struct):
    since_s: float
    core: float
    gpu: float


class PriceList(Struct):
    core: float
    gpu: float
    floor_core: float
    floor_gpu: float
    history: list[Price]


class Bought(Struct):
    sentence: str
    won_s: float
    of_s: float
    cost: float
    longest_wait_s: float


class AuditRow(Struct):
    id: int
    time_s: float
    who: str
    what: str
    job: str | None
    team: str | None


class AuditList(Struct):
    entries: list[AuditRow]
    next: int


class SourceAnswer(Struct):
    digest: str


class DownAnswer(Struct):
    keep: bool


class Problem(Struct):
    """RFC 9457; `detail` is one sentence for a person, `exit_code` what a command ends with."""

    type: str
    title: str
    status: int
    detail: str
    exit_code: int


def encode(value: Any) -> bytes:
    """JSON."""
    return msgspec.json.encode(value)
