"""What requests and answers about models look like; see `shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from springtide.pool.api.shapes import Body


class Promotion(Body):
    version: Annotated[int, Meta(ge=1, le=2**31)]
    force: bool = False


class ModelRow(Struct):
    name: str
    production: int | None
    previous: int | None
    newest: int
    servers: int


class ModelList(Struct):
    models: list[ModelRow]


class ModelChange(Struct):
    id: int
    number: int
    before: int | None
    action: str
    by: str
    time_s: float
    why: str
    forced: bool


class ModelDetail(ModelRow):
    rule: dict[str, Any] | None
    changes: list[ModelChange]


class ModelVersion(Struct):
    number: int
    stage: Literal["candidate", "production", "previous", "archived"]
    digest: str
    build: str
    config: dict[str, Any]
    metrics: dict[str, float | None]
    inputs: list[str]
    lineage: dict[str, Any]
    created_s: float
    by: str


class ModelVersionList(Struct):
    versions: list[ModelVersion]
