"""Files wherever fsspec finds them, by path or URL: any part of one can be read, and what it holds has a name."""

from __future__ import annotations

import difflib
import functools
import getpass
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from springtide.data.cache import Cache, Limit, name_of
from springtide.data.sources import Local, Remote, Source, first_line
from springtide.spec import SpringtideError, UserError
from springtide.spec.home import home

PathLike = str | os.PathLike[str]

WHOLE_BYTES = 256 << 20  # files up to this size are hashed whole
PARTS = 256
PART_BYTES = 256 << 10
READ_BYTES = 4 << 20
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "webhdfs": "hdfs",
    "webHDFS": "hdfs",
}  # protocol -> springtide[...]
_TIME_LIMIT_S = (10.0, 120.0)  # to connect, and for the next bytes, where the package itself would wait for ever
_PORT = 9870  # of a name node since Hadoop 3


class File:
    """One file, local or remote, of which any part can be read.

    `about` is what the file system said of a remote one, if it was asked already. `disk_cache_bytes` limits what is
    kept of remote files on this machine's disk (see `cache`). Raises `UserError` where there is no such file.
    """

    def __init__(
        self,
        path: PathLike,
        what: str = "file",
        *,
        about: Mapping[str, Any] | None = None,
        disk_cache_bytes: int | None = None,
    ) -> None:
        self.url = os.fspath(path)
        self.path = shown(self.url)
        system, self.inner = resolve(self.url)
        self.local = isinstance(system, LocalFileSystem)
        try:
            with reaching(self.url, what):
                self.source: Source = self._opened(system, about, what, disk_cache_bytes)
        except FileNotFoundError:
            raise UserError(f"{self.path}: there is no such {what}{_near(system, self.inner)}") from None
        self.size_bytes = self.source.size_bytes

    def _opened(self, system: Any, about: Mapping[str, Any] | None, what: str, disk_cache_bytes: int | None) -> Source:
        if self.local:
            is_folder = stat.S_ISDIR(Path(self.inner).stat().st_mode)
        else:
            about = about or system.info(self.inner)
            is_folder = about["type"] == "directory"
        if is_folder:
            raise UserError(f"{self.path}: this is a folder; give the path of a {what}")
        if self.local:
            return Local(self.inner)
        assert about is not None
        # A file in this process's own memory is near enough.
        limit = Limit(0) if isinstance(system, MemoryFileSystem) else Limit.of(disk_cache_bytes)
        return Remote(self.path, about, _cache(limit, home()), Opening(self.url))

    def read(self, start: int, length: int, keep: bool = True) -> bytes:
        """The bytes from `start`: `length` of them, or fewer at the end; with `keep=False` the cache does not grow.

        Raises `UserError` where the file is gone or has changed since it was opened.
        """
        return self.source.read(start, length, keep)

    def blocks(self, end: int | None = None) -> Iterable[bytes]:
        """The content up to `end`, in blocks."""
        end = self.size_bytes if end is None else end
        for start in range(0, end, READ_BYTES):
            yield self.read(start, min(READ_BYTES, end - start))

    def stream(self) -> io.RawIOBase:
        """The file for readers that seek and read."""
        return _Stream(self)


@contextmanager
def reaching(url: str, what: str) -> Iterator[None]:
    """Whatever a file system raises, in one sentence. FileNotFoundError is the caller's."""
    try:
        yield
    except (SpringtideError, FileNotFoundError):
        raise
    except PermissionError:
        raise UserError(f"{shown(url)}: this {what} may not be read by this user") from None
    except Exception as error:  # hosts, credentials: every protocol's package has its own
        raise SpringtideError(f"{shown(url)} cannot be reached: {first_line(error)}") from None


@functools.cache
def _cache(limit: Limit, place: Path) -> Cache:
    return Cache(limit, place / "cache" / "data")


class Opening:
    """A file system and a path in it, opened anew in each process."""

    def __init__(self, url: str) -> None:
        self._url, self._process = url, 0

    def __call__(self) -> tuple[Any, str]:
        if self._process != os.getpid():
            self._found, self._process = resolve(self._url), os.getpid()
        return self._found


