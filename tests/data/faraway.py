"""A file system that stands for one far away: files of a folder, where each request for bytes is written down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

ROOT = "FARAWAY_ROOT"  # the environment variable that names the folder; requests are noted beside it
SLOW = "FARAWAY_DELAY_S"


class Faraway(AbstractFileSystem):
    """`faraway://name`: read only; versions are told by inode and time."""

    protocol = "faraway"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("faraway://").strip("/")

    def _local(self, path: str) -> Path:
        return Path(os.environ[ROOT]) / self._strip_protocol(path).strip("/")

    def info(self, path: str, **given: Any) -> dict[str, Any]:
        found = self._local(path)
        about = found.stat()
        kind = "directory" if found.is_dir() else "file"
        stamp = f"{about.st_ino}-{about.st_mtime_ns}"
        return {"name": self._strip_protocol(path), "size": about.st_size, "type": kind, "etag": stamp}

    def ls(self, path: str, detail: bool = True, **given: Any) -> list[Any]:
        folder = self._strip_protocol(path).rstrip("/")
        found = [self.info(f"{folder}/{each.name}") for each in sorted(self._local(path).iterdir())]
        return found if detail else [each["name"] for each in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **given: Any) -> bytes:
        note(f"{self._strip_protocol(path)} {start} {end}")
        time.sleep(float(os.environ.get(SLOW, "0")))
        if trouble := Path(os.environ[ROOT] + ".trouble").exists():
            Path(os.environ[ROOT] + ".trouble").unlink()
        data = self._local(path).read_bytes()[start:end]
        return data[: len(data) // 2] if trouble else data


def note(text: str) -> None:
    descriptor = os.open(os.environ[ROOT] + ".requests", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def requests() -> list[tuple[str, int, int]]:
    """What was asked for: path, start, end."""
    try:
        lines = Path(os.environ[ROOT] + ".requests").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(path, int(start), int(end)) for path, start, end in (line.split() for line in lines)]


def forget() -> None:
    Path(os.environ[ROOT] + ".requests").unlink(missing_ok=True)


fsspec.register_implementation("faraway", Faraway, clobber=True)
