"""What a job's file may say, how it is read, and what is said about one that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide import spec
from springtide.spec import Deadline, Every, Job, Kind, Load, Priority, Range, Resources, Restart, UserError, Work

BATCH = "kind: batch\nname: a\ncommand: [x]\n"
TRAINING = "kind: training\nname: a\nscript: train.py\n"
SERVICE = "kind: service\nname: a\ncommand: [x]\nport: 80\n"

THE_SHAPE = """\
kind: training
name: digits
team: vision
priority: experiment
replicas: 1..4
resources: {cpu: 1, memory: 1Gi}
script: train.py            # or command: [...], for the other kinds
args: ["--steps", "400"]
checkpoint: {every: 30s}
---
kind: service
name: web
priority: production
replicas: 1..3
resources: {cpu: 1, memory: 256Mi}
command: [python, server.py]
port: 18080
load: {requests_per_second: 50}   # what one replica carries; or cpu: 70%
"""


def one(text: str) -> Job:
    (job,) = spec.jobs_from_text(text, "f.yaml")
    return job


def told(text: str) -> str:
    with pytest.raises(UserError) as error:
        spec.jobs_from_text(text, "f.yaml")
    return str(error.value)


def test_the_shape_of_a_job_file(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(THE_SHAPE)
    digits, web = spec.jobs(tmp_path / "jobs.yaml")
    assert digits == Job(
        kind=Kind.TRAINING,
        name="digits",
        team="vision",
        priority=Priority.EXPERIMENT,
        replicas=Range(1, 4),
        resources=Resources(cpu=1, memory=2**30),
        script=str(tmp_path / "train.py"),
        args=("--steps", "400"),
        checkpoint=spec.Checkpoint(every=Every(seconds=30)),
        folder=str(tmp_path),
    )
    assert (web.port, web.load, web.priority) == (18080, Load(requests_per_second=50), Priority.PRODUCTION)
    assert (web.team, web.restart) == ("default", Restart(policy="always"))


def test_paths_begin_at_the_file_and_addresses_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TRAINING + "folder: sub\ndata: [x.csv, s3://b/k, /abs]\npython: python3.12\n")
    (job,) = spec.jobs(tmp_path / "a.yaml")
    assert job.folder == str(tmp_path / "sub")
    assert job.data == (str(tmp_path / "x.csv"), "s3://b/k", "/abs")
    assert job.python == "python3.12"


@pytest.mark.parametrize(
    ("line", "resources"),
    [
        ("cpu: 500m", Resources(cpu=0.5)),
        ("cpu: 1.5", Resources(cpu=1.5)),
        ("cpu: 1e1", Resources(cpu=10)),
        ("memory: 2Gi", Resources(cpu=1, memory=2**31)),
        ("memory: 1.5GB", Resources(cpu=1, memory=1.5e9)),
        ("memory: 4096", Resources(cpu=1, memory=4096)),
        ("gpu: 0.5", Resources(cpu=1, gpu=0.5)),
        ("gpu: 50%", Resources(cpu=1, gpu=0.5)),
        ("disk: 200MB/s", Resources(cpu=1, disk=2e8)),
        ("network: 1Gbit/s", Resources(cpu=1, network=1.25e8)),
        ("network: 10 Gbps", Resources(cpu=1, network=1.25e9)),
        ("network: 1GiB/s", Resources(cpu=1, network=2**30)),
    ],
)
def test_quantities_are_read_as_people_write_them(line: str, resources: Resources) -> None:
    assert one(BATCH + f"resources: {{{line}}}").resources == resources


@pytest.mark.parametrize("text", ["1:4", "1..4", "'1:4'", "01..04", "1 .. 4"])
def test_a_range_is_no_clock(text: str) -> None:
    assert one(BATCH + f"replicas: {text}").replicas == Range(1, 4)


@pytest.mark.parametrize("word", ["yes", "no", "on", "1:30", "1e3", "010", "0x1F", "2026-11-24", "1_000", ".5", "true"])
def test_what_yaml_would_guess_at_stays_text(word: str) -> None:
    job = one(BATCH.replace("[x]", f"[x, {word}]") + f"environment: {{X: {word}}}\n")
    assert (job.command[1], job.environment["X"]) == (word, word)


def test_norway_may_have_a_team() -> None:
    assert one(BATCH + "team: no").team == "no"


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        ("in 3h", Deadline(within_s=10800)),
        ("90m", Deadline(within_s=5400)),
        ("2026-11-24T18:00Z", Deadline(at_s=datetime(2026, 11, 24, 18, tzinfo=UTC).timestamp())),
        ("2026-11-24 18:00+02:00", Deadline(at_s=datetime(2026, 11, 24, 16, tzinfo=UTC).timestamp())),
    ],
)
def test_a_deadline_is_a_time_or_a_duration(text: str, deadline: Deadline) -> None:
    assert one(BATCH + f"deadline: {text}").deadline == deadline


def test_a_deadline_in_a_while_counts_from_submission() -> None:
    assert Deadline(within_s=60).at(1000) == 1060
    assert Deadline(at_s=5).at(1000) == 5


def test_known_work_is_time_or_steps() -> None:
    assert one(BATCH + "work: 2h").work == Work(seconds=7200)
    assert one(BATCH + "work: 4000 steps").work == Work(steps=4000)


def test_a_pattern_is_a_name_or_hours() -> None:
    hours = [n % 7 + 1 for n in range(168)]
    assert one(SERVICE + f"load: {{cpu: 70%, pattern: {hours}}}").load == Load(
        cpu=0.7, pattern=tuple(map(float, hours))
    )
    named = one(SERVICE + "load: {cpu: 0.7, pattern: office}").load
    assert named and len(named.pattern) == 24 and max(named.pattern) == 1


def test_restart_is_a_word_or_says_how_often() -> None:
    assert one(BATCH + "restart: never").restart == Restart(policy="never")
    assert one(BATCH + "restart: {policy: always, limit: 0}").restart == Restart(policy="always", limit=0)


def test_an_alias_and_a_merge_save_typing() -> None:
    job = one(BATCH + "environment: &e {A: 1, B: 2}\nlabels: {<<: *e, B: 3}\n")
    assert job.labels == {"A": "1", "B": "3"}


def test_json_is_read_too() -> None:
    job = one('{"kind": "batch", "name": "a", "command": ["\\ud83d\\ude00", "\\\\ud83d"]}')
    assert job.command == ("😀", "\\ud83d")


def test_every_fault_of_a_file_is_said_at_once_in_order_with_its_place() -> None:
    text = (
        THE_SHAPE.replace("priority: exp", "priorty: exp").replace("1..3", "3..1").replace("18080", "80800")
        + "---\na: [b"
    )
    lines = told(text).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["f.yaml:4:1", "f.yaml:14:11", "f.yaml:17:7", "f.yaml:21:1"]
    assert lines[0] == 'f.yaml:4:1: priorty: there is no such field; did you mean "priority"?'
    assert lines[1] == 'f.yaml:14:11: replicas: "3..1" counts down; write 1..3'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BATCH + "cmd: [x]", 'cmd: there is no such field; did you mean "command"?'),
        (BATCH + "xyzzy: 1", "f.yaml:4:1: xyzzy: there is no such field; write one of kind, name, team"),
        (BATCH + "resources: {cpus: 1}", 'resources.cpus: there is no such field; did you mean "cpu"?'),
        (BATCH + "resources: {cpu: -1}", 'resources.cpu: "-1" is negative; write 2'),
        (BATCH + "resources: {cpu: many}", 'resources.cpu: "many" is no number; write 2'),
        (BATCH + "resources: {cpu: .nan}", '".nan" is no number'),
        (BATCH + "resources: {cpu: 1e999}", '"1e999" is too large'),
        (BATCH + "resources: {cpu: 1GHz}", 'not measured in "GHz"'),
        (BATCH + "resources: {memory: 1Gj}", '"1Gj" is no amount of memory'),
        (BATCH + "resources: {gpu: 1.5}", "neither a whole number nor a share of one GPU; write 2"),
        (BATCH + "resources: {disk: 200}", "does not say per second; write 200MB/s"),
        (BATCH + "resources: {network: 1Gb/s}", "may be bits or bytes; write 1Gbit/s or 1GB/s"),
        (BATCH + "resources: 4", 'f.yaml:4:12: resources: "4" stands here; write {cpu: 1, memory: 1Gi}'),
        (BATCH + "replicas: 0", "the least is one: write 1"),
        (BATCH + "replicas: [1, 4]", "replicas: a list stands here; write 4, or 1..4"),
        (BATCH + "replicas:", "replicas: nothing is said; write 4, or 1..4"),
        (BATCH + "priority: Production", 'did you mean "production"?'),
        (BATCH + "team: null", "nothing is said; write digits-2, or put quotes around the word"),
        (BATCH + "name: b", "f.yaml:4:1: name: this stands twice, first in line 2"),
        (BATCH + "port: 80", "port: a batch job has none, only service; remove it"),
        (BATCH + "script: x.py", "only training; write command: [python, FILE]"),
        (BATCH + "deadline: 2026-11-24", "has no time of day; write 2026-11-24T18:00"),
        (BATCH + "deadline: 2026-13-24T10:00", "is no time; write 2026-11-24T18:00"),
        (BATCH + "deadline: 1:30", '"1:30" is no duration'),
        (BATCH + "work: 0s", "is not more than nothing"),
        (BATCH + "bid: {per_core_hour: 1}", "f.yaml:4:1: bid: only spot jobs bid; write priority: spot"),
        (BATCH + "environment: {A-B: 1}", '"A-B" is no name of a variable'),
        (BATCH + "environment: [A=1]", "environment: a list stands here; write {MODE: fast}"),
        (BATCH.replace("[x]", "[]"), "the list is empty; write [python, work.py]"),
        (BATCH.replace("[x]", "python w.py"), "where a list belongs; write [python, w.py]"),
        (BATCH.replace("name: a", "name: My Job"), "write my-job"),
        (BATCH.replace("name: a\n", ""), "f.yaml:1:1: name is missing, and it needs one; write name: digits-2"),
        (BATCH.replace("kind: batch\n", ""), "f.yaml:1:1: kind is missing"),
        (BATCH.replace("command: [x]\n", ""), "command is missing, and a batch job needs one"),
        (TRAINING.replace("script: train.py\n", ""), "script is missing, and a training job needs one; write script:"),
        (TRAINING + "checkpoint: {every: 30}", "has no unit; write 30s or 30steps"),
        (TRAINING + "microbatches: 2.5", "no whole number of microbatches; write 8"),
        (SERVICE + "lag: 1000", "a service job has none, only stream"),
        (BATCH.replace("kind: batch", "kind: stream") + "lag: 0", "too few records; the least is 1"),
        (SERVICE + "load: {}", "exactly one of requests_per_second and cpu belongs here"),
        (SERVICE + "load: {cpu: 70%, requests_per_second: 5}", "exactly one of"),
        (SERVICE + "load: {cpu: 70}", '"70" is more than 100%; write 70% if you meant hundredths'),
        (SERVICE + "load: {cpu: 70%, pattern: [1, 2]}", "2 numbers stand here; write 24"),
        (SERVICE + "load: {cpu: 70%, pattern: ofice}", 'did you mean "office"?'),
        (SERVICE.replace("port: 80\n", "load: {requests_per_second: 5}"), "none is said; write port: 8080"),
        (SERVICE.replace("80", "70000"), "is no port; write one from 1 to 65535"),
        (BATCH + "---\n" + BATCH, 'f.yaml:6:7: name: "a" is the name of another job, in line 2'),
        ("", "f.yaml: there is no job in it"),
        ("# nothing\n---\n", "f.yaml: there is no job in it"),
        ("- a\n", "f.yaml:1:1: a list stands here; write kind: training"),
        ("just words", 'f.yaml:1:1: "just words" stands here'),
        ("kind: batch\n\tname: a", "f.yaml:2:1: a tab stands here; indent with spaces"),
        ("name: @x", "f.yaml:1:7: nothing may begin with @; put quotes"),
        ("name: a: b", "f.yaml:1:8: a second colon stands here; put quotes"),
        ("name: 'a", "a quote or a bracket is opened and never closed"),
        ("name: *x", "*x names nothing that stands complete before it"),
        ("args: &x [*x]", "*x names nothing that stands complete before it"),
        ("name: !!python/object:os.system x", 'types are not written here; remove "!!python/object:os.system"'),
        ("name: a\x01b", "f.yaml:1:8: the character U+0001 cannot be written like this"),
        ("[" * 200, "this lies in more than 40 lists and mappings"),
    ],
)
def test_a_fault_is_said_in_one_sentence_with_what_would_be_right(text: str, sentence: str) -> None:
    said = told(text)
    assert sentence in said
    assert said.startswith("f.yaml")


def test_a_few_lines_of_aliases_cannot_stand_for_billions_of_values() -> None:
    levels = [f"a{n}: &a{n} {{{', '.join([f'<<: *a{n - 1}'] * 9)}}}\n" for n in range(1, 12)]
    assert "stand for too much" in told("a0: &a0 {x: y}\n" + "".join(levels) + "labels: *a11\n")


def test_a_file_with_more_faults_than_anybody_reads_is_cut() -> None:
    lines = told("".join(f"x{n}: 1\n" for n in range(200))).splitlines()
    assert len(lines) == 51 and lines[-1] == "f.yaml: and 152 more"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, sentence in (
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "this is a folder"),
        (tmp_path / "latin.yaml", "latin.yaml:2: byte 0xe9 is no UTF-8"),
    ):
        (tmp_path / "latin.yaml").write_bytes(b"kind: batch\nname: caf\xe9\n")
        with pytest.raises(UserError, match=sentence):
            spec.jobs(path)


@given(st.text(st.sampled_from(list("ab:- \n[]{}&*!|>'\"#,?<1.%@\t")), max_size=40))
def test_no_text_is_answered_with_a_traceback(text: str) -> None:
    with pytest.raises(UserError):
        spec.jobs_from_text(text)


def test_the_place_of_a_field_is_known_afterwards() -> None:
    file = spec.job_file_from_text(THE_SHAPE, "f.yaml")
    assert file.place("digits", "team") == "f.yaml:3:7"
    assert file.place("web", "team") == "f.yaml:12:7"
