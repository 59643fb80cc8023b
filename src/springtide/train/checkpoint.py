"""Checkpoints: a state in a file and a manifest that names it, complete or absent at any instant (Checkpoint law).

Begin with `write` and `latest`. No torch here: the supervisor writes straight from shared memory. One checkpoint is a
folder `step-00000400-1f3a09bc/` of `state.safetensors` and `manifest.json`; see docs/checkpoints.md.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from springtide.spec import SpringtideError
from springtide.train import durable
from springtide.train.manifest import (
    MANIFEST,
    STATE,
    FileCheck,
    Manifest,
    ManifestFields,
    Order,
    Versions,
    decode,
    encode,
)
from springtide.train.places import Local, Place, Remote, place
from springtide.train.retention import Held, expired
from springtide.train.tensors import Layout, Stored, Tensor, digest, hasher, lay_out, parse

__all__ = [
    "FileCheck", "Found", "Manifest", "ManifestFields", "Order", "Row", "Stored", "Tensor", "Versions", "Written",
    "digest", "find", "latest", "read", "read_verified", "rows", "verify", "write",
]  # fmt: skip

_NAME = re.compile(r"step-(\d+)-[0-9a-f]{8}(-[0-9a-f]{8})?\Z")
_CLAIM = "writing"  # beside an unfinished remote state: the run id of its writer
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
Pace = Callable[[int], object]


@dataclass(frozen=True)
class Written:
    """A checkpoint that is on the disk. `warnings`: older ones that should have gone and could not be removed."""

    path: str
    step: int
    digest: str
    seconds: float
    bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """A checkpoint as it lies there; `problem` is a sentence with its path where it cannot be used."""

    path: str
    manifest: Manifest | None
    problem: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of `tide checkpoints`: `time` in unix seconds; what a damaged manifest does not tell is None."""

    step: int | None
    digest: str | None
    time: float | None
    bytes: int | None
    finished: bool
    path: str
    problem: str | None


def write(
    root: str | os.PathLike[str],
    tensors: Sequence[Tensor],
    about: ManifestFields,
    *,
    keep: int = 3,
    keep_every: int | None = None,
    pace: Pace | None = None,
) -> Written:
    """Write a state under `root` (folder or fsspec URL), then let older checkpoints of this run go.

    `keep` newest ones stay, and every step that `keep_every` divides. `pace(bytes_so_far)` is called after each block
    of at most 4 MiB; it may wait, or raise to abandon the checkpoint. SpringtideError: full disk, no permission, lost
    storage; then nothing torn is left and no older one is gone.
    """
    if keep < 1 or (keep_every is not None and keep_every < 1):
        raise ValueError(f"keep and keep_every begin at 1, got {keep} and {keep_every}")
    where, folder = place(root)
    started, layout = time.monotonic(), lay_out(tensors)
    try:
        if isinstance(where, Remote):
            path, named = _write_remote(where, folder, layout, about, pace)
        else:
            path, named = _write_local(Path(folder), layout, about, pace)
    except OSError as error:
        raise SpringtideError(_failure(error, folder, layout, about)) from error
    warnings = tuple(_retire(where, folder, path, about, keep, keep_every))
    return Written(path, about.step, named, time.monotonic() - started, layout.size_bytes, warnings)


def find(root: str | os.PathLike[str]) -> list[Found]:
    """The checkpoints under `root`, newest first, after a quick look (manifest and sizes).

    `root` is a folder of checkpoints, a run's folder (with `checkpoints/` in it) or one checkpoint. Newest: by step
    inside a run, by time among runs.
    """
    where, folder = place(root)
    try:
        names = where.names(folder)
        if MANIFEST in names or STATE in names:
            return [_look(where, folder)]
        if "checkpoints" in names and not any(map(_NAME.match, names)):
            folder = f"{folder}/checkpoints"
            names = where.names(folder)
    except OSError as error:
        raise SpringtideError(f"{folder} cannot be listed: {_reason(error)}") from error
    return _newest_first(where, [_look(where, f"{folder}/{name}") for name in names if _NAME.match(name)])


def verify(found: Found) -> Found:
    """The same checkpoint after reading all of it: `problem` is set where a byte differs from what was written."""
    if found.problem is not None or found.manifest is None:
        return found
    where, folder = place(found.path)
    try:
        for name, expected in found.manifest.files.items():
            total = hasher()
            for block in where.blocks(f"{folder}/{name}"):
                total.update(block)
            if total.hexdigest() != expected.blake2b:
                return replace(found, problem=_flipped(f"{folder}/{name}"))
    except OSError as error:
        return replace(found, problem=f"{folder} cannot be read: {_reason(error)}")
    return found


