"""The schema for editors says what the reader says: one table makes both."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import some_jobs
import yaml
from hypothesis import given
from hypothesis import strategies as st

from springtide import spec
from springtide.spec import Job, Pool, UserError

EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs"
JOBS = jsonschema.Draft202012Validator(spec.schema("jobs"))
POOL = jsonschema.Draft202012Validator(spec.schema("pool"))
STRANGE: list[Any] = [{}, [], {"x": 1}, [[]], [{}], None, 0, "", "yes", "?", "1..4", -1, 1.5, True, 10**6]


@pytest.mark.parametrize("kind", ["jobs", "pool"])
def test_the_schema_is_valid(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(spec.schema(kind))


@pytest.mark.parametrize("kind", ["jobs", "pool"])
def test_the_schema_explains_every_field(kind: str) -> None:
    fields = spec.schema(kind)["properties"]
    assert all(field["description"].endswith(".") for field in fields.values())


@given(some_jobs.jobs())
def test_the_schema_takes_every_job_that_can_be_written(job: Job) -> None:
    JOBS.validate(spec.to_data(job))


@given(some_jobs.pools())
def test_the_schema_takes_every_pool_that_can_be_written(pool: Pool) -> None:
    POOL.validate(spec.to_data(pool))


def places(data: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside the data, as keys to follow."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [*([way] if way else []), *(found for key, item in inner for found in places(item, (*way, key)))]


def changed(data: Any, draw: Any) -> Any:
    """The data with one thing removed, renamed, added, or put in another's shape."""
    data = copy.deepcopy(data)
    *way, last = draw(st.sampled_from(places(data)))
    inside = data
    for key in way:
        inside = inside[key]
    what = draw(st.sampled_from(["remove", "rename", "shape", "kind"]))
    if what == "remove":
        del inside[last]
    elif what == "rename" and isinstance(inside, dict):
        inside[draw(st.sampled_from(["priorty", "zzz", "port", "load", "bid", "script", "command"]))] = inside.pop(last)
    elif what == "kind" and "kind" in data:
        data["kind"] = draw(st.sampled_from(["training", "service", "stream", "batch", "other"]))
    else:
        inside[last] = draw(st.sampled_from(STRANGE[:6]))
    return data


def taken(read: Any, data: Any) -> bool:
    try:
        read(yaml.safe_dump(data))
    except UserError:
        return False
    return True


@given(some_jobs.jobs(), st.data())
def test_of_shapes_the_schema_takes_what_the_reader_takes(job: Job, data: st.DataObject) -> None:
    twisted = changed(spec.to_data(job), data.draw)
    assert JOBS.is_valid(twisted) == taken(spec.jobs_from_text, twisted), yaml.safe_dump(twisted)


@given(some_jobs.jobs(), st.data())
def test_what_the_reader_takes_the_schema_takes(job: Job, data: st.DataObject) -> None:
    said = spec.to_data(job)
    *way, last = data.draw(st.sampled_from(places(said)))
    inside = said
    for key in way:
        inside = inside[key]
    inside[last] = data.draw(st.sampled_from(STRANGE))
    if taken(spec.jobs_from_text, said):
        JOBS.validate(said)


@pytest.mark.parametrize(
    "line",
    ["cpu: 500m", "cpu: 1e1", "memory: 1.5GiB", "gpu: 50%", "disk: 200 MB/s", "network: 1Gbps", "disk: 0"],
)
def test_the_schema_takes_quantities_in_every_notation(line: str) -> None:
    text = f"kind: batch\nname: a\ncommand: [x]\nresources: {{{line}}}\n"
    spec.jobs_from_text(text)
    JOBS.validate(yaml.safe_load(text))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_schema_takes_the_examples(path: Path) -> None:
    validator = POOL if path.name == "pool.yaml" else JOBS
    for document in yaml.safe_load_all(path.read_text()):
        validator.validate(json.loads(json.dumps(document)))
