"""A folder as one tar file that is the same, bit for bit, as long as its files are: what a submission takes along."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from springtide.spec import home
from springtide.spec.errors import UserError
from springtide.spec.quantities import bytes_text

MOST_BYTES = 256 * 2**20
IGNORE_FILE = ".tideignore"
_SKIPPED = frozenset(
    (
        ".git",
        ".hg",
        ".venv",
        "venv",
        "__pycache__",
        "node_modules",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
    )
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A tar file, unnamed, gone when it is closed; `digest` is the SHA-256 of it."""

    digest: str
    size_bytes: int
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class _Entry:
    inner: str  # path within the folder
    path: Path
    status: os.stat_result
    link: str | None = None  # what a symbolic link says


def pack(folder: Path) -> Packed:
    """The folder without what no job needs. UserError: it is not there, cannot be read, or is too large."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    entries = sorted(_entries(folder), key=lambda entry: entry.inner)
    _fits(folder, entries)
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for entry in entries:
                _add(archive, entry)
        size = file.tell()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return Packed(digest, size, file)
    except BaseException:
        file.close()
        raise


def _entries(folder: Path) -> Iterator[_Entry]:
    patterns, kept = _patterns(folder), home.home().resolve()
    waiting = [(folder, "")]
    while waiting:
        at, prefix = waiting.pop()
        for found in _listing(at):
            inner = prefix + found.name
            if found.name in _SKIPPED or _ignored(inner, patterns):
                continue
            path = Path(found.path)
            try:
                status = found.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # it was there a moment ago
            if stat.S_ISDIR(status.st_mode) and path.resolve() != kept:
                yield _Entry(inner, path, status)
                waiting.append((path, f"{inner}/"))
            elif stat.S_ISREG(status.st_mode):
                yield _Entry(inner, path, status)
            elif stat.S_ISLNK(status.st_mode):
                yield _linked(folder, inner, path, status)


def _listing(at: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(at) as found:
            return list(found)
    except OSError as error:
        raise _unreadable(at, error) from None


def _linked(folder: Path, inner: str, path: Path, status: os.stat_result) -> _Entry:
    """A link within the folder stays one; of one that leads out, the file that it names is taken."""
    target = path.readlink()
    if not target.is_absolute() and path.resolve().is_relative_to(folder.resolve()):
        return _Entry(inner, path, status, str(target))
    if path.is_file():
        return _Entry(inner, path, path.stat())
    what = "a folder outside" if path.is_dir() else "nothing that is there"
    raise UserError(f"{path}: this link names {what} ({target}); name it in {IGNORE_FILE} or put a copy in its place")


def _patterns(folder: Path) -> list[str]:
    try:
        text = (folder / IGNORE_FILE).read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / IGNORE_FILE}: cannot be read: {error}") from None
    lines = (line.strip() for line in text.splitlines())
    return [line.rstrip("/") for line in lines if line and not line.startswith("#")]


def _ignored(inner: str, patterns: list[str]) -> bool:
    """A pattern without a slash is held against every name, one with a slash against the path from the folder on."""
    name = inner.rpartition("/")[2]
    return any(fnmatchcase(inner if "/" in one.strip("/") else name, one.lstrip("/")) for one in patterns)


def _fits(folder: Path, entries: list[_Entry]) -> None:
    total = sum(entry.status.st_size for entry in entries if entry.link is None and stat.S_ISREG(entry.status.st_mode))
    if total <= MOST_BYTES:
        return
    sizes: dict[str, int] = {}
    for entry in entries:
        if stat.S_ISREG(entry.status.st_mode):
            top = entry.inner.partition("/")[0]
            sizes[top] = sizes.get(top, 0) + entry.status.st_size
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:3]
    named = ", ".join(f"{name} ({bytes_text(size)})" for name, size in largest)
    raise UserError(
        f"{folder}: {bytes_text(total)} are too much to take along, the most is {bytes_text(MOST_BYTES)}; "
        f"the largest are {named}: name in {IGNORE_FILE} what the job does not need, or let it read data by its path"
    )


def _add(archive: tarfile.TarFile, entry: _Entry) -> None:
    member = tarfile.TarInfo(entry.inner)
    member.mode = 0o755 if entry.status.st_mode & 0o100 else 0o644
    if entry.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
        archive.addfile(member)
    elif stat.S_ISDIR(entry.status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
    else:
        try:
            with entry.path.open("rb") as file:
                member.size = os.fstat(file.fileno()).st_size
                archive.addfile(member, file)
        except FileNotFoundError:
            return  # it was there a moment ago
        except OSError as error:
            raise _unreadable(entry.path, error) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be taken along ({(error.strerror or str(error)).lower()}); name it in {IGNORE_FILE}"
    )
