"""Where the bytes of a file come from: this machine's disk, or a file system far away through the cache.

Both notice that a file is no longer what it was when it was opened, and say which.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from springtide.data.cache import Cache, name_of
from springtide.spec import SpringtideError, UserError

BLOCK_BYTES = 1 << 20
TOGETHER = 16  # blocks fetched by one request, where a read spans so many
_OPEN = 128  # files that a process holds open: data may lie in more files than it may open
_PAUSES_S = (0.1, 0.5, 2.0, 5.0, 10.0)  # before a request that failed is made again
# What tells one version of a file from another, best first; file systems differ in what they say.
_STAMPS: tuple[tuple[str, ...], ...] = (
    ("ETag",), ("etag",), ("generation",), ("fileId", "modificationTime"), ("modificationTime",), ("mtime",),
    ("LastModified",), ("last_modified",), ("updated",), ("created",),
)  # fmt: skip


class Source(Protocol):
    """The bytes of one file, of which any part can be read."""

    size_bytes: int

    def read(self, start: int, length: int, keep: bool = True) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """A version of a local file."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, about: os.stat_result) -> Stamp:
        return cls(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


class Descriptors:
    """Open files of this process, at most so many; one that is being read is closed by its last reader."""

    def __init__(self, most: int) -> None:
        self._most, self._open, self._lock = most, OrderedDict[str, Any](), threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def of(self, path: str) -> Any:
        """An unbuffered file. Raises OSError."""
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
        opened = Path(path).open("rb", buffering=0)  # noqa: SIM115, its readers close it
        with self._lock:
            self._open[path] = opened
            if len(self._open) > self._most:
                self._open.popitem(last=False)
        return opened

    def forget(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # descriptors may be shared, they are read by position; a held lock may not


_descriptors = Descriptors(_OPEN)


class Local:
    """A file of this machine, read by position, so forks and threads may share its descriptor."""

    def __init__(self, path: str) -> None:
        self.path = path
        _descriptors.forget(path)
        self.stamp = Stamp.of(os.fstat(_descriptors.of(path).fileno()))
        self.size_bytes = self.stamp.size_bytes

    def read(self, start: int, length: int, keep: bool = True) -> bytes:
        opened = self._opened()
        descriptor = opened.fileno()
        part = os.pread(descriptor, length, start)
        while 0 < len(part) < length:  # the kernel gives at most 2 GiB at once
            more = os.pread(descriptor, length - len(part), start + len(part))
            if not more:
                break
            part += more
        self._compare(os.fstat(descriptor))
        return part

    def check(self) -> None:
        """Raises `UserError` where the file at the path is another than the one that was opened."""
        try:
            self._compare(os.stat(self.path))  # noqa: PTH116, a microsecond less than Path's
        except FileNotFoundError:
            raise lost(self.path) from None

    def _opened(self) -> Any:
        try:
            return _descriptors.of(self.path)
        except FileNotFoundError:
            raise lost(self.path) from None

    def _compare(self, about: os.stat_result) -> None:
        if (now := Stamp.of(about)) != self.stamp:
            _descriptors.forget(self.path)
            raise changed(self.path, self.size_bytes, now.size_bytes)


class Remote:
    """A file of another machine, read block by block through the cache on this one.

    Its file system is opened anew in each process: connections do not survive a fork. A block is kept only if the file
    had not changed when it had come, so what is kept is always of the version that was opened.
    """

    def __init__(self, url: str, about: Mapping[str, Any], cache: Cache, opener: Opener) -> None:
        self.size_bytes = int(about["size"])
        self.stamp = stamp_of(about)
        self.cache = cache
        self._url, self._opener = url, opener
        self._named = functools.partial(name_of, url, self.size_bytes, self.stamp)
        self.kept = cache.on and bool(self.stamp)  # nothing is kept of a file whose versions cannot be told apart

    def name(self, *parts: object) -> bytes:
        """The name in the cache of something made of this version of the file."""
        return self._named(*parts)

    def read(self, start: int, length: int, keep: bool = True) -> bytes:
        end = min(start + length, self.size_bytes)
        if start >= end:
            return b""
        if not self.kept:
            return self._fetch(start, end)
        parts, at = [], start
        while at < end:
            block, offset = divmod(at, BLOCK_BYTES)
            part = self.cache.read(self.name("block", block), offset, min(end - block * BLOCK_BYTES, BLOCK_BYTES))
            if part is None:
                if not keep:
                    return self._fetch(start, end)
                data = self._fill(block, -(-end // BLOCK_BYTES))
                part = data[offset : end - block * BLOCK_BYTES]
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fill(self, first: int, last: int) -> bytes:
        """Fetches block `first`, and those behind it before `last` that nobody has or is at; all go into the cache."""
        with ExitStack() as stack:
            claim = stack.enter_context(self.cache.claim(self.name("block", first)))
            if claim is None:
                found = self.cache.read(self.name("block", first))  # who held the claim has made it
                return found if found is not None else self._fetch(*self._span(first, first + 1))
            claims = [claim]
            for block in range(first + 1, min(last, first + TOGETHER)):
                claim = stack.enter_context(self.cache.claim(self.name("block", block), wait_s=0))
                if claim is None:
                    break
                claims.append(claim)
            data = self._fetch(*self._span(first, first + len(claims)))
            for number, claim in enumerate(claims):
                claim.keep(data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
            return data

    def _span(self, first: int, last: int) -> tuple[int, int]:
        return first * BLOCK_BYTES, min(last * BLOCK_BYTES, self.size_bytes)

    def _fetch(self, start: int, end: int) -> bytes:
        """Bytes from where the file lies. Raises `UserError`: gone or changed; `SpringtideError`: out of reach."""
        for pause_s in (*_PAUSES_S, None):
            try:
                system, inner = self._opener()
                data = bytes(system.cat_file(inner, start=start, end=end))
                system.invalidate_cache(inner.rpartition("/")[0])
                about = system.info(inner)
            except FileNotFoundError:
                raise lost(self._url) from None
            except PermissionError:
                raise UserError(f"{self._url}: this file may no longer be read by this user") from None
            except Exception as error:  # whatever the protocol's package raises when the other side stumbles
                why = first_line(error)
            else:
                if stamp_of(about) != self.stamp or int(about["size"]) != self.size_bytes:
                    raise changed(self._url, self.size_bytes, int(about["size"]))
                if len(data) == end - start:
                    return data
                why = f"{len(data)} bytes came where {end - start} were asked for"
            if pause_s is not None:
                time.sleep(pause_s)
        raise SpringtideError(f"{self._url} cannot be read, {len(_PAUSES_S) + 1} times in a row: {why}")


class Opener(Protocol):
    """Gives the file system, of this process, and the path in it."""

    def __call__(self) -> tuple[Any, str]: ...


def stamp_of(about: Mapping[str, Any]) -> str:
    """The version of a far file, as far as its file system tells; empty where it tells nothing."""
    for names in _STAMPS:
        if all(about.get(name) for name in names):
            return " ".join(_text(about[name]) for name in names)
    return ""


def _text(value: Any) -> str:
    """A stamp as text; a listing may give as a number what is a date elsewhere."""
    return str(value.timestamp() if isinstance(value, datetime) else value)


def lost(path: str) -> UserError:
    return UserError(f"{path}: this file was there and is gone; put it back as it was, and start the run again")


def changed(path: str, was_bytes: int, is_bytes: int) -> UserError:
    """Names a file that is no longer the one that was opened, and what of it one can see."""
    if is_bytes < was_bytes:
        what = f"it was cut from {was_bytes} to {is_bytes} bytes"
    elif is_bytes > was_bytes:
        what = f"it grew from {was_bytes} to {is_bytes} bytes"
    else:
        what = "other bytes may be in it now"
    return UserError(
        f"{path}: this file changed while it was being read: {what}; put it back as it was, or train on a copy that "
        "nobody writes to"
    )


def first_line(error: Exception) -> str:
    """What an exception of another library says, in one line."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
