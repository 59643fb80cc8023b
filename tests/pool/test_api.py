"""The application: what every request meets, and what the operations promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pool.offices import ROOT, World, a_world, as_user, batch, service
from springtide.pool.api import app as application
from springtide.pool.api.gate import Rates


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as found:
        yield found


def submission(*bodies: str, **fields: Any) -> dict[str, Any]:
    return {"jobs": [{"job": json.loads(body)} for body in bodies], **fields}


# --- submitting


def test_of_jobs_with_one_wrong_none_is_submitted(world: World) -> None:
    answer = world.ask("POST", "/v1/jobs", json=submission(batch("good"), batch("bad", resources={"cpu": 64})))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "no node could ever hold 64 cpu" in answer.json()["detail"] and answer.json()["exit_code"] == 2
    assert world.ask("GET", "/v1/jobs").json()["jobs"] == []


def test_one_refused_update_undoes_what_came_with_it(world: World) -> None:
    world.submit(batch("there"))
    body = submission(batch("new"), service("there"))
    answer = world.ask("POST", "/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["exit_code"]) == (409, 4)
    assert [row["name"] for row in world.ask("GET", "/v1/jobs").json()["jobs"]] == ["there"]


def test_a_name_is_updated_while_it_is_unfinished_and_new_afterwards(world: World) -> None:
    (first,) = world.submit(service("web"))
    (second,) = world.submit(service("web", replicas="1..3"))
    assert (second["id"], second["outcome"], second["version"]) == (first["id"], "updated", 2)
    (third,) = world.submit(service("web", replicas="1..3"))
    assert (third["outcome"], third["version"]) == ("unchanged", 2)
    world.jobs.cancel(ROOT, "web")
    world.rounds(3)
    (fourth,) = world.submit(service("web"))
    assert fourth["outcome"] == "submitted" and fourth["id"] != first["id"]
    assert world.jobs.show(ROOT, "web")["id"] == fourth["id"]


def test_a_dry_run_forecasts_and_changes_nothing(world: World) -> None:
    answer = world.ask("POST", "/v1/jobs", json=submission(batch("dry", work="60s"), dry_run=True))
    assert answer.status_code == 200
    (forecast,) = answer.json()["forecasts"]
    assert forecast["name"] == "dry" and "starts now" in forecast["sentence"]
    assert world.ask("GET", "/v1/jobs").json()["jobs"] == []


def test_a_deadline_that_would_be_missed_is_a_warning(world: World) -> None:
    answer = world.ask("POST", "/v1/jobs", json=submission(batch("late", work="2h", deadline="in 5m")))
    assert answer.status_code == 201
    assert any("deadline" in warning for warning in answer.json()["warnings"])


# --- idempotency


def test_a_request_that_is_sent_again_is_answered_the_same_and_done_once(world: World) -> None:
    key = {"Idempotency-Key": "k1"}
    first = world.ask("POST", "/v1/jobs", json=submission(batch("once", work="1s")), headers=key)
    world.rounds(6)
    assert world.jobs.show(ROOT, "once")["state"] == "done"
    again = world.ask("POST", "/v1/jobs", json=submission(batch("once", work="1s")), headers=key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert len(world.ask("GET", "/v1/jobs").json()["jobs"]) == 1


def test_a_key_for_another_request_is_refused(world: World) -> None:
    key = {"Idempotency-Key": "k1"}
    world.ask("POST", "/v1/jobs", json=submission(batch("one")), headers=key)
    answer = world.ask("POST", "/v1/jobs", json=submission(batch("two")), headers=key)
    assert answer.status_code == 422 and "Idempotency-Key was used for another request" in answer.json()["detail"]


def test_what_failed_may_be_tried_again_with_its_key(world: World) -> None:
    key = {"Idempotency-Key": "k1"}
    assert world.ask("DELETE", "/v1/jobs/one", headers=key).status_code == 404
    world.submit(batch("one"))
    assert world.ask("DELETE", "/v1/jobs/one", headers=key).status_code == 202


def test_a_hundred_times_at_once_it_is_done_once(world: World) -> None:
    app, key = world.app(), {"Idempotency-Key": "k1"}
    body = submission(batch("once"))

    def ask(_: int) -> Any:
        return world.ask("POST", "/v1/jobs", app=app, json=body, headers=key)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(100)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].status_code == 201
    assert len(world.office.store.jobs()) == 1
    assert len(world.administration.audit(ROOT)["entries"]) == 1


def test_the_answer_with_a_token_is_not_kept(world: World) -> None:
    key = {"Idempotency-Key": "k1"}
    answers = [
        world.ask("POST", "/v1/tokens", json={"team": "default", "scope": "viewer"}, headers=key).json()["token"]
        for _ in range(2)
    ]
    assert answers[0] != answers[1]


# --- versions and pages


def test_an_update_of_another_version_is_refused(world: World) -> None:
    world.submit(service("web", replicas="1..3"))
    seen = world.ask("GET", "/v1/jobs/web").headers["etag"]
    assert seen == '"1"'
    assert world.ask("PATCH", "/v1/jobs/web", json={"replicas": 2}, headers={"If-Match": seen}).json()["version"] == 2
    stale = world.ask("PATCH", "/v1/jobs/web", json={"replicas": 3}, headers={"If-Match": seen})
    assert stale.status_code == 412 and "version 2 now" in stale.json()["detail"]
    assert world.ask("DELETE", "/v1/jobs/web", headers={"If-Match": seen}).status_code == 412
    assert world.ask("PATCH", "/v1/jobs/web", json={"replicas": "auto"}, headers={"If-Match": "*"}).status_code == 200


def test_pages_hold_every_job_once_also_when_jobs_come_meanwhile(world: World) -> None:
    world.submit(*(batch(f"job-{number}") for number in range(25)))
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = world.ask("GET", f"/v1/jobs?limit=10{cursor and '&cursor=' + cursor}").json()
        found += [row["name"] for row in page["jobs"]]
        cursor = page["next"]
        world.submit(batch(f"late-{len(found)}"))
    assert found == [f"job-{number}" for number in reversed(range(25))]
    assert world.ask("GET", "/v1/jobs?cursor=x").status_code == 422


@pytest.mark.parametrize(("words", "count"), [("live", 2), ("cancelled", 1), ("done", 0), ("waiting", 2)])
def test_states_choose(world: World, words: str, count: int) -> None:
    world.submit(batch("a"), batch("b"), batch("c"))
    world.jobs.cancel(ROOT, "c")
    if words != "waiting":
        world.rounds(2)
    else:
        count = 3
    assert len(world.ask("GET", f"/v1/jobs?state={words}").json()["jobs"]) == count


def test_events_go_on_where_a_page_ended(world: World) -> None:
    world.submit(*(batch(f"job-{number}") for number in range(5)))
    world.rounds(1)
    page = world.ask("GET", "/v1/events?after=0&limit=3").json()
    rest = world.ask("GET", f"/v1/events?after={page['next']}").json()
    assert [event["id"] for event in page["events"] + rest["events"]] == [1, 2, 3, 4, 5]
    one = world.ask("GET", "/v1/events?job=job-3").json()["events"]
    assert {event["job"] for event in one} == {"job-3"}


# --- changing


def test_resizing_pausing_and_explaining(world: World) -> None:
    world.submit(service("web", replicas="1..3"))
    world.rounds(2)
    assert world.ask("PATCH", "/v1/jobs/web", json={"replicas": "3"}).json()["pinned"] is True
    world.rounds(3)
    row = world.ask("GET", "/v1/jobs/web").json()
    assert (row["replicas"], row["wanted"], len(row["workers"])) == (3, "3", 3)
    assert len(world.ask("GET", "/v1/jobs/web/replicas").json()["replicas"]) == 3
    assert "web" in world.ask("GET", "/v1/jobs/web/explain").json()["sentence"]
    world.ask("PATCH", "/v1/jobs/web", json={"paused": True})
    world.rounds(6)
    assert world.ask("GET", "/v1/jobs/web").json()["state"] == "paused"
    world.ask("PATCH", "/v1/jobs/web", json={"paused": False, "replicas": "auto"})
    world.rounds(3)
    assert world.ask("GET", "/v1/jobs/web").json()["state"] == "running"


def test_a_drained_node_is_left_and_taken_back(world: World) -> None:
    assert world.ask("PATCH", "/v1/nodes/n0", json={"drained": True}).json()["drained"] is True
    world.submit(batch("one"))
    world.rounds(2)
    nodes = {node["name"]: node for node in world.ask("GET", "/v1/nodes").json()["nodes"]}
    assert (nodes["n0"]["replicas"], len(nodes["n1"]["replicas"])) == ([], 1)
    assert world.ask("PATCH", "/v1/nodes/n9", json={"drained": True}).status_code == 404
    assert world.ask("PATCH", "/v1/nodes/n0", json={"drained": False}).json()["drained"] is False


def test_teams_are_made_and_held_against_each_other_and_the_nodes(world: World) -> None:
    assert world.ask("PUT", "/v1/teams/vision", json={"guarantee": {"cpu": 2}, "weight": 3}).status_code == 200
    world.rounds(1)
    assert [team["name"] for team in world.ask("GET", "/v1/teams").json()["teams"]] == ["default", "vision"]
    for body, sentence in (
        ({"guarantee": {"cpu": 99}}, "the pool has 8 cpu"),
        ({"parent": "visoin"}, 'there is no team "visoin"; did you mean "vision"?'),
        ({"parent": "sound"}, "cycle"),
        ({"wieght": 2}, 'did you mean "weight"?'),
        ({"name": "other"}, "is not the team of the address"),
    ):
        answer = world.ask("PUT", "/v1/teams/sound", json=body)
        assert answer.status_code == 422 and sentence in answer.json()["detail"], answer.text


def test_retrying_is_for_what_failed_or_was_cancelled(world: World) -> None:
    world.submit(batch("one"))
    assert world.ask("POST", "/v1/jobs/one/retry").status_code == 409
    world.ask("DELETE", "/v1/jobs/one")
    world.rounds(2)
    again = world.ask("POST", "/v1/jobs/one/retry")
    assert (again.status_code, again.json()["state"]) == (201, "waiting")


def test_usage_and_prices_are_told(world: World) -> None:
    world.submit(batch("one", work="30s"))
    world.rounds(20)
    world.rounds(15)
    (row,) = world.ask("GET", "/v1/usage?by=job").json()["rows"]
    assert row["job"] == "one" and row["core_s"]["allocated"] > 0
    assert world.ask("GET", "/v1/prices").json()["core"] == 0.0
    assert (
        "it would have bought"
        in world.ask("POST", "/v1/prices/would-buy", json={"per_core_hour": 1}).json()["sentence"]
    )


def test_metrics_are_told_in_prometheus_words(world: World) -> None:
    world.submit(batch("one"))
    world.rounds(1)
    app = world.app()
    world.ask("GET", "/v1/jobs/none", app=app)
    text = world.ask("GET", "/v1/metrics", app=app).text
    for line in (
        'tide_jobs{state="running"} 1.0', 'tide_held{resource="cpu"} 1.0', 'tide_capacity{resource="cpu"} 8.0',
        'tide_replicas{kind="batch",team="default"} 1.0', 'tide_api_requests_total{route="jobs.show",status="404"} 1.0',
    ):  # fmt: skip
        assert line in text, text


# --- what every request meets


@pytest.mark.parametrize(
    ("method", "path", "what", "status", "sentence"),
    [
        ("GET", "/nowhere", {}, 404, "there is nothing at /nowhere"),
        ("PUT", "/v1/jobs", {}, 405, "PUT cannot be done here; possible is "),
        ("GET", "/v1/jobs/none", {}, 404, 'there is no job "none"'),
        ("GET", "/v1/jobs?sate=live", {}, 400, "sate"),
        ("GET", "/v1/jobs?state=live2", {}, 400, "state"),
        ("GET", "/v1/jobs?limit=0", {}, 400, "limit"),
        ("POST", "/v1/jobs", {"content": b"{"}, 400, "is no JSON"),
        ("POST", "/v1/jobs", {"content": b'{"jobs": [{"job": {"a": ' + b"[" * 100_000}, 400, "no JSON"),
        ("POST", "/v1/jobs", {"json": {"jobs": [], "x": 1}}, 400, "in the body"),
        ("POST", "/v1/jobs", {"json": {"jobs": [{"job": {}, "sauce": 1}]}}, 400, "sauce"),
        ("POST", "/v1/jobs", {"content": b"a=b", "headers": {"Content-Type": "text/plain"}}, 400, "application/json"),
        ("PATCH", "/v1/jobs/web", {"json": {"replicas": "4..1"}}, 422, "counts down"),
        ("PATCH", "/v1/jobs/web", {"json": {"replicas": 0}}, 422, "no replica"),
        ("PATCH", "/v1/jobs/web", {"json": {"replicas": "many"}}, 422, "write 4, 1:4, or auto"),
        ("PATCH", "/v1/jobs/web", {"json": {"bid": {"per_core_hour": 1}}}, 422, "only spot jobs bid"),
        ("PUT", "/v1/secrets/BAD", {"json": {"team": "default", "value": "x"}}, 422, "is no name"),
        ("GET", "/v1/secrets?team=nobody", {}, 404, "there is no team"),
        ("POST", "/v1/tokens", {"json": {"team": "vison", "scope": "viewer"}}, 422, "there is no team"),
        ("HEAD", "/v1/sources/..", {}, 404, ""),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    world: World, method: str, path: str, what: dict[str, Any], status: int, sentence: str
) -> None:
    world.submit(service("web"))
    answer = world.ask(method, path, **what)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert sentence in answer.json()["detail"]
        assert answer.json()["status"] == status and "Traceback" not in answer.text


def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "MOST_BODY_BYTES", 1000)
    assert world.ask("POST", "/v1/jobs", content=b" " * 1001).status_code == 413

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100

    assert world.ask("POST", "/v1/jobs", content=endless()).status_code == 413


def test_a_body_that_stops_coming_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "SILENT_S", 0.05)

    async def stopping() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    for method, path in (("POST", "/v1/jobs"), ("PUT", f"/v1/sources/{'0' * 64}")):
        answer = asyncio.run(answered(as_user(world.app(), 0), method, path, stopping()))
        assert "the body stopped coming" in answer
    assert list(world.office.sources.folder.iterdir()) == []


async def answered(app: Any, method: str, path: str, parts: Any) -> str:
    """The answer's body to a request whose body comes in parts."""
    found = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(parts), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        nonlocal found
        found += message.get("body", b"")

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("pool", 80), "client": None,
    }  # fmt: skip
    await app(scope, receive, send)
    return found.decode()


