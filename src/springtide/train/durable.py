"""Folders that are complete or absent at any instant, on a local disk (Checkpoint law).

A folder is built aside, under a name that no reader looks at, and renamed. Whoever builds holds a lock on it that the
kernel drops with the process, so what a dead writer left is told from what a living one builds.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from springtide.train.tensors import hasher

_ASIDE = ".aside-"
_WRITEBACK_BYTES = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None)


@contextmanager
def aside(root: Path, owner: str) -> Iterator[Path]:
    """A new empty folder beside the targets, locked while this process lives; what is left of it at the end goes."""
    _make(root)
    folder, lock = _claimed(root, _mark(owner))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def write_file(path: Path, blocks: Iterable[memoryview | bytes]) -> str:
    """Write a new file and wait until the disk has it; its hash, computed on the way."""
    total = hasher()
    done = begun = 0
    with path.open("wb", buffering=1 << 20) as file:
        for block in blocks:
            file.write(block)
            total.update(block)
            done += len(block)
            if done - begun >= _WRITEBACK_BYTES:
                _begin_writeback(file.fileno(), begun, done - begun)
                begun = done
        file.flush()
        os.fsync(file.fileno())
    return str(total.hexdigest())


def move_in(folder: Path, target: Path, names: tuple[str, ...]) -> None:
    """Give a finished folder its name, or its files, in this order, to the folder of equal content that has it."""
    sync(folder)
    if target.is_dir():
        for name in names:
            (folder / name).replace(target / name)
        sync(target)
    else:
        folder.rename(target)
    sync(target.parent)


def remove(folder: Path, owner: str) -> None:
    """Remove a folder so that it is complete or absent all the while."""
    hidden = folder.with_name(f"{_ASIDE}{_mark(owner)}-{secrets.token_hex(4)}")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def clean(root: Path, owner: str) -> None:
    """Remove what this owner's or dead processes' unfinished work left in `root`."""
    if not root.is_dir():
        return
    for folder in root.glob(f"{_ASIDE}*"):
        with _unused(folder) as unused:
            if unused or folder.name.startswith(f"{_ASIDE}{_mark(owner)}-"):
                shutil.rmtree(folder, ignore_errors=True)


def sync(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make(root: Path) -> None:
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _mark(owner: str) -> str:
    """A short name for an owner that fits into a file name whatever the owner is called."""
    total = hasher()
    total.update(owner.encode())
    return str(total.hexdigest())[:12]


def _claimed(root: Path, mark: str) -> tuple[Path, int]:
    """A new folder aside and the handle that holds its lock."""
    while True:
        folder = root / f"{_ASIDE}{mark}-{secrets.token_hex(4)}"
        folder.mkdir()
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks: then only the owner's next writer cleans
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():  # else a cleaner came between the folder and its lock
                return folder, lock
            os.close(lock)


def _begin_writeback(handle: int, start: int, size_bytes: int) -> None:
    """Let the disk begin while the next blocks are hashed (1.0 against 0.8 GB/s); a hint, which may come to nothing."""
    if hint := getattr(_libc, "sync_file_range", None):
        hint(handle, ctypes.c_int64(start), ctypes.c_int64(size_bytes), _SYNC_FILE_RANGE_WRITE)


@contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Whether no living process holds the folder's lock; held here meanwhile. False where nobody can say."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unused = True
    except OSError:
        unused = False
    try:
        yield unused
    finally:
        os.close(handle)
