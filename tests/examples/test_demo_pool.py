"""The demonstration of the pool tells what was measured, and is wrong where something was not as promised."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(FOLDER))
day, recording, shares, picture, verdict, dedicated, machine = (
    importlib.import_module(f"demo.{name}")
    for name in ("day", "recording", "shares", "picture", "verdict", "dedicated", "machine")
)
MIDNIGHT_S, DAY_S = 1000.0, 48.0
DIGEST = "blake2b:ab"
ANYTHING = dedicated.Shares(1.0, 0.9, 1.0)
LITTLE = dedicated.Shares(0.5, 0.4, 0.4)


def at(hour: float) -> float:
    return MIDNIGHT_S + hour / 24 * DAY_S


def held(hour: float) -> dict[str, int]:
    """Who has the five nodes where everything goes well."""
    asked = day.rate(hour)
    found = {"web": 1 + (asked > 40) + (asked > 80), "report": int(3 <= hour < 8)}
    found["sweep"] = int(4.5 <= hour < 9.5 and found["web"] < 3)
    return {name: count for name, count in found.items() if count} | {"digits": min(4, 5 - sum(found.values()))}


def a_day() -> Any:
    """One without a fault: ten steps and some requests a second, all blows of the story, all jobs done."""
    found = recording.Recording(MIDNIGHT_S, DAY_S, wanted_steps=480)
    found.samples = [recording.Sample(at(n / 10), held(n / 10)) for n in range(240)]
    found.requests = [
        recording.Request(MIDNIGHT_S + at_s, MIDNIGHT_S + at_s + 0.01, 1, 7)
        for at_s in islice(day.arrivals(DAY_S, 1), 3000)
        if at_s < DAY_S
    ]
    found.commits = [recording.Commit(step, MIDNIGHT_S + step * 0.1, 2) for step in range(1, 481)]
    for one in day.STORY:
        pids = (1,) if one.what.startswith("kill") else ()
        same = True if one.what == "kill_server" else None
        found.blows.append(recording.Blow(one.what, one.words, at(one.hour), pids, None, same))
    done = {"state": "done", "submitted_s": at(0), "started_s": at(0), "finished_s": at(23)}
    found.jobs = {name: dict(done) for name in ("digits", "report", "sweep")}
    found.jobs["digits"]["result"] = {"digest": DIGEST, "samples_lost": 0, "samples_twice": 0}
    return found


def broken(found: Any, left: int = 0, digest: str = DIGEST, here: Any = ANYTHING) -> list[str]:
    """The promises that do not hold."""
    lines = verdict.lines(found, {"digest": digest}, here, LITTLE, left)
    return [line.promise for line in lines if not line.holds]


def test_a_day_without_a_fault_is_called_good():
    assert broken(a_day()) == []


def _fail_a_request(found: Any) -> None:
    found.requests[3] = recording.Request(at(1), at(2), 2, 0)


def _make_a_step_twice(found: Any) -> None:
    found.commits.insert(100, found.commits[98])


def _end_early(found: Any) -> None:
    del found.commits[-1]


def _lose_a_sample(found: Any) -> None:
    found.jobs["digits"]["result"]["samples_lost"] = 1


def _count_a_sample_twice(found: Any) -> None:
    found.jobs["digits"]["result"]["samples_twice"] = 1


def _fail_the_report(found: Any) -> None:
    found.jobs["report"]["state"] = "failed"


def _find_others(found: Any) -> None:
    found.blows = [
        recording.Blow(one.what, one.words, one.at_s, one.pids, None, False if one.same else None)
        for one in found.blows
    ]


def _strike_nobody(found: Any) -> None:
    found.blows[0] = recording.Blow("kill_worker", "a worker is killed", at(1), ())


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        (_fail_a_request, "no request failed"),
        (_make_a_step_twice, "no step was lost"),
        (_end_early, "no step was lost"),
        (_lose_a_sample, "no sample was lost"),
        (_count_a_sample_twice, "no sample counted twice"),
        (_fail_the_report, "every job is done"),
        (_find_others, "the next pool server found the same processes"),
        (_strike_nobody, "all that was meant to happen did"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_whatever_goes_wrong_is_told(fault, promise):
    found = a_day()
    fault(found)
    assert broken(found) == [promise]


def test_another_digest_is_told():
    assert broken(a_day(), digest="blake2b:cd") == ["same bits as undisturbed"]


def test_two_runs_without_a_digest_are_not_the_same():
    found = a_day()
    found.jobs["digits"]["result"]["digest"] = None
    assert broken(found, digest=None) == ["same bits as undisturbed"]


def test_a_process_left_behind_is_told():
    assert broken(a_day(), left=1) == ["nothing is left behind"]


def test_a_pool_that_uses_no_more_than_dedicated_machines_is_told():
    assert broken(a_day(), here=LITTLE) == ["more is used than on dedicated machines"]


def test_requests_come_as_the_curve_says_and_the_same_for_a_seed():
    times = [at_s for at_s in islice(day.arrivals(240.0, 3), 30_000) if at_s < 240.0]
    assert times == [at_s for at_s in islice(day.arrivals(240.0, 3), 30_000) if at_s < 240.0]
    assert all(early <= late for early, late in pairwise(times))
    for hour in (2.0, 8.5, 13.0, 22.0):
        came = sum(abs(at_s / 240.0 * 24 - hour) < 0.5 for at_s in times) / 10.0
        assert came == pytest.approx(day.rate(hour), rel=0.4)


def test_a_blow_is_charged_with_the_standstill_after_it():
    found = a_day()
    late = [recording.Commit(one.step, one.at_s + (0.7 if one.step > 100 else 0.0), 2) for one in found.commits]
    found.commits = late
    assert found.standstill_s(MIDNIGHT_S + 10.02) == pytest.approx(0.7)
    assert found.standstill_s(MIDNIGHT_S + 30.0) == pytest.approx(0.0, abs=1e-6)


def test_an_answer_by_a_new_process_is_found():
    found = a_day()
    found.requests.append(recording.Request(at(10), at(10) + 0.3, 1, 8))
    assert found.first_of_new_s(at(9)) == at(10) + 0.3


def test_held_time_has_no_gaps_where_nobody_was_there_to_tell():
    found = a_day()
    found.samples = [one for one in found.samples if not at(16) < one.at_s < at(18)]
    assert sum(span_s for span_s, _ in found.spans(from_s=MIDNIGHT_S)) == pytest.approx(DAY_S)


def test_columns_hold_what_was_held():
    hours, values = shares.columns(a_day(), 48)
    assert len(hours) == 48
    assert values.sum(axis=0).tolist() == pytest.approx([5.0] * 48)
    assert values[0].max() == pytest.approx(3.0)


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_of_the_terminal_fits_it(width):
    lines = picture.text(a_day(), width).plain.splitlines()
    assert max(map(len, lines)) <= width
    assert "█" in lines[9] and "░" in lines[0]


def test_the_picture_is_drawn(tmp_path):
    picture.draw(a_day(), 0.9, 0.4, tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


def test_the_planner_plays_the_recorded_day_and_uses_less_where_machines_are_dedicated():
    found = a_day()
    here, apart = (dedicated.played(found, own, 5.0) for own in (False, True))
    assert dedicated.partitions(found).count("web") == 3
    assert here.used == pytest.approx(dedicated.as_it_was(found).used, abs=0.1)
    assert apart.used < 0.7 * here.used
    assert apart.trained < 0.5 < here.trained


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_quick_day_keeps_all_promises_and_leaves_nothing(tmp_path):
    temporary = tmp_path / "t"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(FOLDER / "demo_pool.py"), "--quick", "--plot", str(tmp_path / "day.png")],
        env={**os.environ, "TMPDIR": str(temporary)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=270,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the pool server is back after" in done.stdout and "Verdict" in done.stdout
    assert (tmp_path / "day.png").exists()
    assert list(temporary.iterdir()) == []
    assert list(machine.processes_of(temporary)) == []