def test_a_fault_of_the_pool_says_where_it_stands_in_the_log_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(world.office.live, "explain", broken)
    world.submit(batch("one"))
    answer = world.ask("GET", "/v1/jobs/one/explain")
    assert answer.status_code == 500 and "secret" not in answer.text
    fault = answer.json()["detail"].split()[-1]
    assert any(fault in record.getMessage() for record in caplog.records)


def test_a_full_disk_is_said_and_nothing_is_changed(world: World) -> None:
    with world.office.store.database.reading() as rows:
        pages = rows.execute("PRAGMA page_count").fetchone()[0]
        rows.execute(f"PRAGMA max_page_count = {pages}")
    answer = world.ask("POST", "/v1/jobs", json=submission(*(batch(f"job-{number}") for number in range(200))))
    assert answer.status_code == 503 and answer.json()["exit_code"] == 1
    assert "the pool cannot write" in answer.json()["detail"] and "disk is full" in answer.json()["detail"]
    assert world.ask("GET", "/v1/jobs").json()["jobs"] == []


def test_who_asks_too_often_waits(world: World) -> None:
    now = [0.0]
    rates = Rates(per_s=2.0, burst=3.0, clock=lambda: now[0])
    app = world.app(rates)
    token = world.administration.new_token(ROOT, "default", "viewer", "eve", None)["token"]
    other = world.administration.new_token(ROOT, "default", "viewer", "adam", None)["token"]
    statuses = [world.ask("GET", "/v1/jobs", token, app=app) for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    assert statuses[-1].headers["retry-after"] == "1" and statuses[-1].json()["exit_code"] == 4
    assert world.ask("GET", "/v1/jobs", other, app=app).status_code == 200
    assert world.ask("GET", "/v1/jobs", app=app).status_code == 200  # who runs the pool is not held back
    now[0] += 0.5
    assert world.ask("GET", "/v1/jobs", token, app=app).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("pool", 200), ("evil.example", 400), ("pool:80", 400), ("", 400)])
