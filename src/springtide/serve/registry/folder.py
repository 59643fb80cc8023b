"""A version's folder: `model.safetensors`, `code/`, and `build.json`, which names the hash of every byte beside it.

The digest of a version is the hash of its `build.json`, so one number guards weights, code, build and config.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from springtide.spec.errors import SpringtideError
from springtide.train import durable
from springtide.train.tensors import BLOCK_BYTES, Layout, hasher

WEIGHTS, BUILD, CODE = "model.safetensors", "build.json", "code"
_FORMAT = 1


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What `build.json` says. `code` is path below code/ -> hash; hashes are blake2b of 16 bytes, in hex."""

    build: str
    config: dict[str, Any] = {}
    inputs: tuple[str, ...] = ()
    weights: str
    code: dict[str, str]
    format: int = _FORMAT

    @property
    def module(self) -> str:
        return self.build.partition(":")[0]

    @property
    def function(self) -> str:
        return self.build.partition(":")[2]

    @property
    def code_digest(self) -> str:
        return hash_of([json.dumps(self.code, sort_keys=True).encode()])

    def content(self) -> bytes:
        """The file: what is equal is equal to the last byte."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @property
    def digest(self) -> str:
        return hash_of([self.content()])


def hash_of(blocks: Iterable[bytes | memoryview]) -> str:
    total = hasher()
    for block in blocks:
        total.update(block)
    return str(total.hexdigest())


def fill(folder: Path, weights: Layout, code: Mapping[str, bytes], build: str, config: Mapping[str, Any]) -> Recipe:
    """Writes weights and code into a new folder, down to the disk; the recipe for them, which is not yet written."""
    written = durable.write_file(folder / WEIGHTS, weights.blocks())
    hashes = {}
    for name, content in sorted(code.items()):
        path = folder / CODE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hashes[name] = durable.write_file(path, [content])
    return Recipe(build=build, config=dict(config), weights=written, code=hashes)


def finish(folder: Path, recipe: Recipe) -> None:
    """Writes `build.json`, lets nobody write into the files any more, and waits until the disk has all of it."""
    durable.write_file(folder / BUILD, [recipe.content()])
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            durable.sync(path)
        else:
            path.chmod(0o444)
    durable.sync(folder)


def protect(folder: Path) -> None:
    """Lets nobody add, rename or remove anything in it either."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            path.chmod(0o555)


def remove(folder: Path) -> None:
    """Removes a folder, protected or not."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def read(folder: Path) -> Recipe:
    """What `build.json` says. SpringtideError: it cannot be read, or is none."""
    path = folder / BUILD
    try:
        recipe = msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise SpringtideError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except msgspec.MsgspecError as error:
        raise SpringtideError(f"{path} is not what a registry writes: {error}") from None
    if recipe.format != _FORMAT:
        raise SpringtideError(f"{path} has format {recipe.format}; this Springtide reads format {_FORMAT}")
    return recipe


def verified(folder: Path, digest: str, what: str) -> Recipe:
    """The recipe, after every byte was compared. SpringtideError: weights, code or recipe changed since; which."""

    def changed(path: Path | str) -> SpringtideError:
        return SpringtideError(
            f"{what} was changed since it was registered: {path}; register it again as a new version"
        )

    try:
        if hash_of([(folder / BUILD).read_bytes()]) != digest:
            raise changed(folder / BUILD)
        recipe = read(folder)
        there = {str(path.relative_to(folder / CODE)) for path in (folder / CODE).rglob("*") if not path.is_dir()}
        if extra := sorted(there - set(recipe.code)):
            raise changed(f"{folder / CODE / extra[0]} is new")
        for name, expected in recipe.code.items():
            if hash_of([(folder / CODE / name).read_bytes()]) != expected:
                raise changed(folder / CODE / name)
        if _file_hash(folder / WEIGHTS) != recipe.weights:
            raise changed(folder / WEIGHTS)
    except OSError as error:
        raise changed(f"{error.filename} cannot be read ({(error.strerror or str(error)).lower()})") from None
    return recipe


def _file_hash(path: Path) -> str:
    total = hasher()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while block := file.read(BLOCK_BYTES):
            total.update(block)
    return str(total.hexdigest())
