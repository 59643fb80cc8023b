"""The report of a run, made from its events alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invented import BEGAN, a_storm
from springtide.spec import UserError
from springtide.train import events
from springtide.train.plot import plot
from springtide.train.report import Report, write


def told(*happened: dict[str, Any]) -> Report:
    report = Report()
    for event in happened:
        report.add(event)
    return report


def a_step(number: int, time: float, **more: Any) -> dict[str, Any]:
    return {"event": "step", "step": number, "time": BEGAN + time, "loss": 1.0, "workers": 2, "samples": 32} | more


def a_loss(time: float, step: int, pid: int = 7) -> dict[str, Any]:
    cause = f"worker 1 (pid {pid}) was killed by SIGKILL"
    return {"event": "generation", "time": BEGAN + time, "generation": 2, "step": step, "workers": 1, "cause": cause}


def test_a_storm_makes_a_whole_document() -> None:
    document = told(*a_storm(steps=200)).document()
    assert document["steps"] == 200
    assert document["samples"] == 200 * 64
    assert (document["samples_lost"], document["samples_twice"]) == (0, 0)
    assert document["state"] == "done"
    assert document["digest"] == "7f3a" * 16
    assert document["metrics"].keys() == {"loss", "accuracy"}
    assert [
        row.keys() >= {"generation", "step", "workers", "cause", "delay_seconds"} for row in document["generations"]
    ]
    assert document["hardware"].keys() == {"cpu", "cores", "memory_bytes", "threads", "torch", "gpu"}
    assert document["step_seconds"]["median"] <= document["step_seconds"]["p99"]
    json.dumps(document, allow_nan=False)


def test_the_delay_is_the_gap_around_an_event_less_the_median_step() -> None:
    steps = [a_step(n, time) for n, time in enumerate((1.0, 1.1, 1.2, 1.8, 1.9, 2.0), start=1)]
    document = told(*steps[:3], a_loss(1.3, step=4), *steps[3:]).document()
    assert document["generations"][0]["delay_seconds"] == pytest.approx(0.5)


def test_what_happens_before_the_first_step_or_after_the_last_costs_nothing() -> None:
    document = told(a_loss(0.5, step=1), a_step(1, 1.0), a_step(2, 1.1), a_loss(5.0, step=3)).document()
    assert [row["delay_seconds"] for row in document["generations"]] == [0.0, 0.0]


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=40), st.floats(-1, 100))
def test_a_delay_is_never_negative_and_never_longer_than_the_longest_gap(gaps: list[float], moment: float) -> None:
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    report = told(*(a_step(n, time) for n, time in enumerate(times, start=1)))
    (delay,) = report.delays_seconds([BEGAN + moment])
    assert 0 <= delay <= max(gaps) + 1e-6


def test_what_happened_between_two_commits_is_one_row_with_one_cost() -> None:
    chaos = {"event": "chaos", "time": BEGAN + 1.25, "step": 4, "what": "kill worker 1 (pid 7)"}
    steps = [a_step(n, time) for n, time in enumerate((1.0, 1.1, 1.2, 1.8, 1.9, 2.0), start=1)]
    (row,) = told(*steps[:3], chaos, a_loss(1.3, step=4), *steps[3:]).rows()
    assert row.what == ("worker 1 (pid 7) was killed by SIGKILL",)
    assert (row.step, row.workers, row.delay_seconds) == (4, 1, pytest.approx(0.5))


def test_a_blow_that_nothing_came_of_is_told_itself() -> None:
    chaos = {"event": "chaos", "time": BEGAN + 1.05, "step": 2, "what": "kill worker 1 (pid 7)"}
    (row,) = told(a_step(1, 1.0), chaos, a_step(2, 1.1)).rows()
    assert row.what == ("chaos: kill worker 1 (pid 7)",)


def test_a_step_told_twice_counts_once() -> None:
    document = told(a_step(1, 1.0), a_step(2, 1.1), a_step(1, 1.2), a_step(2, 1.2), a_step(3, 1.3)).document()
    assert (document["steps"], document["samples"]) == (3, 96)


def test_a_resumed_run_counts_the_samples_of_the_state_that_it_began_with() -> None:
    start = next(a_storm()) | {"resumed_step": 10}
    document = told(start, a_step(11, 1.0, samples=64)).document()
    assert (document["steps"], document["resumed_step"], document["samples"]) == (11, 10, 11 * 64)


def test_a_run_that_told_nothing_still_has_a_report() -> None:
    document = Report().document()
    assert (document["steps"], document["digest"], document["generations"]) == (0, None, [])


def test_a_loss_that_is_not_a_number_is_written_as_null(tmp_path: Path) -> None:
    evaluation = {"event": "evaluation", "time": BEGAN + 2, "step": 1, "metrics": {"loss": float("nan")}, "best": False}
    write(told(a_step(1, 1.0, loss=float("inf")), evaluation), tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["loss"] is None
    assert written["metrics"] == {"loss": None}


def test_a_report_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"the report .*folder cannot be written"):
        write(Report(), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_events_survive_a_file_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    storm = list(a_storm(steps=20))
    path.write_text("".join(f"{events.encode(event)}\n" for event in storm) + '{"event": "st')
    assert list(events.read(path)) == storm


def test_every_event_that_people_read_has_a_sentence() -> None:
    told_of = {event["event"] for event in a_storm(steps=40) if events.sentence(event)}
    assert told_of == {"start", "supervisor", "worker", "generation", "evaluation", "checkpoint", "chaos"}


@pytest.mark.parametrize("name", ["storm.png", "storm.svg", "storm.pdf"])
def test_a_picture_is_drawn_in_each_kind_of_file(tmp_path: Path, name: str) -> None:
    plot(a_storm(steps=60), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 5000


def test_a_picture_of_nearly_nothing_is_drawn(tmp_path: Path) -> None:
    plot([], tmp_path / "nothing.png")
    plot([next(a_storm())], tmp_path / "start.png")
    plot([next(a_storm()), a_step(1, 1.0, loss=None)], tmp_path / "step.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the picture .* cannot be written"):
        plot([], tmp_path / "nowhere" / "run.png")
