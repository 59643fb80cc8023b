"""The OpenAPI document, and requests that are invented from it: no fault, no answer that it does not describe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from pool.offices import ROOT, World, a_world, as_user, batch, service, two_versions
from springtide.pool import access
from springtide.pool.access import EVERYWHERE
from springtide.pool.api import openapi
from springtide.pool.api.routes import ROUTES, Route

load_all_checks()
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    ]
)  # fmt: skip
INVENTED = settings(
    max_examples=10, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    derandomize=True,
)  # fmt: skip


HARD = (
    "sources.put",
    "sources.head",
    "tokens.revoke",
    "jobs.submit",
    "teams.set",
    "jobs.retry",
    "tokens.new",
    "secrets.set",
)  # to guess a good one of


@schemathesis.serializer("application/x-tar")
def as_bytes(context: Any, value: Any) -> bytes:
    """Whatever was invented, as the body."""
    del context
    return bytes(value) if isinstance(value, bytes) else str(value).encode()


def test_the_document_holds_every_route_and_valid_schemas() -> None:
    document = openapi.document()
    operations = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    assert operations == {route.operation for route in ROUTES} == set(access.RULES)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Any, str]]:
    with a_world(tmp_path_factory.mktemp("invented")) as world:
        (world.folder / "logs").mkdir()
        world.submit(batch("one"))
        two_versions(world.folder)
        world.administration.set_secret(ROOT, "key", "default", "x")
        token = world.administration.new_token(ROOT, EVERYWHERE, "admin", "inventor", None)["token"]
        yield world, schemathesis.openapi.from_asgi("/v1/openapi.json", as_user(world.app(), 0)), f"Bearer {token}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_what_is_invented_is_answered_as_the_document_says(answering: tuple[World, Any, str], route: Route) -> None:
    world, schema, token = answering
    statuses: list[int] = []
    name = f"web-{len(world.office.store.jobs())}"
    world.submit(service(name, replicas="1..3", resources={"cpu": 0.01}))
    world.rounds(2)
    known = {"job": name, "node": "n0", "team": "default", "name": "key", "model": "scale"}

    @INVENTED
    @given(case=schema[route.path][route.method].as_strategy())
    def invented(case: Any) -> None:
        if isinstance(case.query, dict):
            case.query.pop("follow", None)  # a stream has no end to be looked at
        statuses.append(case.call_and_validate(checks=CHECKED, headers={"Authorization": token}).status_code)
        if set(case.path_parameters or {}) & set(known):  # and once more of something that is there
            case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
            statuses.append(case.call_and_validate(checks=CHECKED, headers={"Authorization": token}).status_code)

        if route.operation == "jobs.submit":
            case.body = {"jobs": [{"job": json.loads(batch("good"))}], "forecast": True}
        if route.operation == "models.promote":
            case.body = {"version": 1, "force": True}
        if route.operation in ("jobs.submit", "models.promote"):
            statuses.append(case.call_and_validate(checks=CHECKED, headers={"Authorization": token}).status_code)

    invented()
    world.rounds(1)
    # Otherwise nothing was looked at but the sentence of one refusal.
    assert route.operation in HARD or any(status < 400 for status in statuses), statuses
