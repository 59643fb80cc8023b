"""Models over HTTP: what is shown, and what is refused with which status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool.offices import ROOT, World, a_world, two_versions
from springtide.serve.judging import GateRule, Scores, judge
from springtide.serve.registry import Registry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("models")
    with a_world(folder) as found:
        two_versions(folder)
        yield found


def _ask(world: World, method: str, path: str, **body: Any) -> Any:
    return world.ask(method, f"/v1/models{path}", **({"json": body} if method == "POST" else {}))


def test_models_and_their_versions_are_shown(world: World) -> None:
    (row,) = _ask(world, "GET", "").json()["models"]
    assert (row["name"], row["newest"], row["servers"]) == ("scale", 2, 0)
    shown = _ask(world, "GET", "/scale").json()
    assert shown["rule"] is None and shown["changes"][-1]["action"] == "add"
    versions = _ask(world, "GET", "/scale/versions").json()["versions"]
    assert [(one["number"], one["inputs"], one["build"]) for one in versions] == [
        (2, ["input"], "scale:build"), (1, ["input"], "scale:build"),
    ]  # fmt: skip


def test_a_promotion_wants_a_verdict_on_record_or_force_and_says_who(world: World) -> None:
    refused = _ask(world, "POST", "/scale/promote", version=1)
    assert (refused.status_code, refused.json()["exit_code"]) == (409, 4)
    assert "was not judged, and there is no gate data" in refused.json()["detail"]
    forced = _ask(world, "POST", "/scale/promote", version=1, force=True).json()
    assert (forced["number"], forced["before"], forced["forced"], forced["by"]) == (1, 2, True, "root")
    back = _ask(world, "POST", "/scale/rollback").json()
    assert (back["number"], back["before"], back["action"]) == (2, 1, "rollback")
    registry, scores = Registry.open(world.folder / "models"), Scores({"accuracy": 0.9}, 5)
    registry.record("scale", 1, replace(judge(scores, scores, GateRule()), against=2))
    judged = _ask(world, "POST", "/scale/promote", version=1).json()
    assert judged["why"] == "accuracy is 0.9 on 5 records, production's is 0.9" and not judged["forced"]
    said = [entry["what"] for entry in world.administration.audit(ROOT)["entries"]]
    assert [what.partition(":")[0] for what in said] == [
        "models.promote scale", "models.promote scale", "models.rollback scale", "models.promote scale",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("GET", "/sacle", {}, 404, 'there is no model "sacle"; did you mean "scale"?'),
        ("GET", "/sacle/versions", {}, 404, "there is no model"),
        ("POST", "/sacle/promote", {"version": 1}, 404, "there is no model"),
        ("POST", "/sacle/rollback", {}, 404, "there is no model"),
        ("POST", "/scale/promote", {"version": 9}, 422, 'scale has no version "9"'),
        ("POST", "/scale/promote", {"version": 0}, 400, "in the body: version"),
        ("POST", "/scale/promote", {"version": 1, "data": "/etc/passwd"}, 400, "unknown field"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_problem_with_its_sentence(
    world: World, method: str, path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = _ask(world, method, path, **body)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
