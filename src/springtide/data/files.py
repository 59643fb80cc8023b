"""Reading files wherever fsspec finds them; a local one is read by position, so forks and threads may share it."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from springtide.spec import UserError

PathLike = str | os.PathLike[str]

WHOLE_BYTES = 256 << 20  # files up to this size are hashed whole
PARTS = 256
PART_BYTES = 256 << 10
BLOCK_BYTES = 4 << 20


class File:
    """One file, local or remote, of which any part can be read.

    A remote file system is opened anew in each process: its connections do not survive a fork.
    """

    def __init__(self, path: PathLike, what: str = "file") -> None:
        self.path = os.fspath(path)
        system, self.inner = fsspec.core.url_to_fs(self.path)
        self.local = isinstance(system, LocalFileSystem)
        self._descriptor: int | None = None
        self._remote: tuple[int, Any] | None = None if self.local else (os.getpid(), system)
        try:
            if self.local and not Path(self.inner).is_dir():
                self._descriptor = os.open(self.inner, os.O_RDONLY | os.O_CLOEXEC)
                self.size_bytes = os.fstat(self._descriptor).st_size
                return
            about = system.info(self.inner)
        except FileNotFoundError:
            raise UserError(f"{self.path}: there is no such {what}{_near(system, self.inner)}") from None
        except PermissionError:
            raise UserError(f"{self.path}: this {what} may not be read by this user") from None
        if about["type"] == "directory":
            raise UserError(f"{self.path}: this is a folder; give the path of a {what}")
        self.size_bytes = int(about["size"])

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start`: `length` of them, or fewer at the end of the file."""
        if self._descriptor is not None:
            part = os.pread(self._descriptor, length, start)
            while 0 < len(part) < length:  # the kernel gives at most 2 GiB at once
                more = os.pread(self._descriptor, length - len(part), start + len(part))
                if not more:
                    break
                part += more
            return part
        end = min(start + length, self.size_bytes)
        return bytes(self.system.cat_file(self.inner, start=start, end=end)) if start < end else b""

    def blocks(self, end: int | None = None) -> Iterable[bytes]:
        """The content up to `end`, in blocks."""
        end = self.size_bytes if end is None else end
        for start in range(0, end, BLOCK_BYTES):
            yield self.read(start, min(BLOCK_BYTES, end - start))

    @property
    def system(self) -> Any:
        """The file system, of this process."""
        if self._remote is None or self._remote[0] != os.getpid():
            self._remote = (os.getpid(), fsspec.core.url_to_fs(self.path)[0])
        return self._remote[1]


def content(files: Sequence[File], *more: object) -> str:
    """Sixteen hexadecimal digits for what the files hold, and for `more`: whole up to 256 MB, else 256 spread parts."""
    digest = hashlib.blake2b(repr(more).encode(), digest_size=8)
    for file in files:
        digest.update(file.size_bytes.to_bytes(8, "little"))
        if file.size_bytes <= WHOLE_BYTES:
            for block in file.blocks():
                digest.update(block)
        else:
            for part in range(PARTS):
                digest.update(file.read(part * (file.size_bytes - PART_BYTES) // (PARTS - 1), PART_BYTES))
    return digest.hexdigest()


def expand(path: PathLike | Sequence[PathLike], what: str) -> list[File]:
    """The files that `path` names: one, several, or all that fit a pattern with `*`, in the order of their names."""
    if not isinstance(path, str | os.PathLike):
        files = [file for each in path for file in expand(each, what)]
        if not files:
            raise UserError(f"no {what} was given: the list of paths is empty")
        return files
    name = os.fspath(path)
    if "*" not in name:
        return [File(name, what)]
    system, inner = fsspec.core.url_to_fs(name)
    found = sorted(system.glob(inner))
    if not found:
        raise UserError(f"{name}: no {what} fits this pattern")
    return [File(system.unstrip_protocol(each) if "://" in name else each, what) for each in found]


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean "..."?` with the nearest of `words`, else a list of the first few."""
    words = list(words)
    close = difflib.get_close_matches(word, words, 1, 0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    few = ", ".join(f"'{each}'" for each in words[:8])
    return f"; there are {few}{', ...' if len(words) > 8 else ''}" if words else ""


def _near(system: Any, inner: str) -> str:
    folder, _, name = inner.rpartition("/")
    try:
        names = [each.rstrip("/").rpartition("/")[2] for each in system.ls(folder or "/", detail=False)]
    except (OSError, ValueError):
        return ", nor a folder for it"
    close = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else f" in {folder or '/'}"
