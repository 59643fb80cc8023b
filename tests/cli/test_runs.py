"""How `tide ps` shows what is known about a run."""

from __future__ import annotations

import time

from springtide.cli import table
from springtide.cli.runs import _row


def test_a_row_shows_where_a_run_is_and_who_computes_what() -> None:
    workers = [
        {"id": 0, "pid": 4711, "share": 0.375, "state": "working"},
        {"id": 2, "pid": 4713, "share": 0.625, "state": "working"},
    ]
    known = {
        "name": "digits", "state": "running", "step": 1200, "steps": 4000, "loss": 0.31234, "supervisor": 4700,
        "workers": workers, "M": 8, "since": time.time() - 125, "checkpoint": "/tmp/c/step-00001000-1f3a09bc",
    }  # fmt: skip
    assert _row(known)[:7] == ("digits", "running", "1,200 of 4,000", "0.3123", "2", "3 5", "4700")
    assert _row(known)[7].startswith("2 min 0")
    assert _row(known)[8] == "/tmp/c/step-00001000-1f3a09bc"


def test_a_row_of_which_little_is_known_shows_dashes() -> None:
    assert _row({"name": "digits", "state": "lost"}) == ("digits", "lost", "-", "-", "0", "-", "-", "-", "-")


def test_a_table_is_as_wide_as_its_longest_words_and_cuts_nothing() -> None:
    lines = table.lines(("name", "step"), [("a" * 60, "7"), ("深層", "1,200")], right=frozenset(("step",)))
    assert lines == ["name" + " " * 58 + " step", "a" * 60 + "      7", "深層" + " " * 56 + "  1,200"]
