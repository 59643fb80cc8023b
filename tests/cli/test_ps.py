"""How `tide ps` shows what is known of runs of this machine and of jobs of the pool."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tide import tide

from springtide.cli import ps, table


def shown(row: dict[str, object]) -> dict[str, str]:
    return dict(zip(ps._HEADERS, ps.cells(row), strict=True))


def test_a_row_of_a_run_shows_where_it_is_and_who_computes_what() -> None:
    workers = [
        {"id": 0, "pid": 4711, "share": 0.375, "state": "working"},
        {"id": 2, "pid": 4713, "share": 0.625, "state": "working"},
    ]
    known = {
        "name": "digits", "state": "running", "step": 1200, "steps": 4000, "loss": 0.31234, "supervisor": 4700,
        "workers": workers, "M": 8, "since": time.time() - 125, "checkpoint": "/tmp/c/step-00001000-1f3a09bc",
    }  # fmt: skip
    cells = shown(ps._as_job(known))
    assert (cells["name"], cells["state"], cells["step"], cells["loss"]) == (
        "digits", "running", "1,200 of 4,000", "0.3123",
    )  # fmt: skip
    assert (cells["replicas"], cells["shares"], cells["where"]) == ("2", "3 5", "local")
    assert cells["age"].startswith("2 min 0")
    assert cells["reason"] == "/tmp/c/step-00001000-1f3a09bc"


def test_a_row_of_a_job_shows_how_many_are_wanted_and_why() -> None:
    job = {
        "name": "web", "kind": "service", "team": "shop", "priority": "production", "state": "waiting", "replicas": 1,
        "wanted": "1..3", "workers": [{"pid": 7, "node": "n0", "id": "r1"}], "step": None, "steps": None, "loss": None,
        "where": "pool", "reason": "web waits: no node has 2 cores left", "submitted_s": time.time(), "started_s": None,
    }  # fmt: skip
    cells = shown(job)
    assert (cells["replicas"], cells["kind"], cells["team"], cells["priority"]) == (
        "1 of 1..3", "service", "shop", "production",
    )  # fmt: skip
    assert (cells["shares"], cells["step"], cells["reason"]) == ("-", "-", "web waits: no node has 2 cores left")


def test_a_row_of_which_little_is_known_shows_dashes() -> None:
    cells = shown({"name": "digits", "state": "lost"})
    assert cells["name"] == "digits" and cells["state"] == "lost" and cells["replicas"] == "0"
    assert {cells[name] for name in ("kind", "team", "step", "loss", "shares", "age", "reason")} == {"-"}


def test_equal_shares_of_many_workers_are_said_once() -> None:
    row = {"workers": [{"share": 0.125}] * 8, "M": 8}
    assert ps._shares(row) == "8 x 1"


def test_a_table_is_as_wide_as_its_longest_words_and_cuts_nothing() -> None:
    lines = table.lines(("name", "step"), [("a" * 60, "7"), ("深層", "1,200")], right=frozenset(("step",)))
    assert lines == ["name" + " " * 58 + " step", "a" * 60 + "      7", "深層" + " " * 56 + "  1,200"]


def test_a_line_that_is_cut_says_so_and_fits() -> None:
    assert table.cut("springtide", 10) == "springtide"
    assert table.cut("springtide", 6) == "sprin…"
    assert table.width(table.cut("深層学習の潮", 6)) <= 6


def test_without_a_pool_and_runs_the_list_is_empty_and_says_what_begins_one(tmp_path: Path) -> None:
    assert json.loads(tide("ps", "--json", home=tmp_path).stdout) == []
    assert "`tide up` a pool" in tide("ps", home=tmp_path).stdout
    assert not list(tmp_path.iterdir())