class _Stream(io.RawIOBase):
    def __init__(self, file: File) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size_bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._file.size_bytes - self._at)
        data = self._file.read(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data


def resolve(url: str) -> tuple[Any, str]:
    """The file system that a path or URL names, and the path in it. Raises `UserError` where none is meant."""
    protocol = url.partition("://")[0] if "://" in url else "file"
    try:
        system, inner = fsspec.core.url_to_fs(url, **_given(protocol, url))
    except ImportError:
        extra, package = _EXTRAS.get(protocol), _package(protocol)
        right = f"pip install 'springtide[{extra}]'" if extra else f"pip install {package}"
        raise UserError(
            f"{shown(url)}: files at {protocol}:// are read by the package {package}, which is not here; {right}"
        ) from None
    except (ValueError, TypeError, OSError) as error:
        raise UserError(_unresolved(protocol, url, error)) from None
    if protocol.lower() == "webhdfs":
        _limit_time(system)
    return system, str(inner)


def _given(protocol: str, url: str) -> dict[str, Any]:
    """What Hadoop's own clients take for granted of a name node, and fsspec does not: its port, and who asks."""
    if protocol.lower() != "webhdfs" or "::" in url:
        return {}
    host = url.partition("://")[2].partition("/")[0]
    given: dict[str, Any] = {} if re.search(r":\d+$", host) else {"port": _PORT}
    if "@" not in host and not fsspec.config.conf.get("webhdfs"):
        given["user"] = os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
    return given


def _limit_time(system: Any) -> None:
    if not isinstance(system.session.request, functools.partial):
        system.session.request = functools.partial(system.session.request, timeout=_TIME_LIMIT_S)


def _unresolved(protocol: str, url: str, error: Exception) -> str:
    match protocol.lower():
        case "hdfs":
            right = "write webhdfs://HOST:9870/PATH, which needs none"
            return f"{shown(url)}: Hadoop's native library is not here ({first_line(error)}); {right}"
        case "webhdfs":
            return f"{shown(url)}: this names no host that could be asked; write webhdfs://HOST:9870/PATH"
        case _ if protocol not in fsspec.available_protocols():
            known = [name for name in fsspec.available_protocols() if len(name) > 1]
            return f"{shown(url)}: no storage is called {protocol}://{nearest(protocol, known)}"
        case _:
            return f"{shown(url)}: {first_line(error)}"


def _package(protocol: str) -> str:
    """The package behind a protocol, from what fsspec says of it."""
    if protocol.lower() == "webhdfs":
        return "requests"
    known = known_implementations.get(protocol, {}).get("class", protocol)
    return str(known).partition(".")[0]


def shown(url: str) -> str:
    """A URL as it may be seen: without who asks, and his password."""
    return re.sub(r"://[^/@]*@", "://", url)


def content(files: Sequence[File], *more: object) -> str:
    """Sixteen hexadecimal digits for what the files hold, and for `more`: whole up to 256 MB, else 256 spread parts.

    Where they lie does not matter.
    """
    return remembered(files, ("content", *more), lambda: _content(files, *more).encode()).decode()


def _content(files: Sequence[File], *more: object) -> str:
    digest = hashlib.blake2b(repr(more).encode(), digest_size=8)
    for file in files:
        digest.update(file.size_bytes.to_bytes(8, "little"))
        if file.size_bytes <= WHOLE_BYTES:
            for block in file.blocks():
                digest.update(block)
        else:
            for part in range(PARTS):
                start = part * (file.size_bytes - PART_BYTES) // (PARTS - 1)
                digest.update(file.read(start, PART_BYTES, keep=False))
    return digest.hexdigest()


def remembered(files: Sequence[File], what: Sequence[object], compute: Callable[[], bytes]) -> bytes:
    """What `compute` makes of remote files, kept beside their blocks: it is the same as long as they are."""
    sources = [file.source for file in files if isinstance(file.source, Remote) and file.source.kept]
    if not sources or len(sources) != len(files):
        return compute()
    cache = sources[0].cache
    name = name_of(*what, *(source.name().hex() for source in sources))
    found = cache.read(name)
    if found is None:
        with cache.claim(name) as claim:
            found = cache.read(name)
            if found is None:
                found = compute()
                if claim is not None:
                    claim.keep(found)
    return found


def expand(path: PathLike | Sequence[PathLike], what: str, disk_cache_bytes: int | None = None) -> list[File]:
    """The files that `path` names: one, several, or all that fit a pattern with `*`, in the order of their names."""
    if not isinstance(path, str | os.PathLike):
        files = [file for each in path for file in expand(each, what, disk_cache_bytes)]
        if not files:
            raise UserError(f"no {what} was given: the list of paths is empty")
        return files
    name = os.fspath(path)
    if "*" not in name:
        return [File(name, what, disk_cache_bytes=disk_cache_bytes)]
    system, inner = resolve(name)
    with reaching(name, what):
        found = system.glob(inner, detail=True)
    if not found:
        raise UserError(f"{shown(name)}: no {what} fits this pattern")
    # The host stands in the URL only: a file system gives paths without it.
    prefix = name.removesuffix(inner) if "://" in name and name.endswith(inner) else None
    urls = {each: prefix + each if prefix is not None else each for each in sorted(found)}
    if prefix is None and "://" in name:
        urls = {each: system.unstrip_protocol(each) for each in sorted(found)}
    return [File(url, what, about=found[each], disk_cache_bytes=disk_cache_bytes) for each, url in urls.items()]


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
    except Exception:  # whatever the protocol's package raises: this is only a hint
        return ", nor a folder for it"
    close = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else f" in {folder or '/'}"
