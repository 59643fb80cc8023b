"""A loop's folder: its file, its state, the checkpoints that it keeps, and what people asked of it.

Whatever is written here is whole or not there at any instant: written aside, synced, renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from springtide.serve.loop import keeping, ranges
from springtide.serve.loop.circle import Checkpoint, Circle
from springtide.serve.loop.places import Places
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.files import job_file_from_text, to_yaml
from springtide.spec.loop import Loop
from springtide.train import checkpoint, durable, offsets

_KEPT = "%d-%08d-%s"


def write(path: Path, content: bytes) -> None:
    """The file with that content. SpringtideError: the disk takes no more."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_file(aside, [content])
        aside.replace(path)
        durable.sync(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SpringtideError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


def make(there: Places, loop: Loop) -> None:
    """The loop's folder with what its first training begins with; what is there already stays."""
    for folder in (there.folder, there.kept, there.asked, there.checkpoints(0)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not there.quarantine(0).exists():
        write(there.quarantine(0), b"{}\n")
    write(there.file, to_yaml(loop).encode())


def read_loop(there: Places) -> Loop:
    """The loop of a folder. UserError: there is none."""
    try:
        text = there.file.read_text()
    except FileNotFoundError:
        raise UserError(f"{there.folder} holds no loop; `tide submit loop.yaml` makes one") from None
    return job_file_from_text(text, str(there.file)).loops[0]


def read_state(there: Places, every_s: float = 60.0) -> Circle:
    """The circle as it was last kept; a new one where there is none."""
    try:
        return replace(keeping.decode(there.state.read_bytes(), str(there.state)), every_s=every_s)
    except FileNotFoundError:
        return Circle(every_s=every_s)


def write_state(there: Places, circle: Circle) -> None:
    write(there.state, keeping.encode(circle))


def lease(there: Places) -> int:
    """The right to be this loop's circle, for as long as the process lives; waits while another one is ending."""
    handle = os.open(there.lease, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


# --- checkpoints


def newest(there: Places, generation: int, beyond: int) -> Checkpoint | None:
    """The newest checkpoint of a generation above that step, put where retention does not reach it."""
    for found in checkpoint.find(there.checkpoints(generation)):
        about = found.manifest
        if found.problem is not None or about is None:
            continue
        if about.step <= beyond:
            return None
        kept = there.kept / (_KEPT % (generation, about.step, about.digest[:8]))
        try:
            link(Path(found.path), kept)
        except FileNotFoundError:
            continue  # retention was quicker
        return Checkpoint(generation, about.step, about.digest, str(kept), offsets.kept(about) or {})
    return None


def link(source: Path, target: Path) -> None:
    """The same files at another place, by hard links where the disk allows them. FileNotFoundError: they went."""
    if target.exists():
        return
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        aside.mkdir(parents=True)
        for file in sorted(source.iterdir()):
            try:
                os.link(file, aside / file.name)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copy2(file, aside / file.name)
        durable.sync(aside)
        aside.rename(target)
        durable.sync(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sweep(there: Places, circle: Circle) -> None:
    """Removes the checkpoints that nothing goes back to, and the folders of generations before the last."""
    named = [one.checkpoint for one in circle.bases] + ([circle.exam.checkpoint] if circle.exam else [])
    used = {one.path for one in [*named, *([circle.newest] if circle.newest else [])]}
    for folder in there.kept.iterdir():
        if str(folder) not in used:
            shutil.rmtree(folder, ignore_errors=True)
    if circle.placed:
        for folder in (there.folder / "checkpoints").iterdir():
            if folder.name.isdigit() and int(folder.name) < circle.generation - 1:
                shutil.rmtree(folder, ignore_errors=True)


def begin(there: Places, generation: int, base: Checkpoint | None, quarantine: ranges.Ranges) -> None:
    """What a generation begins with: its base as the only checkpoint, and what it is not to read."""
    root = there.checkpoints(generation)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if base is not None:
        link(Path(base.path), root / f"step-{base.step:08d}-{base.digest[:8]}")
    write(there.quarantine(generation), json.dumps(ranges.as_json(quarantine)).encode() + b"\n")


# --- what people asked


def ask(there: Places, request: Mapping[str, Any]) -> None:
    """Puts a request where the circle finds it."""
    write(there.asked / f"{secrets.token_hex(8)}.json", json.dumps(dict(request)).encode())


def requests(there: Places) -> Iterable[tuple[Path, dict[str, Any]]]:
    """What was asked and not yet taken up; remove the file when it is."""
    for path in sorted(there.asked.glob("[!.]*.json")):
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict):
                yield path, found
