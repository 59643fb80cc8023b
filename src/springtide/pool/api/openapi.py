"""The OpenAPI 3.1 document, made of the table of routes, the shapes and the fields that a job may have."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from springtide import __version__
from springtide.pool import access
from springtide.pool.api import shapes
from springtide.pool.api.problems import MEDIA_TYPE
from springtide.pool.api.routes import ROUTES, Route
from springtide.spec.table import schema

_REFERENCE = "#/components/schemas/{name}"
_TEXTS = {"jobs.logs": "text/plain", "metrics": "text/plain"}


@lru_cache(maxsize=1)
def text() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The document."""
    types = [one for route in ROUTES for one in (route.answer, route.body) if one is not None]
    schemas, components = msgspec.json.schema_components([*types, shapes.Problem], ref_template=_REFERENCE)
    known = dict(zip([str(one) for one in [*types, shapes.Problem]], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Springtide", "version": __version__, "description": "The pool; see docs/api.md."},
        "paths": paths,
        "components": {
            "schemas": components | {"JobFile": _job_schema()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _job_schema() -> dict[str, Any]:
    return {key: value for key, value in schema().items() if key != "$schema"}


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    rule = access.RULES[route.operation]
    open_ = rule.on is access.On.NOTHING
    wants = "nothing" if open_ else f"the scope {rule.least} in {_WHERE[rule.on]}"
    found: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "description": f"Wants {wants}.",
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": _responses(route, known),
        "security": [] if open_ else [{"token": []}],
    }
    if route.body is not None:
        content = {"application/json": {"schema": known[str(route.body)]}}
        found["requestBody"] = {"required": bool(_required(route.body)), "content": content}
    elif route.operation == "sources.put":
        content = {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}
        found["requestBody"] = {"required": True, "content": content}
    return found


_WHERE = {
    access.On.ANY: "some team, and tells of those alone",
    access.On.TEAM: "the team that it is about, or in one above it",
    access.On.POOL: "the whole pool",
}


def _required(body: Any) -> tuple[str, ...]:
    if not (isinstance(body, type) and issubclass(body, msgspec.Struct)):
        return ()
    return tuple(one.name for one in msgspec.structs.fields(body) if one.required)


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query])
    properties = components[route.query.__name__].get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _asked(said)} for name, said in properties.items()
    ]


def _asked(said: dict[str, Any]) -> dict[str, Any]:
    """In an address nothing is null: what is not said is left out."""
    if "anyOf" in said:
        kept = [one for one in said["anyOf"] if one.get("type") != "null"]
        return dict(kept[0]) if len(kept) == 1 else {"anyOf": kept}
    if "enum" in said:
        return {"type": "string", "enum": [one for one in said["enum"] if one is not None]}
    return {key: value for key, value in said.items() if key != "default" or value is not None}


def _headers(route: Route) -> list[dict[str, Any]]:
    found = []
    if route.changes and route.keeps:
        found.append(
            {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"}}
        )
    if route.operation in ("jobs.update", "jobs.cancel"):
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,40}$"}})
    return found


def _responses(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    failed = {
        "description": "What went wrong, in one sentence",
        "content": {MEDIA_TYPE: {"schema": known[str(shapes.Problem)]}},
    }
    statuses = (route.status, *route.also, *((200,) if route.operation == "jobs.submit" else ()))
    found = {str(status): _success(route, known) for status in statuses}
    if route.method == "HEAD":
        return found | {"404": {"description": "It is not there"}, "default": {"description": "It went wrong"}}
    return found | {"default": failed}


def _success(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    if route.method == "HEAD":
        return {"description": "It is there"}
    if route.operation in _TEXTS:
        return {"description": route.summary, "content": {_TEXTS[route.operation]: {"schema": {"type": "string"}}}}
    if route.operation == "openapi":
        return {"description": route.summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    content = {"application/json": {"schema": known[str(route.answer)]}}
    if route.operation == "events.list":
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {"description": route.summary, "content": content}
