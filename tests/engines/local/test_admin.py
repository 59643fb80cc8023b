"""What is concluded from answers, and from silence, of a replica's own socket."""

from __future__ import annotations

from springtide.engines.local import admin
from springtide.engines.local.admin import Answer, Health, learn, processing, requests
from springtide.engines.local.load import STREAM_FIGURES, Processing

WELL, ILL, SILENT = Answer(200, 3.0), Answer(500), Answer()


def test_who_says_that_he_is_well_is_ready() -> None:
    health = learn(Health(0.0), WELL, 0.1)
    assert health.ready(0.1) and health.total == 3.0


def test_who_says_nothing_is_ready_after_a_moment_and_asked_more_rarely() -> None:
    health = learn(Health(0.0), SILENT, 0.1)
    assert not health.ready(0.1) and health.ready(1.0)
    assert learn(health, SILENT, 40.0).next_s == 100.0


def test_who_says_that_he_is_not_ready_is_not_taken_for_mute() -> None:
    assert not learn(Health(0.0), ILL, 0.1).ready(50.0)


def test_who_was_well_is_ill_only_after_a_while() -> None:
    health = learn(Health(0.0), WELL, 1.0)
    health = learn(health, SILENT, 5.0)
    assert health.ready(5.0) and not health.ill
    assert learn(health, WELL, 6.0).ill == ""
    assert learn(health, SILENT, 1.0 + admin.SILENT_S).ill == "did not answer /health for 10 s"


def test_requests_are_summed_over_labels() -> None:
    text = (
        'x 1\ntide_requests_total{code="200"} 3\ntide_requests_total{code="500"} 4 1700000\ntide_requests_total_x 9\n'
    )
    assert requests(text) == 7.0
    assert requests("tide_requests_total 2.5e1\n") == 25.0
    assert requests("other 1\n") is None


def test_what_a_stream_tells_is_taken_whole_or_not_at_all() -> None:
    lines = [f"tide_stream_{name} {value}\n" for value, name in enumerate(STREAM_FIGURES)]
    assert processing("".join(lines)) == Processing(0.0, 1.0, 2.0, 3.0, 4.0)
    assert processing("".join(lines[1:])) is None
    health = learn(learn(Health(0.0), Answer(200, stream=processing("".join(lines))), 1.0), SILENT, 2.0)
    assert health.stream == Processing(0.0, 1.0, 2.0, 3.0, 4.0)
