"""A file that grows, read by whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class Tail:
    """Remembers how far it has been read; a file that is not there yet has no lines."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def lines(self) -> Iterator[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                found = file.read()
        except FileNotFoundError:
            return
        whole, newline, _ = found.rpartition(b"\n")
        self._at += len(whole) + len(newline)
        if newline:
            yield from whole.decode(errors="replace").split("\n")
