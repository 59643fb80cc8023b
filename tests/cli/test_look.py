"""How times and events are told."""

from __future__ import annotations

import time

from springtide.cli import look

NOON_S = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


def test_a_time_of_today_needs_no_date_and_any_other_has_one() -> None:
    assert look.time_text(NOON_S, NOON_S + 3600) == "12:00:00"
    assert look.time_text(NOON_S, NOON_S + 86400) == "24 Nov 12:00:00"


def test_an_event_names_its_job_once() -> None:
    event = {"time_s": NOON_S, "job": "web", "sentence": "web grows to 2"}
    assert look.event_line(event).endswith("  web grows to 2")
    assert look.event_line(event | {"sentence": "it may run again"}).endswith("  web: it may run again")
    assert look.event_line(event | {"job": None, "sentence": "node n0 is drained"}).endswith("  node n0 is drained")


def test_an_explanation_has_its_sentence_decisions_and_what_would_change_it() -> None:
    told = {
        "sentence": "web waits",
        "decisions": [{"time_s": NOON_S, "sentence": "web waits: no node has 2 cores left"}],
        "changes": ["2 cores more on node-0"],
    }
    lines = list(look._explained(told))
    assert lines[0] == "web waits" and lines[-1] == "  2 cores more on node-0"
    assert any(line.endswith("no node has 2 cores left") for line in lines)
    assert list(look._explained({"sentence": "web is done"})) == ["web is done"]
