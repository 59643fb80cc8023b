"""A loop's file: what it says is read back, and what is wrong is said with file, line and field."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from springtide import spec
from springtide.spec import UserError
from springtide.spec.loop import Loop
from springtide.spec.loop_table import LOOP

EXAMPLE = Path(__file__).parents[2] / "examples" / "loop" / "loop.yaml"
SMALL = "kind: loop\nname: words\nbuild: model:build\ntrain: {script: train.py}\nserve: {port: 8080}\n"


def read(text: str, folder: Path | None = None) -> Loop:
    (loop,) = spec.job_file_from_text(text, "loop.yaml", folder).loops
    return loop


def wrong(text: str) -> str:
    with pytest.raises(UserError) as error:
        spec.job_file_from_text(text, "loop.yaml")
    return str(error.value)


def test_the_example_is_read_and_read_back() -> None:
    (loop,) = spec.job_file(EXAMPLE).loops
    assert spec.job_file_from_text(spec.to_yaml(loop)).loops == (loop,)
    assert (loop.name, loop.model_name, loop.job("train")) == ("words", "words", "words-train")
    assert loop.train.script == str(EXAMPLE.parent / "train.py")
    assert loop.folder == str(EXAMPLE.parent)


def test_what_is_not_said_has_a_meaning() -> None:
    loop = read(SMALL)
    assert (loop.gate.metric, loop.gate.count, loop.serve.priority, loop.train.every.seconds) == (
        "accuracy", 20, spec.Priority.PRODUCTION, 30.0,
    )  # fmt: skip
    assert spec.to_data(loop) == {
        "kind": "loop", "name": "words", "build": "model:build", "train": {"script": "train.py"},
        "serve": {"port": 8080},
    }  # fmt: skip


def test_the_configuration_keeps_numbers_words_and_lists() -> None:
    loop = read(SMALL + 'config: {classes: 5, rate: 0.5, on: true, as: "7", names: [a, {b: no}]}\n')
    assert loop.config == {"classes": 5, "rate": 0.5, "on": True, "as": "7", "names": ["a", {"b": "no"}]}
    assert read(spec.to_yaml(loop)) == loop


def test_the_schema_takes_what_is_read_and_explains_every_field() -> None:
    schema = spec.schema("loop")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(spec.to_data(spec.job_file(EXAMPLE).loops[0]), schema)
    assert all(field["description"].endswith((".", "?")) for field in schema["properties"].values())
    assert {one.name for one in LOOP.fields} == set(schema["properties"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gat: {margin: 1%}", 'loop.yaml:6:1: gat: there is no such field; did you mean "gate"?'),
        ("gate: {margn: 1%}", 'loop.yaml:6:8: gate.margn: there is no such field; did you mean "margin"?'),
        ("gate: {margin: 200}", 'loop.yaml:6:16: gate.margin: "200" is more than 100%'),
        (
            "source: kafka://broker",
            'loop.yaml:6:9: source: "kafka://broker" names no topic of a broker; write kafka://',
        ),
        ("source: log://here", 'source: "log://here" names no absolute path; write log:///here, with three strokes'),
        ("source: redis://x/y", 'source: "redis://x/y" is the address of no stream; write log:///'),
        (
            "prepare: sounds.py",
            'prepare: "sounds.py" names no function; it is said as module:function; write sounds:FUN',
        ),
        ("drift: {window: 0}", 'drift.window: "0" is too few records; the least is 1'),
        ("bulk: {passes: 2}", "bulk: data is missing, and it needs one"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(line: str, said: str) -> None:
    assert said in wrong(SMALL + line)


def test_what_is_missing_is_named() -> None:
    said = wrong("kind: loop\nname: words\ntrain: {workers: 1..4}\n")
    for field in ("build", "serve", "script"):
        assert f"{field} is missing, and it needs one" in said


def test_a_name_leaves_room_for_those_of_its_jobs() -> None:
    assert "is too long: its jobs are called" in wrong(SMALL.replace("words", "w" * 60))


def test_loops_and_jobs_may_stand_in_one_file_under_different_names() -> None:
    job = "---\nkind: batch\nname: night\ncommand: [true]\n"
    file = spec.job_file_from_text(SMALL + job, "all.yaml")
    assert ([job.name for job in file.jobs], [loop.name for loop in file.loops]) == (["night"], ["words"])
    with pytest.raises(UserError, match='"words" is the name of another job, in line 2'):
        spec.job_file_from_text(SMALL + job.replace("night", "words"), "all.yaml")


def test_who_takes_only_jobs_says_that_a_loop_is_none() -> None:
    with pytest.raises(UserError, match=r"loop.yaml:2:7: words is a loop, and only jobs belong here; `tide submit"):
        spec.jobs_from_text(SMALL, "loop.yaml")
