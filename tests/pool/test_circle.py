"""The circle as a process: what it does with checkpoints, and that a kill at any instant changes nothing of it."""

from __future__ import annotations

import random
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from circles import ALoop, a_loop, folder

from running import strike
from springtide.pool import circle_files, circle_opening
from springtide.pool.client import Client
from springtide.serve import promotion
from springtide.serve.loop.circle import Circle, Outcome
from springtide.serve.registry import Registry
from springtide.spec.errors import Refused, UserError
from springtide.spec.files import job_file

POISONED = 0.2


@pytest.fixture
def loop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ALoop]:
    monkeypatch.setenv("TIDE_HOME", str(home))
    with a_loop(home) as found:
        yield found


def settled(circle: Circle) -> bool:
    return circle.exam is None and circle.newest is None and circle.placed


@pytest.mark.slow
def test_a_good_candidate_is_promoted_and_a_worse_one_sends_training_back(loop: ALoop) -> None:
    assert not [row for row in loop.client.jobs(state="live") if row["name"] == "words-serve"]
    loop.feed(100)
    loop.train(step=10, good=0.9, offset=40)
    circle = loop.start()
    loop.until(lambda seen: seen.base is not None, "the first is promoted")
    assert loop.registry.version("words", "production").number == 1
    assert [row["name"] for row in loop.client.jobs(name="words-serve")] == ["words-serve"], "now it is served"
    loop.train(step=20, good=POISONED, offset=70)
    loop.until(lambda seen: seen.generation == 1 and seen.placed, "training is sent back")
    seen = loop.circle
    assert (
        seen.past[-1].outcome == Outcome.REFUSED
        and "accuracy is 0.2, worse than production's 0.9" in seen.past[-1].sentence
    )
    assert circle_files.checkpoint.find(loop.there.checkpoints(1))[0].manifest.step == 10  # type: ignore[union-attr]
    assert loop.there.quarantine(1).read_text() == '{"0": [[40, 70]]}\n'
    environment = loop.client.job("words-train")["job"]["environment"]
    assert environment["TIDE_LOOP_GENERATION"] == "1"
    circle_files.ask(loop.there, {"release": 1, "by": "ines"})
    loop.until(lambda seen: seen.quarantines[0].released, "what was quarantined is released")
    assert loop.trained_on() == [*range(100), *range(40, 70)]
    circle.send_signal(signal.SIGTERM)
    assert circle.wait(30) == 0


@pytest.mark.slow
def test_killed_at_any_instant_it_judges_promotes_and_quarantines_each_candidate_once(loop: ALoop) -> None:
    draw = random.Random(11)
    loop.feed(1000)
    offset, step, expected = 0, 0, []
    for number in range(4):
        bad = number == 2
        offset, step = offset + 100, loop.circle.examined_step + 10 if loop.circle.examined_step > 0 else step + 10
        loop.train(step, POISONED if bad else 0.8 + number / 100, offset, loop.circle.generation)
        expected.append(Outcome.REFUSED if bad else Outcome.PROMOTED)
        wanted = number + 1
        process = loop.start()
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.5, 6.0))
            strike(process.pid)
            process.wait()
            if len(loop.circle.past) == wanted and settled(loop.circle):
                break
            process = loop.start()
    circle = loop.circle
    assert [one.outcome for one in circle.past] == expected
    good = [one.version for one in circle.past if one.outcome == Outcome.PROMOTED]
    assert [change.number for change in loop.registry.changes("words") if change.action == "promote"] == good
    assert [len(loop.registry.verdicts("words", number)) for number in range(1, 5)] == [1] * 4
    assert [one.training for one in circle.quarantines] == [{0: ((200, 300),)}]


@pytest.mark.slow
def test_a_roll_back_by_hand_is_followed_by_the_training(loop: ALoop) -> None:
    loop.feed(100)
    loop.start()
    for number, step in enumerate((10, 20)):
        loop.train(step, good=0.8 + number / 10, offset=4 * step)
        loop.until(lambda seen, number=number: len(seen.bases) == number + 1, "it is promoted")  # type: ignore[misc]
    promotion.rollback(loop.registry, "words", by="ines")
    loop.until(lambda seen: seen.generation == 1 and seen.placed, "training follows")
    assert loop.circle.base is not None and loop.circle.base.version == 1
    assert loop.there.quarantine(1).read_text() == '{"0": [[40, 80]]}\n'