def latest(
    root: str | os.PathLike[str], *, run_id: str | None = None, name: str | None = None
) -> tuple[Found | None, list[str]]:
    """The newest checkpoint that is whole to the last byte, and a sentence for each damaged one before it.

    With `run_id` or `name` only that run's; a damaged one whose manifest does not tell is named all the same.
    """
    problems: list[str] = []
    for found in find(root):
        if (about := found.manifest) is not None and (
            (run_id is not None and about.run_id != run_id) or (name is not None and about.name != name)
        ):
            continue
        checked = verify(found)
        if checked.problem is None:
            return checked, problems
        problems.append(checked.problem)
    return None, problems


def read(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The tensors of one checkpoint by name: type, shape and bytes, mapped read-only where the file is local.

    SpringtideError: malformed header, offsets that overlap or leave the file. Hashes are for `verify`.
    """
    where, folder = place(path)
    return parse(_mapped(where, folder), f"{folder}/{STATE}")


def read_verified(found: Found) -> dict[str, Stored]:
    """The tensors of a found checkpoint, each byte compared with its manifest; SpringtideError if one differs."""
    if found.problem is not None or found.manifest is None:
        raise SpringtideError(found.problem or f"{found.path} has no {MANIFEST}")
    where, folder = place(found.path)
    data, total = _mapped(where, folder), hasher()
    total.update(data)
    if total.hexdigest() != found.manifest.files[STATE].blake2b:
        raise SpringtideError(_flipped(f"{folder}/{STATE}"))
    return parse(data, f"{folder}/{STATE}")


def rows(root: str | os.PathLike[str], verify: bool = False) -> list[Row]:
    """What `tide checkpoints` lists, newest first; with `verify`, after reading every byte."""
    return [_row(_verified(found) if verify else found) for found in find(root)]


_verified = verify


def _write_local(root: Path, layout: Layout, about: ManifestFields, pace: Pace | None) -> tuple[str, str]:
    durable.clean(root, about.run_id)
    with durable.aside(root, about.run_id) as folder:
        _need_room(root, layout.size_bytes)
        named = durable.write_file(folder / STATE, _paced(layout, pace))
        manifest = Manifest.of(about, named, layout.size_bytes, time.time())
        durable.write_file(folder / MANIFEST, [encode(manifest)])
        target = Path(_target(Local(), str(root), about, named))
        # Both files of a target of this name hold the same state: replaced one by one, it is complete all the while.
        durable.move_in(folder, target, (STATE, MANIFEST))
    return str(target), named


def _write_remote(
    where: Remote, root: str, layout: Layout, about: ManifestFields, pace: Pace | None
) -> tuple[str, str]:
    """Without a rename to count on: the state goes to its place, and is a checkpoint once the manifest is there."""
    total = hasher()
    for block in layout.blocks():
        total.update(block)
    named = str(total.hexdigest())
    try:
        target = _target(where, root, about, named)
        if _look(where, target).problem is not None:
            _upload(where, target, layout, about.run_id, pace)
        where.put(f"{target}/{MANIFEST}", [encode(Manifest.of(about, named, layout.size_bytes, time.time()))])
        where.remove(f"{target}/{_CLAIM}")
    except (OSError, SpringtideError):
        raise
    except Exception as error:  # each protocol's package has errors of its own
        raise OSError(errno.EIO, str(error)) from error
    return target, named


def _upload(where: Remote, target: str, layout: Layout, run_id: str, pace: Pace | None) -> None:
    where.remove(target, whole_folder=True)
    try:
        where.put(f"{target}/{_CLAIM}", [run_id.encode()])
        where.put(f"{target}/{STATE}", _paced(layout, pace))
    except BaseException:
        with suppress(Exception):
            where.remove(target, whole_folder=True)
        raise


def _paced(layout: Layout, pace: Pace | None) -> Iterator[memoryview]:
    done = 0
    for block in layout.blocks():
        yield block
        done += block.nbytes
        if pace is not None:
            pace(done)


def _target(where: Place, root: str, about: ManifestFields, named: str) -> str:
    """The folder for this state: another run that came to the same state keeps its own."""
    plain = f"{root}/step-{about.step:08d}-{named[:8]}"
    if not where.names(plain):
        return plain
    manifest = _look(where, plain).manifest
    if manifest is not None and (manifest.run_id, manifest.digest) == (about.run_id, named):
        return plain
    total = hasher()
    total.update(about.run_id.encode() + named.encode())
    return f"{plain}-{total.hexdigest()[:8]}"


def _look(where: Place, folder: str) -> Found:
    """One checkpoint after a quick look."""
    try:
        manifest = decode(where.content(f"{folder}/{MANIFEST}"), f"{folder}/{MANIFEST}")
    except FileNotFoundError:
        return Found(folder, None, f"{folder} has no {MANIFEST}: its writing was not finished")
    except SpringtideError as error:
        return Found(folder, None, str(error))
    except OSError as error:
        return Found(folder, None, f"{folder} cannot be read: {_reason(error)}")
    for name, expected in manifest.files.items():
        try:
            size = where.size_bytes(f"{folder}/{name}")
        except OSError as error:
            return Found(folder, manifest, f"{folder}/{name} cannot be read: {_reason(error)}")
        if size != expected.bytes:
            return Found(folder, manifest, f"{folder}/{name} is torn: it has {size} bytes of {expected.bytes}")
    return Found(folder, manifest)


def _newest_first(where: Place, found: list[Found]) -> list[Found]:
    latest_seconds: dict[str, float] = {}
    for one in found:
        if one.manifest is not None:
            run = one.manifest.run_id
            latest_seconds[run] = max(latest_seconds.get(run, 0.0), one.manifest.time)

    def age(one: Found) -> tuple[float, int, float]:
        if one.manifest is not None:
            return latest_seconds[one.manifest.run_id], one.manifest.step, one.manifest.time
        with suppress(OSError):
            return where.modified(f"{one.path}/{STATE}"), _step(one.path) or 0, 0.0
        return 0.0, _step(one.path) or 0, 0.0

    return sorted(found, key=age, reverse=True)


def _retire(
    where: Place, root: str, path: str, about: ManifestFields, keep: int, keep_every: int | None
) -> Iterator[str]:
    """Remove what retention lets go; a sentence for each that would not."""
    try:
        found = [_look(where, f"{root}/{name}") for name in where.names(root) if _NAME.match(name)]
    except OSError as error:
        yield f"{root} cannot be listed, so older checkpoints stay: {_reason(error)}"
        return
    held = [
        Held(one.path, one.manifest.run_id, one.manifest.step, one.problem is None) for one in found if one.manifest
    ]
    old = expired(held, run_id=about.run_id, step=about.step, keep=keep, keep_every=keep_every)
    try:
        for folder in [one.path for one in old if one.path != path]:
            if isinstance(where, Remote):
                where.remove(f"{folder}/{MANIFEST}")
                where.remove(folder, whole_folder=True)
            else:
                durable.remove(Path(folder), about.run_id)
        if isinstance(where, Remote):
            _clean_remote(where, [one.path for one in found if one.manifest is None], about.run_id)
    except OSError as error:
        yield f"an older checkpoint in {root} could not be removed: {_reason(error)}"


def _clean_remote(where: Remote, unfinished: list[str], run_id: str) -> None:
    for folder in unfinished:
        with suppress(FileNotFoundError):
            if where.content(f"{folder}/{_CLAIM}") == run_id.encode():
                where.remove(folder, whole_folder=True)


def _need_room(root: Path, size_bytes: int) -> None:
    """ENOSPC before the first byte where the disk plainly has no room, so that nobody else meets a full one."""
    disk = os.statvfs(root)
    free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
    if disk.f_blocks and free < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _failure(error: OSError, root: str, layout: Layout, about: ManifestFields) -> str:
    sentence = f"the checkpoint of step {about.step} could not be written to {root}"
    needed = f"it needs {layout.size_bytes / 1e6:.1f} MB"
    if error.errno not in _FULL:
        return f"{sentence}: {_reason(error)}; older ones are untouched"
    with suppress(OSError):
        disk = os.statvfs(root)
        needed += f", {disk.f_bavail * disk.f_frsize / 1e6:.1f} MB are free"
    return f"{sentence}: {_reason(error)}; {needed}; older ones are untouched"


def _mapped(where: Place, folder: str) -> memoryview:
    try:
        return where.mapped(f"{folder}/{STATE}")
    except OSError as error:
        raise SpringtideError(f"{folder}/{STATE} cannot be read: {_reason(error)}") from error


def _flipped(path: str) -> str:
    return f"{path} was changed after it was written: its content and the manifest's hash disagree"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()


def _step(path: str) -> int | None:
    match = _NAME.search(path.rsplit("/", 1)[-1])
    return int(match[1]) if match else None


def _row(found: Found) -> Row:
    about = found.manifest
    if about is None:
        return Row(_step(found.path), None, None, None, False, found.path, found.problem)
    return Row(about.step, about.digest, about.time, about.bytes, about.finished, found.path, found.problem)
