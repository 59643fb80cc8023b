"""What the benchmarks make of the steps that they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.launch import Step
from benchmarks.table import Row

from benchmarks import document, launch, processes, table


def steps(*times: float, first: int = 1) -> list[Step]:
    return [Step(first + k, time, 4) for k, time in enumerate(times)]


def test_a_delay_is_the_gap_around_the_event_beyond_an_ordinary_step():
    assert launch.delay_seconds(steps(0, 1, 2, 5, 6), 2.5, 1.0) == 2.0


def test_a_delay_after_a_step_that_could_still_be_finished_is_seen():
    assert launch.delay_seconds(steps(0, 1, 2, 3, 8, 9), 2.5, 1.0) == 4.0


def test_a_pause_before_the_window_is_not_counted():
    assert launch.pause_seconds(steps(0, 10, 11, 12, 13), 10.5, 13, 1.0) == 0.0


def test_steps_repeated_from_a_checkpoint_are_counted():
    seen = steps(1, 2, 3, 4, 5) + steps(10, 11, first=3)
    assert launch.steps_lost(seen, 6) == 3
    assert launch.steps_lost(steps(1, 2, 3, 4), 2.5) == 0


def test_a_step_shorter_than_the_clock_is_timed_over_several():
    assert launch.step_seconds(steps(0, 0, 0, 0, 4, 4, 4, 4, 8, 8), skip=0, stride=4) == 1.0


def test_the_median_of_rounds_keeps_what_did_not_happen():
    rows = [Row("w", "s", 4, "m", 1.0, "s"), Row("w", "s", 4, "m", 3.0, "s"), Row("w", "t", 4, "m", None, "s", "never")]
    assert table.median_rows(rows) == [Row("w", "s", 4, "m", 2.0, "s"), Row("w", "t", 4, "m", None, "s", "never")]


def test_rows_are_written_as_a_list_with_the_machine_first(tmp_path):
    table.save(tmp_path / "rows.json", [Row("w", "s", 4, "m", 1.0, "s")])
    machine, row = json.loads((tmp_path / "rows.json").read_text())
    assert machine["system"] == "machine" and machine["note"]
    assert row == {"work": "w", "system": "s", "workers": 4, "metric": "m", "value": 1.0, "unit": "s"}


def test_the_page_names_every_section_once_and_is_written_between_marks():
    page = document.PAGE.read_text()
    for name in document.SECTIONS:
        assert page.count(f"<!-- {name} -->") == 1
    assert document.filled(document.filled(page)) == document.filled(page)


def test_all_descendants_are_ended_orphans_too():
    script = """
import os, subprocess, sys
from benchmarks import processes
processes.adopt_orphans()
parent = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & echo; wait"], stdout=subprocess.PIPE)
parent.stdout.readline()
parent.kill()
processes.end_descendants()
print(len(processes.descendants(os.getpid())))
"""
    root = Path(processes.__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "0", said.stderr


@pytest.mark.parametrize("system", ["one process", "alone"])
def test_a_training_is_followed_step_by_step_and_leaves_nothing(system):
    # What is started here belongs to a process of its own: ending all descendants must not end the tests' workers.
    script = f"""
import os
from benchmarks import launch, processes
with launch.launch({system!r}, "tiny", steps=20) as running:
    running.wait_step(20)
    folder = running.folder
numbers = [step.number for step in running.steps()]
print(numbers == list(range(1, 21)), folder.exists(), len(processes.descendants(os.getpid())))
"""
    root = Path(processes.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    assert said.stdout.split() == ["True", "False", "0"], said.stderr
