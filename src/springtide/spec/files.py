"""Files in, objects out, and back. What is wrong with a file is said all at once, a line for each fault."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from springtide.spec.checks import Problem, problems
from springtide.spec.errors import UserError
from springtide.spec.forms import WRONG, Reading
from springtide.spec.job import Job
from springtide.spec.loop import Loop
from springtide.spec.record import Record
from springtide.spec.sharing import Pool, Team
from springtide.spec.table import JOB, POOL
from springtide.spec.tree import MOST_BYTES, Malformed, Place, Scalar, Tree, documents
from springtide.spec.tree import Mapping as MappingTree

_MOST_SAID = 50  # faults of one file: nobody reads more at once


@dataclass(frozen=True, slots=True)
class JobFile:
    """The jobs and loops of a file, and where each of their fields stands, for what is found wrong only later."""

    where: str
    jobs: tuple[Job, ...]
    places: Mapping[tuple[str, str], Place]
    loops: tuple[Loop, ...] = ()

    def place(self, job: str, field: str = "name") -> str:
        """`jobs.yaml:7:3`: the field of the job or loop of this name, or its name where the field is not said."""
        found = self.places.get((job, field)) or self.places.get((job, "name"))
        return f"{self.where}:{found.line}:{found.column}" if found else self.where


def jobs(path: str | Path) -> list[Job]:
    """The jobs of a file, in its order. Raises UserError with every fault of the file, a line for each."""
    return _jobs_alone(job_file(path))


def job_file(path: str | Path) -> JobFile:
    """The jobs of a file with the places of their fields. Raises UserError as `jobs` does."""
    return job_file_from_text(_text(Path(path)), str(path), Path(path).absolute().parent)


def jobs_from_text(text: str, where: str = "jobs", folder: Path | None = None) -> list[Job]:
    """The jobs of a text that is called `where`. Relative paths begin at `folder`, or stay as they are without one."""
    return _jobs_alone(job_file_from_text(text, where, folder))


def _jobs_alone(file: JobFile) -> list[Job]:
    if file.loops:
        place, name = file.place(file.loops[0].name), file.loops[0].name
        raise UserError(f"{place}: {name} is a loop, and only jobs belong here; `tide submit FILE` takes loops")
    return list(file.jobs)


def job_file_from_text(text: str, where: str = "jobs", folder: Path | None = None) -> JobFile:
    """The jobs and loops of a text with the places of their fields. Raises UserError as `jobs` does."""
    reading = Reading(where, folder)
    found: list[Job | Loop] = []
    places: dict[tuple[str, str], Place] = {}
    for tree in _documents(text, reading):
        one = (_loop_record() if _is_loop(tree) else JOB).read(tree, "", reading)
        if one is WRONG:
            continue
        keys = _keys(tree)
        if (one.name, "name") in places:
            first = places[one.name, "name"].line
            reading.wrong(keys["name"], "name", f'"{one.name}" is the name of another job, in line {first}')
        places |= {(one.name, key): place for key, place in keys.items()}
        found.append(one if one.folder or one.model or not folder else replace(one, folder=str(folder)))
    _say(reading)
    if not found:
        raise UserError(f"{where}: there is no job in it; `tide schema` and docs/jobs.md say what one looks like")
    jobs = tuple(one for one in found if isinstance(one, Job))
    return JobFile(where, jobs, places, tuple(one for one in found if isinstance(one, Loop)))


def _is_loop(tree: Tree) -> bool:
    entries = tree.entries if isinstance(tree, MappingTree) else ()
    return any(
        isinstance(key, Scalar) and key.text == "kind" and isinstance(value, Scalar) and value.text == "loop"
        for key, value in entries
    )


def _loop_record() -> Record:
    from springtide.spec.loop_table import LOOP  # most files have none

    return LOOP


def pool(path: str | Path, nodes_elsewhere: bool = False) -> Pool:
    """The pool of a file. Raises UserError with every fault, also those of teams against each other and the nodes."""
    return pool_from_text(_text(Path(path)), str(path), nodes_elsewhere)


def pool_from_text(text: str, where: str = "pool", nodes_elsewhere: bool = False) -> Pool:
    """The pool of a text that is called `where`. Raises UserError as `pool` does.

    `nodes_elsewhere`: the text says teams and rules only, so guarantees are not held against its nodes.
    """
    reading = Reading(where, None)
    trees = list(_documents(text, reading))
    if len(trees) > 1:
        reading.wrong(trees[1].place, "", "a pool's file has one document; remove the line with ---")
    found = POOL.read(trees[0], "", reading) if trees else WRONG
    if isinstance(found, Pool):
        # Two of one name were said where the second stands.
        elsewhere = ("name", "guarantee") if nodes_elsewhere else ("name",)
        reading.faults += [_placed(problem, reading) for problem in problems(found) if problem.field not in elsewhere]
    _say(reading)
    if not isinstance(found, Pool):
        raise UserError(f"{where}: there is no pool in it; `tide schema --kind pool` says what one looks like")
    return found


def teams(path: str | Path) -> list[Team]:
    """The teams of a file of teams (or of a pool), those under others included. Raises UserError as `pool` does."""
    return list(pool(path).teams)


def _placed(problem: Problem, reading: Reading) -> tuple[Place, str]:
    place = reading.places.get(problem.thing, Place(1, 1))
    return place, f"{reading.at(place)}: {problem}"


def _documents(text: str, reading: Reading) -> Iterable[Tree]:
    try:
        for tree, nodes in documents(text):
            reading.visits_left = 20 * nodes + 1000  # an alias may save typing, and not be a bomb
            yield tree
    except Malformed as error:
        reading.wrong(error.place, "", error.sentence)


def _keys(tree: Tree) -> dict[str, Place]:
    entries = tree.entries if isinstance(tree, MappingTree) else ()
    return {key.text: value.place for key, value in entries if isinstance(key, Scalar)}


def _say(reading: Reading) -> None:
    lines = [sentence for _, sentence in sorted(reading.faults + reading.twice)]
    if not lines:
        return
    more = [f"{reading.where}: and {len(lines) - _MOST_SAID} more"] if len(lines) > _MOST_SAID else []
    raise UserError("\n".join([*lines[:_MOST_SAID], *more]))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: this is a folder; name a file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {len(content)} bytes are too many; a file may have {MOST_BYTES}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: byte {content[error.start]:#04x} is no UTF-8; save the file as UTF-8"
        ) from None


def to_data(value: Job | Pool | Loop) -> dict[str, Any]:
    """What a file would say, as JSON can hold it: fields that say what is so anyway are left out."""
    record = JOB if isinstance(value, Job) else POOL if isinstance(value, Pool) else _loop_record()
    data: dict[str, Any] = record.write(value)
    return data


def to_yaml(value: Job | Pool | Loop) -> str:
    """One document that reads back as an equal object."""
    return str(yaml.dump(to_data(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes what is not to be seen as an escape: other quotes would fold it into blanks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"'),
)


def to_json(value: Job | Pool | Loop) -> str:
    """The same in JSON, which the readers take as well."""
    return json.dumps(to_data(value))


def dump(values: Iterable[Job]) -> str:
    """A file of several jobs."""
    return "---\n".join(to_yaml(value) for value in values)
