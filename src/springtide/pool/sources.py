"""Submitted folders, received as tar files and kept unpacked, each under the SHA-256 of its tar."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from springtide.pool.refusals import Malformed, TooLarge
from springtide.spec.errors import SpringtideError, UserError

MOST_BYTES = 256 * 2**20
MOST_ENTRIES = 100_000
UNUSED_S = 86_400.0  # for which a folder is kept that no job names
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class Sources:
    """The folder of folders. One is there whole or not at all; nothing in it is ever written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where it lies, or would. UserError: this is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise UserError(
                f'"{digest[:80]}" names no folder; it is the SHA-256 of its tar file, 64 hexadecimal digits'
            )
        return self.folder / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).is_dir()

    def holds(self, digest: str, file: str) -> bool:
        """Whether a file of that path lies in it, and not beyond."""
        root = self.path(digest)
        found = (root / file).resolve()
        return found.is_relative_to(root.resolve()) and found.is_file()

    def receive(self, digest: str) -> Receiving:
        """To be fed with the tar file, chunk by chunk."""
        return Receiving(self.path(digest), digest)

    def sweep(self, named: Collection[str]) -> list[str]:
        """Removes what no job names and nobody brought or asked for in the last day; returns the digests."""
        gone = []
        for entry in self.folder.iterdir():
            try:
                old = time.time() - entry.stat().st_mtime > UNUSED_S
            except FileNotFoundError:
                continue
            if old and entry.name not in named:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
                gone.append(entry.name)
        return [name for name in gone if _DIGEST.fullmatch(name)]

    def touch(self, digest: str) -> None:
        """It was asked for: the day begins anew."""
        os.utime(self.path(digest))


class Receiving:
    """A tar file on its way. Leaving the block without `finish` leaves nothing behind."""

    def __init__(self, target: Path, digest: str) -> None:
        self._target, self._digest = target, digest
        self._hash, self._size = hashlib.sha256(), 0
        self._folder = Path(tempfile.mkdtemp(prefix="coming-", dir=target.parent))
        self._file: IO[bytes] = (self._folder / "tar").open("w+b")

    def __enter__(self) -> Receiving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def feed(self, chunk: bytes) -> None:
        """TooLarge: it is more than is taken. SpringtideError: the disk takes no more."""
        self._size += len(chunk)
        if self._size > MOST_BYTES:
            raise TooLarge(
                f"this folder is larger than {MOST_BYTES >> 20} MiB; name what a job does not need in .tideignore"
            )
        self._hash.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _full(self._target.parent, error) from None

    def finish(self) -> bool:
        """Checks it, unpacks it and puts it where it belongs; False: it was there already. Malformed, UserError."""
        if self._hash.hexdigest() != self._digest:
            raise Malformed(f"what came has the digest {self._hash.hexdigest()}, not {self._digest}; send it again")
        if self._target.is_dir():
            return False
        tree = self._folder / "tree"
        try:
            tree.mkdir()
            self._file.seek(0)
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                _unpack(archive, tree)
            _sync(tree)
            tree.rename(self._target)
        except tarfile.TarError as error:
            raise Malformed(f"what came is no tar file: {error}") from None
        except OSError as error:
            if self._target.is_dir():
                return False
            raise _full(self._target.parent, error) from None
        return True


def _unpack(archive: tarfile.TarFile, tree: Path) -> None:
    # Links are made last and files only where nothing is, so no byte is ever written through a link.
    links: list[tuple[Path, str, str]] = []
    total = 0
    for count, member in enumerate(archive, 1):
        inner = _inner(member.name)
        total += member.size
        if count > MOST_ENTRIES or total > MOST_BYTES:
            raise TooLarge(
                f"a folder may have {MOST_ENTRIES} entries and {MOST_BYTES >> 20} MiB; this one unpacks to more"
            )
        path = tree / inner
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym():
            links.append((path, member.linkname, member.name))
        elif member.isreg() and not member.issparse():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(archive, member, path)
        else:
            raise UserError(
                f"{member.name}: a folder holds files, folders and symbolic links, and this is none of them"
            )
    for path, target, name in links:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            raise UserError(f"{name}: this name stands twice in the tar file")
        path.symlink_to(target)
    for path, target, name in links:
        if target.startswith("/") or not Path(os.path.realpath(path)).is_relative_to(tree.resolve()):
            raise UserError(
                f"{name}: this link leads out of the folder, to {target}; put what it names into the folder"
            )


def _inner(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UserError(f"{name}: this path leads out of the folder")
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None  # a regular file has content
    try:
        with content, path.open("xb") as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
    except FileExistsError:
        raise UserError(f"{member.name}: this name stands twice in the tar file") from None
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _sync(tree: Path) -> None:
    """On the disk before it gets its name: a job that was accepted has its folder, whatever happens."""
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def _full(folder: Path, error: OSError) -> SpringtideError:
    return SpringtideError(f"the pool cannot write to {folder}: {(error.strerror or str(error)).lower()}")
