"""Every field that a file may hold, once: reader, writer and JSON Schema are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from springtide.spec import amounts, quantities
from springtide.spec.forms import TEXT, WRONG, Choice, Data, Either, Flat, Items, Named, Reading, Schema, Text
from springtide.spec.job import ONE_CORE, Bid, Checkpoint, Job, Kind, Load, Placement, Priority, Restart
from springtide.spec.patterns import PATTERNS
from springtide.spec.record import Field, Record, Rule
from springtide.spec.resources import UNLIMITED, Resources
from springtide.spec.sharing import Node, Pool, Team
from springtide.spec.tree import Mapping as MappingTree
from springtide.spec.tree import Scalar, Sequence, Tree


def _numeric(pattern: str = amounts.NUMBER, **more: Any) -> Schema:
    """A number, or a text of this pattern; the reader takes both for the same."""
    return {"type": ["number", "string"], "minimum": 0, "pattern": f"^(?:{pattern})$"} | more


def _whole(least: int = 1, **more: Any) -> Schema:
    return {"type": ["integer", "string"], "minimum": least, "pattern": r"^[0-9]+(?:\.0*)?(?:[eE]\+?[0-9]+)?$"} | more


def _unit(*units: str) -> str:
    return rf"{amounts.NUMBER}\s*(?:{'|'.join(units)})"


_TIME = {"type": "string", "pattern": r"^\s*[+]?[0-9.]+(?:[eE][-+]?[0-9]+)?\s*[A-Za-z]+\s*$"}  # all have a unit
_NAME = {"type": ["string", "integer", "boolean"], "minimum": 0, "maxLength": 63}
_URL = "://"

_name = Text(amounts.name, "digits-2", _NAME)
_word = Text(amounts.word, "text", TEXT)
_words = Text(amounts.words, '"text"', TEXT, none='"" for an empty text')
_path = Text(amounts.word, "train.py", TEXT, place=lambda text: True)
_path_or_url = Text(amounts.word, "data/train.csv", TEXT, place=lambda text: _URL not in text)
_stream = Text(amounts.stream, "log:///data/requests", {"type": "string", "pattern": r"^[a-z]+://\S+$"})
_interpreter = Text(amounts.word, "/opt/venv/bin/python", TEXT, place=lambda text: "/" in text)
_share = Text(partial(amounts.share, most=10.0), "10%", _numeric(_unit("%?")), amounts.number_text)
_money = Text(amounts.number, "0.02", _numeric(), amounts.number_text)
_positive = Text(amounts.positive, "50", _numeric(exclusiveMinimum=0), amounts.number_text)
_weight = Text(partial(amounts.positive, example="2"), "2", _numeric(exclusiveMinimum=0), amounts.number_text)
_duration = Text(quantities.duration, "30s", _TIME, amounts.seconds_text)
_interval = Text(quantities.interval, "30s or 200steps", _TIME, amounts.every_text)
_labels = Named(amounts.word, _words, "{zone: north}")
_any_of = Named(amounts.word, Items(_words, "[north, south]", single=True, least=1), "{zone: north}")

_BYTES_PER_SECOND = _numeric(rf"{_unit('[A-Za-z]+/s', '[A-Za-z]+ps')}|0(?:\.0*)?", maximum=0)  # only 0 needs no unit
_cores = Text(amounts.cores, "2, 0.5 or 500m", _numeric(_unit("m?")), amounts.number_text)
_memory = Text(amounts.memory, "2Gi", _numeric(_unit("[KkMmGgTt]?[Ii]?[Bb]?")), amounts.memory_text)
_gpus = Text(amounts.gpus, "1 or 0.5", _numeric(_unit("[m%]?")), amounts.number_text)
_rate = Text(amounts.rate, "200MB/s or 1Gbit/s", _BYTES_PER_SECOND, amounts.rate_text)

_RESOURCES = (
    Field("cpu", _cores, "Cores: 2, 0.5, or 500m for thousandths."),
    Field("memory", _memory, "Memory: 256Mi, 1.5Gi, 2GB, or bytes."),
    Field("gpu", _gpus, "GPUs; below 1 a share of one."),
    Field("disk", _rate, "Bandwidth of the disk: 200MB/s."),
    Field("network", _rate, "Bandwidth of the network: 1Gbit/s."),
)


def _resources(blank: Resources) -> Record:
    return Record(_RESOURCES, lambda values: blank, "{cpu: 1, memory: 1Gi}")


_bid = Record(
    (
        Field("per_core_hour", _money, "Money for a core and an hour."),
        Field("per_gpu_hour", _money, "Money for a GPU and an hour."),
    ),
    lambda values: Bid(),
    "{per_core_hour: 0.02, per_gpu_hour: 1.5}",
)

_checkpoint = Record(
    (
        Field("every", _interval, "How often: a duration or a number of steps, 30s or 200steps."),
        Field("keep", Text(amounts.count("checkpoints", 3), "3", _whole()), "How many are kept."),
        Field("folder", _path_or_url, "Where: a folder, relative to the file, or a URL."),
    ),
    lambda values: Checkpoint(),
    "{every: 30s}",
)

_placement = Record(
    (
        Field("require", _any_of, "Labels that a node must have; a list is any of these."),
        Field("prefer", _any_of, "Labels that a node had better have."),
        Field("arrange", Choice({"spread": "spread", "pack": "pack"}), "Over many nodes, or on few."),
    ),
    lambda values: Placement(),
    "{require: {zone: north}}",
)

_POLICIES = Choice({"never": "never", "on-failure": "on-failure", "always": "always"})
_restart = Record(
    (
        Field("policy", _POLICIES, "When a replica that ended is started anew.", needed=True),
        Field("limit", Text(amounts.count("restarts", 3, least=0), "3", _whole(0)), "How often at most."),
    ),
    lambda values: Restart(policy=values["policy"]),
    "{policy: on-failure, limit: 3}",
)
_restart_word = Choice({word: Restart(policy=policy) for word, policy in _POLICIES.words.items()})
_restart_form = Either(_restart_word, _restart, lambda restart: restart.limit is None)


class _Pattern:
    """A pattern by its name, or the factors of 24 or 168 hours."""

    example = f"{', '.join(PATTERNS)}, or a list of 24 or 168 numbers"
    _factors = Items(_money, "a list of 24 or 168 numbers")
    _names = Choice(PATTERNS)

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        if isinstance(tree, Scalar):
            return self._names.read(tree, name, reading)
        if isinstance(tree, Sequence) and len(tree.items) not in (24, 168):
            found = f"{len(tree.items)} numbers stand here"
            return reading.wrong(
                tree.place, name, f"{found}; write 24 for the hours of a day, or 168 for those of a week"
            )
        values = self._factors.read(tree, name, reading)
        if values is not WRONG and not any(values):
            return reading.wrong(tree.place, name, "every hour is 0; leave it out if nothing is known")
        return values

    def write(self, value: Any) -> Data:
        return next((name for name, factors in PATTERNS.items() if factors == value), None) or self._factors.write(
            value
        )

    def schema(self) -> Schema:
        lists = [self._factors.schema() | {"minItems": hours, "maxItems": hours} for hours in (24, 168)]
        return {"anyOf": [self._names.schema(), *lists]}


_use = Text(amounts.use, "70%", _numeric(_unit("%?"), exclusiveMinimum=0, maximum=1), amounts.number_text)
_load = Record(
    (
        Field("requests_per_second", _positive, "What one replica carries."),
        Field("cpu", _use, "Use of its cores at which one more replica is wanted."),
        Field("pattern", _Pattern(), "Load of each hour of the day, or of the week from Monday, against each other."),
        Field("headroom", _share, "Share of the wanted replicas that is kept beside them."),
        Field("window", _duration, "Over which load is averaged.", attribute="window_s"),
    ),
    lambda values: Load(),
    "{requests_per_second: 50}",
    one_of=("requests_per_second", "cpu"),
)

_TRAINING = frozenset({"training"})
_SERVICE = frozenset({"service"})
_STREAM = frozenset({"stream"})
_OTHERS = frozenset({"service", "stream", "batch"})
_ENDING = frozenset({"training", "batch"})

_kind = Choice({str(kind): kind for kind in Kind})
_priority = Choice({str(priority): priority for priority in reversed(Priority)})
_COUNTS = r"^\s*\+?[0-9]{1,12}(?:\s*(?::|\.\.)\s*\+?[0-9]{1,12})?\s*$"
_REPLICAS = {"type": ["integer", "string"], "minimum": 1, "pattern": _COUNTS}
_replicas = Text(amounts.replicas, "4, or 1..4", _REPLICAS, amounts.replicas_text)
_deadline = Text(amounts.deadline, "in 3h, or 2026-11-24T18:00", {"type": "string"}, amounts.deadline_text)
_work = Text(amounts.work, "2h or 4000steps", _TIME, amounts.work_text)
_microbatches = Text(amounts.count("microbatches", 8), "8", _whole())
_port = Text(amounts.port, "8080", _whole(maximum=65535))
_lag = Text(amounts.count("records", 1000), "1000", _whole())
_LISTEN = Choice({"handed": "handed", "own": "own"})
_secrets = Items(_name, "[db-password]", single=True)
_scratch = Text(amounts.memory, "10Gi", _numeric(_unit("[KkMmGgTt]?[Ii]?[Bb]?")), amounts.memory_text)
_command = Items(_words, "[python, work.py]", least=1)
_args = Items(_words, '["--steps", "400"]')
_data = Items(_path_or_url, "[data/train.csv]", single=True)

JOB = Record(
    (
        Field("kind", _kind, "What it is.", needed=True),
        Field("name", _name, "Its name, unique among the jobs that are not done.", needed=True),
        Field("team", _name, "Who pays."),
        Field("priority", _priority, "Its class: nobody preempts an equal or a better."),
        Field("replicas", _replicas, "How many, or between how many: 1..4."),
        Field("resources", _resources(ONE_CORE), "What one replica needs; one core where no cpu is named."),
        Field("script", _path, "The Python file to train with, relative to this file.", _TRAINING, _TRAINING),
        Field("command", _command, "The program and its words.", _OTHERS, _OTHERS, instead="model"),
        Field("model", _name, "The model that a service serves, where it has no command.", kinds=_SERVICE),
        Field("requests", _stream, "The stream that a model's requests and feedback are added to.", kinds=_SERVICE),
        Field("args", _args, "Words behind the script or the command, or for the model server."),
        Field("environment", Named(amounts.variable, _words, "{MODE: fast}"), "Environment variables."),
        Field("folder", _path, "Where it runs, relative to this file; else this file's folder."),
        Field("data", _data, "What it reads: files or folders, relative to this file, or URLs."),
        Field("checkpoint", _checkpoint, "When and where checkpoints are written.", kinds=_TRAINING),
        Field("deadline", _deadline, "When it should be done.", kinds=_ENDING),
        Field("bid", _bid, "What a spot job pays at most."),
        Field("placement", _placement, "On which nodes, and how arranged."),
        Field("labels", _labels, "Words of your own, to find it by."),
        Field("restart", _restart_form, "What happens when a replica ends by itself."),
        Field("python", _interpreter, "The interpreter for the script, or for a command that begins with python."),
        Field("image", _word, "A container image, where replicas are containers."),
        Field("microbatches", _microbatches, "Microbatches of a step, if known.", kinds=_TRAINING),
        Field("work", _work, "How long one replica alone would take, or how many steps, if known.", kinds=_ENDING),
        Field("port", _port, "The port that all its replicas share.", kinds=_SERVICE),
        Field("listen", _LISTEN, "Whether the pool hands the socket over, or each replica binds.", kinds=_SERVICE),
        Field("load", _load, "What one replica carries, and what is expected.", kinds=_SERVICE),
        Field("lag", _lag, "Records that one replica may be behind before one more is wanted.", kinds=_STREAM),
        Field("secrets", _secrets, "Names of the team's secrets: files in $TIDE_SECRETS."),
        Field("scratch", _scratch, "What a replica may keep in $TIDE_SCRATCH: 10Gi."),
        Field("grace", _duration, "Between being told to end and being made to.", attribute="grace_s"),
    ),
    lambda values: Job(kind=values["kind"], name=values["name"]),
    "kind: training, and the other fields below it",
    rules=(
        Rule("model", "port", "a model is asked at a port, and none is said; write port: 8080"),
        Rule("requests", "model", "only requests to a model are kept, and none is said; write model: NAME"),
        Rule("bid", "priority", "only spot jobs bid; write priority: spot, or remove the bid", value="spot"),
        Rule("load.requests_per_second", "port", "requests arrive at a port, and none is said; write port: 8080"),
    ),
)


class _TeamForm:
    """A team and those that stand in it: several of them. One that stands in another names no parent."""

    example = "{name: vision, weight: 2}"

    def __init__(self, nested: bool):
        self._nested = nested

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        values = (NESTED_TEAM if self._nested else TEAM).values(tree, name, reading)
        if values is None:
            return WRONG
        under: tuple[Team, ...] = values.pop("teams", ())
        team: Team = TEAM.made(values)
        _note(tree, ("team", team.name), name, reading)
        return (team, *(replace(one, parent=team.name) if one.parent is None else one for one in under))

    def write(self, value: Any) -> Data:
        return TEAM.write(value)

    def schema(self) -> Schema:
        return {"$ref": "#/$defs/nested_team" if self._nested else "#/$defs/team"}


class _NodeForm:
    """A node, or `count` nodes alike."""

    example = "{name: big, count: 4, resources: {cpu: 16, gpu: 4}}"

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        values = NODE.values(tree, name, reading)
        if values is None:
            return WRONG
        count = values.pop("count", None)
        node: Node = NODE.made(values)
        nodes = (node,) if count is None else tuple(replace(node, name=f"{node.name}-{n}") for n in range(count))
        for one in nodes:
            _note(tree, ("node", one.name), name, reading)
        return nodes

    def write(self, value: Any) -> Data:
        return NODE.write(value)

    def schema(self) -> Schema:
        return NODE.schema()


def _note(tree: Tree, thing: tuple[str, str], name: str, reading: Reading) -> None:
    """Remembers where something with a name of its own stands; no two may have one name."""
    keys = tree.entries if isinstance(tree, MappingTree) else ()
    place = next((item.place for key, item in keys if isinstance(key, Scalar) and key.text == "name"), tree.place)
    if (first := reading.places.setdefault(thing, place)) != place:
        taken = f'"{thing[1]}" is the name of another {thing[0]}, in line {first.line}'
        reading.twice.append((place, f"{reading.at(place, name)}.name: {taken}"))


_ANY_NODE = replace(UNLIMITED, gpu=0.0)
_node_count = Text(amounts.count("nodes", 4, most=100_000), "4", _whole())

NODE = Record(
    (
        Field("name", _name, "Its name; with a count, the beginning of the names: big-0, big-1.", needed=True),
        Field("count", _node_count, "How many nodes of this kind there are."),
        Field(
            "resources", _resources(_ANY_NODE), "What it has; no limit to what is not named, but no GPU.", needed=True
        ),
        Field("labels", _labels, "What placement wishes ask for."),
        Field("gpu_model", _word, "The model of its GPUs; also a label."),
    ),
    lambda values: Node(name=values["name"], resources=values["resources"]),
    "{name: big, resources: {cpu: 16, memory: 64Gi, gpu: 4}}",
)

_PARENT = Field("parent", _name, "The team that it belongs to.")
_TEAM_FIELDS = (
    Field("name", _name, "Its name.", needed=True),
    Field("guarantee", _resources(Resources()), "What it gets back whenever it wants; none of what is not named."),
    Field("weight", _weight, "Its share in what nobody is guaranteed, against its neighbours' weights."),
    Field("borrow", _resources(UNLIMITED), "The most beyond its guarantee; no limit to what is not named."),
    Field("budget", _money, "Money for its spot jobs."),
    Field("teams", Flat(_TeamForm(nested=True), "[{name: speech}]"), "The teams that belong to it."),
)


def _team(*fields: Field) -> Record:
    return Record(fields, lambda values: Team(name=values["name"]), "{name: vision, weight: 2}")


TEAM = _team(*_TEAM_FIELDS[:1], _PARENT, *_TEAM_FIELDS[1:])
NESTED_TEAM = _team(*_TEAM_FIELDS)

_nodes = Flat(_NodeForm(), "[{name: big, count: 4, resources: {cpu: 16}}]")
_teams = Flat(_TeamForm(nested=False), "[{name: vision, weight: 2}]")
POOL = Record(
    (
        Field("nodes", _nodes, "The machines."),
        Field("teams", _teams, "Who shares them; the team default is always there."),
        Field("floor", _bid, "What a core and a GPU cost a spot job at least, per hour."),
        Field("headroom", _share, "Share of a service's wanted replicas kept beside them, where it does not say so."),
        Field(
            "window",
            _duration,
            "Over which a service's load is averaged, where it does not say so.",
            attribute="window_s",
        ),
        Field(
            "scale_down",
            _duration,
            "How long a service's load must have been low before a replica is taken from it.",
            attribute="scale_down_s",
        ),
        Field(
            "tick",
            _duration,
            "For how long a price of the spot market holds, and what spot jobs pay for at a time.",
            attribute="tick_s",
        ),
    ),
    lambda values: Pool(),
    "nodes: and teams: with what belongs to them",
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILES: Mapping[str, tuple[str, Record]] = {"jobs": ("A job of Springtide", JOB), "pool": ("A pool of Springtide", POOL)}


def schema(kind: str = "jobs") -> Schema:
    """JSON Schema (draft 2020-12) of one document of a file of jobs, of a pool's file, or of a loop's."""
    title, record = FILES[kind] if kind in FILES else _loop()
    said = {"$schema": _DIALECT, "title": title} | record.schema()
    teams = {"team": TEAM.schema(), "nested_team": NESTED_TEAM.schema()}
    return said | {"$defs": teams} if kind == "pool" else said


def _loop() -> tuple[str, Record]:
    from springtide.spec.loop_table import LOOP  # made of the forms of this table

    return "A loop of Springtide", LOOP
