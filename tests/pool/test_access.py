"""Who may do what: every operation held against every kind of asker, by the table and through the application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pool.offices import ROOT, World, a_world, batch, two_versions
from springtide.pool import access
from springtide.pool.access import EVERYWHERE, RULES, Identity, On, Scope, Tree
from springtide.pool.api.routes import ROUTES, Route

TREE = Tree({"default": None, "vision": None, "vision-web": "vision", "sound": None})
# Asker -> the team of a token and its scope; what is asked is about team vision.
ROLES: dict[str, tuple[str, Scope] | None] = {
    "nobody": None,
    "viewer of another team": ("sound", Scope.VIEWER),
    "admin of another team": ("sound", Scope.ADMIN),
    "admin of the team below": ("vision-web", Scope.ADMIN),
    "viewer": ("vision", Scope.VIEWER),
    "member": ("vision", Scope.MEMBER),
    "admin": ("vision", Scope.ADMIN),
    "viewer of all": (EVERYWHERE, Scope.VIEWER),
    "member of all": (EVERYWHERE, Scope.MEMBER),
    "admin of all": (EVERYWHERE, Scope.ADMIN),
}
VISION = ("viewer", "member", "admin", "viewer of all", "member of all", "admin of all")
KNOWN = tuple(role for role in ROLES if role != "nobody")
# Said once more by hand, so that a slip in the table is seen: operation -> who may.
MAY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("health", "openapi"), tuple(ROLES)),
    **dict.fromkeys(
        (
            "jobs.list",
            "events.list",
            "nodes.list",
            "teams.list",
            "usage",
            "prices",
            "prices.would-buy",
            "models.list",
            "models.show",
            "models.versions",
        ),
        KNOWN,
    ),
    **dict.fromkeys(("jobs.show", "jobs.replicas", "jobs.logs", "jobs.explain", "jobs.forecast"), VISION),
    **dict.fromkeys(
        ("jobs.submit", "jobs.update", "jobs.cancel", "jobs.retry", "secrets.list"),
        ("member", "admin", "member of all", "admin of all"),
    ),
    **dict.fromkeys(("tokens.new", "tokens.revoke", "secrets.set", "secrets.remove"), ("admin", "admin of all")),
    **dict.fromkeys(
        ("tokens.list", "audit"), ("admin of another team", "admin of the team below", "admin", "admin of all")
    ),
    **dict.fromkeys(
        ("sources.put", "sources.head"),
        ("admin of another team", "admin of the team below", "member", "admin", "member of all", "admin of all"),
    ),
    "metrics": ("viewer of all", "member of all", "admin of all"),
    **dict.fromkeys(("nodes.update", "down", "teams.set", "models.promote", "models.rollback"), ("admin of all",)),
}
BODIES: dict[str, Any] = {
    "jobs.submit": {"jobs": [{"job": json.loads(batch("new", team="vision"))}]},
    "jobs.update": {"paused": True},
    "nodes.update": {"drained": False},
    "teams.set": {"weight": 2},
    "tokens.new": {"team": "vision", "scope": "viewer"},
    "secrets.set": {"team": "vision", "value": "x"},
    "prices.would-buy": {},
    "models.promote": {"version": 1, "force": True},
    "down": {"keep": True},
}


def identity(role: str) -> Identity:
    held = ROLES[role]
    return access.NOBODY if held is None else Identity(role, {held[0]: held[1]})


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert {route.operation for route in ROUTES} == set(RULES) == set(MAY)


@pytest.mark.parametrize("operation", RULES)
@pytest.mark.parametrize("role", ROLES)
def test_the_table_allows_what_was_meant(operation: str, role: str) -> None:
    team = EVERYWHERE if operation == "teams.set" else "vision"  # vision stands under nobody
    assert access.may(identity(role), operation, TREE, team) == (role in MAY[operation])


def test_a_scope_reaches_down_and_never_up_or_sideways() -> None:
    admin = Identity("admin", {"vision": Scope.ADMIN})
    assert access.scope_in(admin, "vision-web", TREE) is Scope.ADMIN
    assert access.scope_in(Identity("below", {"vision-web": Scope.ADMIN}), "vision", TREE) is None
    assert access.scope_in(admin, "sound", TREE) is None
    assert access.teams_with(admin, Scope.MEMBER, TREE) == {"vision", "vision-web"}
    assert access.teams_with(ROOT, Scope.ADMIN, TREE) is None


def test_teams_in_a_circle_are_walked_once() -> None:
    assert Tree({"a": "b", "b": "a"}).chain("a") == ("a", "b", EVERYWHERE)


@dataclass
class Peopled:
    """A pool with three teams, a job of team vision, and a token for each role."""

    world: World
    app: Any
    tokens: dict[str, str | None]


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peopled]:
    with a_world(tmp_path_factory.mktemp("peopled"), nodes=40) as world:
        desk = world.administration
        for name, above in (("vision", None), ("vision-web", "vision"), ("sound", None)):
            desk.set_team(ROOT, name, {"parent": above} if above else {})
        world.rounds(1)
        (world.folder / "logs").mkdir()
        two_versions(world.folder)
        tokens = {
            role: None if held is None else desk.new_token(ROOT, held[0], str(held[1]), role, None)["token"]
            for role, held in ROLES.items()
        }
        yield Peopled(world, world.app(), tokens)


def _path(peopled: Peopled, route: Route) -> str:
    """A path that is about something that is there, and may be changed."""
    world, path = peopled.world, route.path
    if "{job}" in path:
        name = f"job-{len(world.office.store.jobs())}"
        world.submit(batch(name, team="vision"))
        if route.operation == "jobs.retry":
            world.jobs.cancel(ROOT, name)
        world.rounds(1)
        path = path.replace("{job}", name)
    if route.operation == "tokens.revoke":
        path = path.replace("{id}", world.administration.new_token(ROOT, "vision", "viewer", "x", None)["id"])
    if route.operation.startswith("secrets"):
        world.administration.set_secret(ROOT, "key", "vision", "old")
        path = path.replace("{name}", "key") + ("?team=vision" if route.operation != "secrets.set" else "")
    return path.format(node="n0", team="vision", digest="0" * 64, model="scale")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_every_route_turns_away_all_but_who_may(peopled: Peopled, route: Route) -> None:
    for role, token in peopled.tokens.items():
        path = _path(peopled, route)
        answer = peopled.world.ask(
            route.method, path, token, None, app=peopled.app, json=BODIES.get(route.operation),
        )  # fmt: skip
        seen = (route.operation, role, answer.status_code, answer.text[:200])
        if role in MAY[route.operation]:
            # A tar file of no bytes is refused for what it is, and not for who sent it.
            assert answer.status_code not in (401, 403), seen
            assert answer.status_code < 400 or route.operation.startswith("sources"), seen
        elif role == "nobody":
            assert answer.status_code == 401, seen
        else:
            # What may not even be seen is said not to be there.
            hidden = (404, 422) if RULES[route.operation].on is On.TEAM else ()
            assert answer.status_code in (403, *hidden), seen
    assert peopled.world.left == [True] * len(peopled.world.left)


def test_lists_hold_what_the_asker_may_see_and_nothing_else(peopled: Peopled) -> None:
    world, sound = peopled.world, peopled.tokens["viewer of another team"]
    world.submit(batch("seen", team="sound"), batch("unseen", team="vision"))
    world.rounds(1)
    jobs = world.ask("GET", "/v1/jobs", sound, app=peopled.app).json()["jobs"]
    assert {row["team"] for row in jobs} == {"sound"}
    assert [row["name"] for row in world.ask("GET", "/v1/teams", sound, app=peopled.app).json()["teams"]] == ["sound"]
    events = world.ask("GET", "/v1/events?after=0&limit=1000", sound, app=peopled.app).json()["events"]
    assert {row["team"] for row in events} == {"sound"}
    nodes = world.ask("GET", "/v1/nodes", sound, app=peopled.app).json()["nodes"]
    assert {one["job"] for node in nodes for one in node["replicas"]} == {"seen"}
    assert any(node["held"] for node in nodes)
    below = peopled.tokens["viewer"]
    world.submit(batch("below", team="vision-web"))
    assert {row["team"] for row in world.ask("GET", "/v1/jobs", below, app=peopled.app).json()["jobs"]} == {
        "vision", "vision-web",
    }  # fmt: skip


def test_a_hidden_team_is_not_named_to_who_submits_to_it(peopled: Peopled) -> None:
    sound = peopled.tokens["admin of another team"]
    body = {"jobs": [{"job": json.loads(batch("spy", team="vision"))}]}
    answer = peopled.world.ask("POST", "/v1/jobs", sound, app=peopled.app, json=body)
    other = {"jobs": [{"job": json.loads(batch("spy", team="nonsense"))}]}
    unknown = peopled.world.ask("POST", "/v1/jobs", sound, app=peopled.app, json=other)
    assert answer.status_code == unknown.status_code == 422
    assert answer.json()["detail"].replace("vision", "nonsense") == unknown.json()["detail"]


def test_refused_calls_stand_in_the_audit_beside_those_that_changed_something(tmp_path: Path) -> None:
    with a_world(tmp_path) as world:
        token = world.administration.new_token(ROOT, "default", "viewer", "eve", None)["token"]
        world.ask("DELETE", "/v1/jobs/web", token)
        world.submit(batch("web"))
        world.ask("DELETE", "/v1/jobs/web", token)
        world.ask("DELETE", "/v1/jobs/web")
        entries = world.administration.audit(ROOT)["entries"]
    said = [(entry["who"].split(" (")[0], entry["what"].split(":")[0]) for entry in entries]
    assert said == [
        ("token eve", "jobs.cancel web"), ("token eve", "jobs.cancel web"),
        ("root", "jobs.cancel web"),
    ]  # fmt: skip
