"""Every field of a loop's file, once; see `table`. What a job has as well is read by the job's own form."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from springtide.spec import amounts
from springtide.spec.errors import UserError
from springtide.spec.forms import TEXT, WRONG, Choice, Data, Form, Items, Reading, Schema, Text, entries
from springtide.spec.loop import Bulk, Drift, Gate, Loop, Serving, Training
from springtide.spec.record import Field, Record
from springtide.spec.table import JOB
from springtide.spec.tree import Mapping as MappingTree
from springtide.spec.tree import Scalar, Sequence, Tree

_IMPORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*")
_LONGEST = 63 - len("-prepare")  # its jobs are called by its name and what they do
_of_a_job = {one.name: one.form for one in JOB.fields}


def importable(text: str, where: str) -> str:
    """`module:function`, as it can be imported from the file's folder."""
    if not _IMPORT.fullmatch(text):
        hint = f"; write {text.removesuffix('.py').replace('/', '.')}:FUNCTION" if ":" not in text else ""
        raise UserError(f'{where}: "{text}" names no function; it is said as module:function{hint or ", model:build"}')
    return text


def stream_address(text: str, where: str) -> str:
    """`log:///path` or `kafka://host:port/topic`."""
    kind, rest, place = text.partition("://")
    right = "write log:///var/lib/requests, or kafka://host:9092/topic"
    if not rest or kind not in ("log", "kafka"):
        raise UserError(f'{where}: "{text}" is the address of no stream; {right}')
    if kind == "log" and not place.startswith("/"):
        raise UserError(f'{where}: "{text}" names no absolute path; write log:///{place}, with three strokes')
    if kind == "kafka" and not re.fullmatch(r"[^/]+/[^/]+", place):
        raise UserError(f'{where}: "{text}" names no topic of a broker; write kafka://host:9092/topic')
    return text


def _loop_name(text: str, where: str) -> str:
    found = amounts.name(text, where)
    if len(found) > _LONGEST:
        raise UserError(f'{where}: "{text}" is too long: its jobs are called {found[:12]}...-prepare; {_LONGEST} fit')
    return found


class _Plain:
    """What the model's own function is to be given: numbers, words, lists and mappings of them."""

    example = "{classes: 5}"

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        reading.visit(tree)
        match tree:
            case MappingTree():
                found = {
                    key.text: self.read(item, f"{name}.{key.text}", reading)
                    for key, item in entries(tree, name, reading)
                }
                return WRONG if any(value is WRONG for value in found.values()) else found
            case Sequence():
                items = [self.read(item, name, reading) for item in tree.items]
                return WRONG if any(value is WRONG for value in items) else items
            case Scalar():
                return _plain(tree)

    def write(self, value: Any) -> Data:
        return value

    def schema(self) -> Schema:
        return {}


