"""`tide loop` and `tide explain LOOP`, on a loop as it lies on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from running import tide
from springtide.pool import circle_files
from springtide.serve.loop.circle import Base, Checkpoint, Circle, Note, Outcome, Past, Quarantine
from springtide.serve.loop.places import Places
from springtide.spec import job_file_from_text

TEXT = "kind: loop\nname: words\nbuild: model:build\ntrain: {script: /t.py}\nserve: {port: 8080}\n"
WHY = "accuracy is 0.2, worse than production's 0.9"


@pytest.fixture
def there(home: Path) -> Places:
    places = Places(home / "loops" / "words")
    circle_files.make(places, job_file_from_text(TEXT).loops[0])
    base = Base(3, Checkpoint(0, 1200, "d", "/kept", {0: 100}), {})
    refused = Past(4, 0, 1300, Outcome.REFUSED, WHY, 5.0)
    held = Quarantine(1, 4, WHY, 5.0, {0: ((100, 150),)}, {})
    circle = Circle(bases=(base,), past=(refused,), quarantines=(held,), candidates=4, notes=(Note(5.0, "back"),))
    circle_files.write_state(places, circle)
    return places


def test_loops_are_listed_with_what_is_in_production(there: Places, home: Path) -> None:
    done = tide("loop", "ls", home=home)
    assert done.returncode == 0
    head, line = done.stdout.splitlines()
    assert head.split()[:6] == ["name", "production", "step", "candidates", "refused", "quarantined"]
    assert line.split()[:6] == ["words", "3", "1200", "4", "1", "50"]


def test_one_is_shown_with_why_its_last_candidate_was_not_promoted(there: Places, home: Path) -> None:
    done = tide("loop", "show", "words", home=home)
    assert "in production: version 3, of step 1,200" in done.stdout
    assert f"refused; {WHY}" in done.stdout
    assert "quarantine 1: 50 records (partition 0: 100 to 149), held" in done.stdout
    told = json.loads(tide("loop", "show", "words", "--json", home=home).stdout)
    assert (told["production"], told["past"][0]["outcome"]) == (3, "refused")


def test_explain_of_a_loop_needs_no_pool_to_say_where_it_is(there: Places, home: Path) -> None:
    done = tide("explain", "words", home=home)
    assert done.returncode == 0
    assert done.stdout.startswith("words is a loop\nnow: training goes on")
    assert "words-train is not in the pool" in done.stdout


def test_a_release_is_asked_of_the_circle_and_only_of_what_is_there(there: Places, home: Path) -> None:
    done = tide("loop", "release", "words", "1", home=home)
    assert done.stdout == "words: quarantine 1 will be appended to the training stream\n"
    ((_, request),) = circle_files.requests(there)
    assert request["release"] == 1
    done = tide("loop", "release", "words", "7", home=home)
    assert (done.returncode, done.stderr) == (2, 'tide: words has no quarantine "7"; it has 1\n')


def test_a_loop_that_is_not_there_is_one_sentence(there: Places, home: Path) -> None:
    done = tide("loop", "show", "wrods", home=home)
    assert (done.returncode, done.stderr) == (2, 'tide: there is no loop "wrods" in this home; did you mean "words"?\n')


def test_a_file_of_loops_is_submitted_only_to_the_pool_of_this_home(home: Path) -> None:
    (home / "loop.yaml").write_text(TEXT)
    done = tide("submit", "loop.yaml", home=home, TIDE_POOL=str(home / "other.sock"))
    assert done.returncode == 4
    assert "is not the pool of" in done.stderr


def test_what_is_wrong_with_a_loop_is_said_with_file_line_and_field(home: Path) -> None:
    (home / "loop.yaml").write_text(TEXT + "gate: {margn: 1%}\n")
    done = tide("submit", "loop.yaml", home=home)
    assert (done.returncode, done.stderr) == (
        2, 'tide: loop.yaml:6:8: gate.margn: there is no such field; did you mean "margin"?\n',
    )  # fmt: skip
