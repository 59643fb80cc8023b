"""A loop is handed to the pool: checked, its folder made, its jobs submitted; all or none, and again at no harm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from springtide.data.streams import Away, Stream, open_stream
from springtide.pool import circle_files
from springtide.pool.circle_work import production
from springtide.pool.client import Client
from springtide.serve import gate
from springtide.serve.loop import expansion
from springtide.serve.loop.expansion import Ground
from springtide.serve.loop.places import Places
from springtide.serve.registry import Registry
from springtide.serve.registry.code import collect, roots_of
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.files import JobFile, to_yaml
from springtide.spec.home import home
from springtide.spec.job import Job
from springtide.spec.loop import Bulk, Loop

_BATCH = 1000  # records
FILE = "TIDE_LOOP_FILE"  # a digest of the file: when it changes, who read it begins anew


def ground(client: Client) -> Ground:
    """Where loops of that pool are kept. Refused: the pool is not that of this home."""
    here = home()
    if client.address != str(here / "pool" / "pool.sock"):
        raise Refused(
            f"a loop keeps its streams and models in the pool's own home, and {client.address} is not the pool of "
            f"{here}; submit it on that machine, with its TIDE_HOME"
        )
    return Ground(here, client.address)


def jobs(loop: Loop, ground: Ground, registry: Registry) -> list[Job]:
    """The jobs of a loop as they are to be now."""
    circle = circle_files.read_state(ground.places(loop))
    serving = production(registry, loop.model_name) is not None
    found = expansion.jobs(loop, ground, circle.generation, serving)
    mark = hashlib.sha256(to_yaml(loop).encode()).hexdigest()[:16]
    watching = {loop.job(expansion.PREPARE), loop.job(expansion.CIRCLE)}
    return [replace(job, environment={**job.environment, FILE: mark}) if job.name in watching else job for job in found]


def faults(file: JobFile, loop: Loop, registry: Registry) -> list[str]:
    """What of a loop cannot be, a sentence for each, with its place in the file."""
    return [f"{file.place(loop.name, field.split('.')[0])}: {field}: {said}" for field, said in _faults(loop, registry)]


def _faults(loop: Loop, registry: Registry) -> Iterator[tuple[str, str]]:
    folder = Path(loop.folder or ".")
    for field, named in (("build", loop.build), ("prepare", loop.prepare), ("gate.scorer", loop.gate.scorer)):
        if named is not None:
            try:
                collect(named, roots_of(folder))
            except UserError as error:
                yield field, str(error).removeprefix("--build: ")
    if not Path(loop.train.script).is_file():
        yield "train.script", f"there is no file {loop.train.script}; name the script that trains"
    if loop.source is not None:
        try:
            open_stream(loop.source, create=loop.source.startswith("log://")).close()
        except (UserError, Away) as error:
            yield "source", str(error)
    for field, data in (("gate.data", loop.gate.data), ("bulk.data", loop.bulk.data if loop.bulk else None)):
        if data is not None:
            try:
                gate.records_of(data)
            except UserError as error:
                yield field, str(error)
    if loop.gate.data is None and production(registry, loop.model_name) is None:
        yield (
            "gate",
            (
                f"there is nothing to judge a first version by: no version of {loop.model_name} is in production, so "
                "no feedback can come; write data: FILE.jsonl with held-out records"
            ),
        )


def make(loop: Loop, there: Places) -> None:
    """The folder and the streams of a loop; the bulk at the beginning of the training stream, once."""
    circle_files.make(there, loop)
    for url in (there.held_out, *([] if loop.source else [there.stream("requests")])):
        open_stream(url, create=True).close()
    stream = open_stream(there.training, create=True)
    try:
        if loop.bulk is not None:
            _fill(stream, loop.bulk)
    finally:
        stream.close()


def _fill(stream: Stream, bulk: Bulk) -> None:
    """Nobody else writes before it is whole, so where the stream ends is how much of it is there already."""
    records = [json.dumps(record).encode() for record in gate.records_of(bulk.data)] * bulk.passes
    begun = sum(bounds.end for bounds in stream.bounds().values())
    for at in range(begun, len(records), _BATCH):
        stream.append(records[at : at + _BATCH], partition=0)


def submit(
    client: Client, files: Sequence[JobFile], others: Sequence[Job] = (), *, dry_run: bool = False,
    forecast: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """All loops of these files, with other jobs beside them. UserError: every fault of every loop, a line for each."""
    ground_, registry = ground(client), Registry.open(home() / "models")
    if client.health()["protected"]:
        raise Refused(
            "teams of this pool have users of their own (`tide up --user-per-team`), who may not read the pool's "
            "models, and a loop's jobs must; submit it to a pool without"
        )
    wrong = [fault for file in files for loop in file.loops for fault in faults(file, loop, registry)]
    if wrong:
        raise UserError("\n".join(wrong))
    wanted = list(others)
    loops = [loop for file in files for loop in file.loops]
    if dry_run:
        return client.submit(wanted + [job for loop in loops for job in jobs(loop, ground_, registry)], dry_run=True)
    # The pool is asked before anything is made, so that what it refuses leaves nothing behind.
    client.submit(wanted + [job for loop in loops for job in jobs(loop, ground_, registry)], dry_run=True)
    for loop in loops:
        make(loop, ground_.places(loop))
    wanted += [job for loop in loops for job in jobs(loop, ground_, registry)]
    return client.submit(wanted, forecast=forecast)


def end(client: Client, name: str) -> list[str]:
    """Cancels the jobs of a loop; names of those that were there. What it keeps stays: submitting it again goes on."""
    found = []
    for part in (expansion.CIRCLE, expansion.TRAIN, expansion.PREPARE, expansion.SERVE):
        try:
            if client.jobs(state="live", name=f"{name}-{part}", limit=1):
                client.cancel(f"{name}-{part}")
                found.append(f"{name}-{part}")
        except (UserError, SpringtideError):
            continue
    return found