def _plain(tree: Scalar) -> Any:
    if tree.nothing:
        return None
    if tree.quoted:
        return tree.text
    for convert in (int, float):
        try:
            return convert(tree.text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(tree.text, tree.text)


def _number(reader: Any, example: str) -> Text:
    return Text(reader, example, {"type": ["number", "string"], "minimum": 0}, amounts.number_text)


def _count(noun: str, example: int, most: int = 10**9) -> Text:
    said = {"type": ["integer", "string"], "minimum": 1}
    return Text(amounts.count(noun, example, most=most), str(example), said)


def _child(form: str, name: str) -> Form:
    record = _of_a_job[form]
    assert isinstance(record, Record)
    return next(one.form for one in record.fields if one.name == name)


_import = Text(importable, "model:build", {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"})
_stream = Text(stream_address, "log:///var/lib/requests", {"type": "string", "pattern": "^(log:///.+|kafka://.+/.+)$"})
_share = _number(amounts.share, "1%")
_any_number = _number(amounts.number, "0.8")
_positive = _number(partial(amounts.positive, example="0.25"), "0.25")
_time: Form = _of_a_job["grace"]
_word = Text(amounts.word, "accuracy", TEXT)
_path: Form = _of_a_job["folder"]
_config = _Plain()

_bulk = Record(
    (
        Field("data", _path, "A JSONL file of records as training sees them, relative to this file.", needed=True),
        Field("passes", _count("passes", 3, 10_000), "How often it is gone through."),
    ),
    lambda values: Bulk(data=values["data"]),
    "{data: bulk.jsonl}",
)

_training = Record(
    (
        Field("script", _of_a_job["script"], "The Python file to train with, over data.stream(...).", needed=True),
        Field("args", _of_a_job["args"], "Words behind the script."),
        Field("environment", _of_a_job["environment"], "Environment variables."),
        Field("workers", _of_a_job["replicas"], "Between how many workers: 1..4."),
        Field("resources", _of_a_job["resources"], "What one worker needs."),
        Field("priority", _of_a_job["priority"], "Its class; experiment where none is said."),
        Field("every", _child("checkpoint", "every"), "How often a checkpoint is written: 30s or 200steps."),
        Field("keep", _child("checkpoint", "keep"), "How many checkpoints are kept."),
        Field("microbatches", _of_a_job["microbatches"], "Microbatches of a step, if known."),
    ),
    lambda values: Training(script=values["script"]),
    "{script: train.py, workers: 1..4}",
)

_gate = Record(
    (
        Field("data", _path, "A JSONL file of records that are always held out, relative to this file."),
        Field("scorer", _import, "module:function that scores a module on records; else its own evaluate."),
        Field("metric", _word, "The metric that is held against production's."),
        Field("better", Choice({"higher": "higher", "lower": "lower"}), "Which values of it are better."),
        Field("margin", _share, "By how much it may be worse than production's."),
        Field("bound", _any_number, "What it must reach, also where nothing is in production."),
        Field("count", _count("records", 20), "On how many records it is measured at least."),
        Field("slices", Items(_word, "[english]", single=True), 'Parts on which it must not be worse; "*": all.'),
        Field("slice_margin", _share, "By how much it may be worse on one of them; else the margin."),
        Field("slice_count", _count("records", 5), "On how many records of a part it is measured at least."),
        Field("recent", _count("records", 1000, 10**6), "How many of the latest held-out records are judged on."),
        Field("every", _time, "How far apart two examinations are at least.", attribute="every_s"),
        Field("resources", _of_a_job["resources"], "What the process that watches and judges needs."),
        Field("timeout", _time, "How long one examination may take.", attribute="timeout_s"),
    ),
    lambda values: Gate(),
    "{bound: 0.8, margin: 1%}",
)

_serving = Record(
    (
        Field("port", _of_a_job["port"], "The port that the model server's replicas share.", needed=True),
        Field("replicas", _of_a_job["replicas"], "How many, or between how many: 1..4."),
        Field("resources", _of_a_job["resources"], "What one replica needs."),
        Field("priority", _of_a_job["priority"], "Its class; production where none is said."),
        Field("load", _of_a_job["load"], "What one replica carries, and what is expected."),
        Field("sample", _share, "Share of the answered requests that are kept in the stream."),
    ),
    lambda values: Serving(port=values["port"]),
    "{port: 8080}",
)

_drift = Record(
    (
        Field("window", _count("records", 1000, 10**6), "How many of the latest requests are looked at together."),
        Field("inputs", _positive, "Population stability index of a field from which it counts as drifted."),
        Field("accuracy", _share, "By how much the share of right answers may fall."),
        Field("answer", _word, "The field of an output that is held against the correction."),
    ),
    lambda values: Drift(),
    "{window: 1000}",
)

LOOP = Record(
    (
        Field("kind", Choice({"loop": "loop"}), "That it is a loop.", needed=True),
        Field("name", Text(_loop_name, "words", {"type": "string", "maxLength": _LONGEST}), "Its name.", needed=True),
        Field("team", _of_a_job["team"], "Who pays."),
        Field("model", _of_a_job["name"], "The name of its model in the registry; else the loop's name."),
        Field("build", _import, "module:function that makes the module.", needed=True),
        Field("config", _config, "What that function is given by name."),
        Field("source", _stream, "The stream of requests and feedback; else a log in the loop's own folder."),
        Field("bulk", _bulk, "What is trained on before anybody corrects anything."),
        Field("prepare", _import, "module:function: a request with its correction in, what training sees out."),
        Field("train", _training, "How the model is trained.", needed=True),
        Field("gate", _gate, "What a candidate must show before it serves."),
        Field("serve", _serving, "How the model is served.", needed=True),
        Field("drift", _drift, "When inputs and accuracy count as drifted."),
        Field("folder", _path, "Where its code lies, relative to this file; else this file's folder."),
        Field("python", _of_a_job["python"], "The interpreter; else the one that runs Springtide."),
    ),
    lambda values: Loop(name=values["name"], build=values["build"], train=values["train"], serve=values["serve"]),
    "kind: loop, and the other fields below it",
)
