"""Where checkpoints lie: a folder of this machine, or an fsspec URL. What reading them needs, for both.

fsspec is imported only for a URL, so that a supervisor with local checkpoints starts at once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from springtide.spec import SpringtideError, UserError
from springtide.train.tensors import BLOCK_BYTES, map_file


class Place(Protocol):
    """Read access to one kind of storage; paths are strings in the user's own form, joined with `/`.

    All raise OSError (FileNotFoundError where there is nothing).
    """

    def names(self, folder: str) -> list[str]:
        """Names of what lies in a folder; none where there is no such folder."""

    def size_bytes(self, path: str) -> int: ...

    def modified(self, path: str) -> float:
        """Unix seconds of the last change; 0 where the storage does not say."""

    def content(self, path: str) -> bytes: ...

    def blocks(self, path: str) -> Iterator[bytes]:
        """A file's bytes in order, in pieces of at most 4 MiB."""

    def mapped(self, path: str) -> memoryview:
        """A file's bytes, read-only: mapped where the file is local, else fetched once."""


class Local:
    """Folders of this machine."""

    def names(self, folder: str) -> list[str]:
        try:
            return [entry.name for entry in Path(folder).iterdir()]
        except FileNotFoundError:
            return []

    def size_bytes(self, path: str) -> int:
        return os.stat(path).st_size  # noqa: PTH116 - paths stay strings, alike for URLs

    def modified(self, path: str) -> float:
        return os.stat(path).st_mtime  # noqa: PTH116

    def content(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def blocks(self, path: str) -> Iterator[bytes]:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def mapped(self, path: str) -> memoryview:
        return map_file(path)


@dataclass(frozen=True)
class Remote:
    """A file system that fsspec knows."""

    system: Any

    def names(self, folder: str) -> list[str]:
        self.system.invalidate_cache()
        try:
            entries = self.system.ls(self._bare(folder), detail=False)
        except FileNotFoundError:
            return []
        return [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries]

    def size_bytes(self, path: str) -> int:
        return int(self.system.size(self._bare(path)))

    def modified(self, path: str) -> float:
        try:
            return float(self.system.modified(self._bare(path)).timestamp())
        except (NotImplementedError, AttributeError):
            return 0.0

    def content(self, path: str) -> bytes:
        return bytes(self.system.cat_file(self._bare(path)))

    def blocks(self, path: str) -> Iterator[bytes]:
        with self.system.open(self._bare(path), "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def mapped(self, path: str) -> memoryview:
        size = self.size_bytes(path)
        if size == 0:
            return memoryview(b"")
        memory, at = mmap.mmap(-1, size), 0
        for block in self.blocks(path):
            memory[at : at + len(block)] = block
            at += len(block)
        return memoryview(memory).toreadonly()

    def put(self, path: str, blocks: Iterable[memoryview | bytes]) -> None:
        """Write one file; it is there when this returns."""
        bare = self._bare(path)
        self.system.makedirs(bare.rsplit("/", 1)[0], exist_ok=True)
        with self.system.open(bare, "wb") as file:
            for block in blocks:
                file.write(block)

    def remove(self, path: str, *, whole_folder: bool = False) -> None:
        """Remove a file, or a folder with all in it; nothing to remove is fine."""
        try:
            self.system.rm(self._bare(path), recursive=whole_folder)
        except FileNotFoundError:
            return

    def _bare(self, path: str) -> str:
        return str(self.system._strip_protocol(path))


def place(root: str | os.PathLike[str]) -> tuple[Place, str]:
    """The storage that `root` names, and the root without a trailing slash; a `file://` URL is a local folder.

    UserError: a protocol that fsspec does not know, or whose package is missing.
    """
    text = os.fspath(root)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return Local(), str(Path(text).absolute())
    from fsspec.core import url_to_fs

    try:
        system, _ = url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise UserError(f"{text}: {error}") from None
    except Exception as error:  # credentials, hosts: whatever the protocol's package raises
        raise SpringtideError(f"{text} cannot be reached: {error}") from error
    return Remote(system), text if text.endswith("://") else text.rstrip("/")