def test_a_dry_run_says_what_would_start_and_makes_nothing(loop: ALoop) -> None:
    text = (loop.folder / "loop.yaml").read_text().replace("name: words", "name: other").replace("18099", "18097")
    (loop.folder / "loop.yaml").write_text(text)
    found = circle_opening.submit(loop.client, [job_file(loop.folder / "loop.yaml")], dry_run=True)
    assert {one["name"] for one in found["forecasts"]} == {"other-train", "other-prepare", "other-circle"}
    assert not (loop.home / "loops" / "other").exists()
    assert not loop.client.jobs(name="other-train")


def test_submitting_again_changes_nothing_and_a_changed_file_reaches_the_circle(loop: ALoop) -> None:
    versions = {row["name"]: row["version"] for row in loop.client.jobs(state="live")}
    assert sorted(loop.submit()) == ["words-circle", "words-prepare", "words-train"]
    assert {row["name"]: row["version"] for row in loop.client.jobs(state="live")} == versions
    text = (loop.folder / "loop.yaml").read_text()
    (loop.folder / "loop.yaml").write_text(text.replace("margin: 1%", "margin: 2%"))
    loop.submit()
    after = {row["name"]: row["version"] for row in loop.client.jobs(state="live")}
    assert after["words-circle"] > versions["words-circle"]
    assert circle_files.read_loop(loop.there).gate.margin == 0.02


def test_a_loop_that_is_stopped_keeps_all_and_goes_on_when_it_is_submitted_again(loop: ALoop) -> None:
    loop.feed(10)
    assert sorted(circle_opening.end(loop.client, "words")) == ["words-circle", "words-prepare", "words-train"]
    assert circle_opening.end(loop.client, "nobody") == []
    loop.until(lambda seen: not loop.client.jobs(state="live"), "its jobs are over")
    loop.submit()
    assert loop.trained_on() == list(range(10))


FAULTS = {
    "build: good_model:build": ("build: good_model:biuld", 'build: .*has no biuld; did you mean "build"'),
    "{script: train.py}": ("{script: nothing.py}", "train.script: there is no file .*nothing.py"),
    "data: held.jsonl, ": ("", "gate: there is nothing to judge a first version by: no version of words is in prod"),
    "held.jsonl": ("empty.jsonl", "gate.data: .*empty.jsonl holds no records"),
    "bound: 0.5": ("scorer: nowhere:score", "gate.scorer: there is no module nowhere"),
    "serve:": ("prepare: good_model:record\nserve:", "prepare: .*has no record"),
    "serve": ("source: log:///proc/nothing\nserve", "source: .*"),
}


@pytest.mark.parametrize("wrong", FAULTS)
def test_what_a_loop_names_and_is_not_there_is_said_with_its_place(wrong: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "code")
    (path / "empty.jsonl").write_text("")
    right, said = FAULTS[wrong]
    text = (path / "loop.yaml").read_text()
    (path / "loop.yaml").write_text(text.replace(wrong, right, 1))
    file = job_file(path / "loop.yaml")
    (fault,) = circle_opening.faults(file, file.loops[0], Registry.open(tmp_path / "models"))
    place, sentence = fault.split(": ", 1)
    assert place.startswith(f"{path / 'loop.yaml'}:") and place.count(":") == 2
    assert re.match(said, sentence), sentence


def test_a_loop_belongs_into_the_pool_of_its_home(home: Path, tmp_path: Path) -> None:
    with Client(tmp_path / "elsewhere.sock") as client, pytest.raises(Refused, match="is not the pool of"):
        circle_opening.ground(client)


def test_bulk_stands_at_the_beginning_of_the_stream_once(loop: ALoop) -> None:
    (loop.folder / "bulk.jsonl").write_text('{"n": 0}\n{"n": 1}\n')
    named = (loop.folder / "loop.yaml").read_text().replace("name: words", "name: bulky").replace("18099", "18098")
    (loop.folder / "loop.yaml").write_text(f"{named}bulk: {{data: bulk.jsonl, passes: 2}}\n")
    loop.submit()
    loop.loop = job_file(loop.folder / "loop.yaml").loops[0]
    loop.submit()
    assert loop.trained_on() == [0, 1, 0, 1]


def test_a_folder_without_a_loop_is_no_loop(tmp_path: Path) -> None:
    from springtide.serve.loop.places import Places

    with pytest.raises(UserError, match=r"holds no loop; `tide submit loop.yaml` makes one"):
        circle_files.read_loop(Places(tmp_path))