def test_only_a_host_that_is_meant_is_answered_over_tcp(world: World, host: str, status: int) -> None:
    assert world.ask("GET", "/v1/health", uid=None, headers={"Host": host}).status_code == status
    assert world.ask("GET", "/v1/health", headers={"Host": host}).status_code == 200  # a socket has no other name


def test_no_header_makes_anybody_of_who_asks_over_tcp(world: World) -> None:
    for headers in ({"X-Forwarded-For": "uid:0"}, {"Authorization": "Basic cm9vdDo="}, {"Authorization": "Bearer x"}):
        assert world.ask("GET", "/v1/jobs", uid=None, headers=headers).status_code == 401


def test_other_users_of_the_machine_are_members_of_the_default_team(world: World) -> None:
    world.administration.set_team(ROOT, "vision", {})
    assert world.ask("POST", "/v1/jobs", uid=54321, json=submission(batch("mine"))).status_code == 201
    world.submit(batch("theirs", team="vision"))
    assert [row["name"] for row in world.ask("GET", "/v1/jobs", uid=54321).json()["jobs"]] == ["mine"]
    assert world.ask("POST", "/v1/down", uid=54321, json={}).status_code == 403


def test_a_log_is_told_by_replica_and_no_other_file(world: World) -> None:
    (row,) = world.submit(service("web", replicas="1..3"))
    folder = world.folder / "logs" / row["id"]
    folder.mkdir(parents=True)
    (folder / "r1.log").write_text("a\nb\n")
    (folder / "r2.log").write_text("c\n")
    (world.folder / "logs" / "secret.log").write_text("hidden\n")
    assert sorted(world.ask("GET", "/v1/jobs/web/logs").text.splitlines()) == ["r1 | a", "r1 | b", "r2 | c"]
    assert world.ask("GET", "/v1/jobs/web/logs?replica=r1&lines=1").text == "b\n"
    for name in ("../secret", "r3", "/etc/passwd"):
        answer = world.ask("GET", f"/v1/jobs/web/logs?replica={name}")
        assert answer.status_code == 404 and "there are r" in answer.json()["detail"]
