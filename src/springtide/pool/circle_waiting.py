"""Sleeping until something appears in one of a few folders (inotify), or until a time has passed."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path
from types import TracebackType

_MOVED_TO, _CREATED, _CHANGED = 0x80, 0x100, 0x8
_libc = ctypes.CDLL(None, use_errno=True)


class Folders:
    """Wakes when a file or folder is put into one of them."""

    def __init__(self) -> None:
        self._handle = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watched: dict[Path, int] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in (self._handle, self._wake_read, self._wake_write):
            if handle >= 0:
                os.close(handle)

    def watch(self, *folders: Path) -> None:
        """These and no others from now on; one that is not there wakes nobody."""
        for gone in self._watched.keys() - set(folders):
            _libc.inotify_rm_watch(self._handle, self._watched.pop(gone))
        for folder in folders:
            if folder not in self._watched and self._handle >= 0:
                mask = _MOVED_TO | _CREATED | _CHANGED
                found = _libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
                if found >= 0:
                    self._watched[folder] = found

    def wake(self) -> None:
        """From a signal handler: whoever waits goes on."""
        os.write(self._wake_write, b".")

    def wait(self, timeout_s: float) -> None:
        """Until something appears, somebody calls `wake`, or the time is over."""
        handles = [handle for handle in (self._handle, self._wake_read) if handle >= 0]
        ready, _, _ = select.select(handles, [], [], max(0.0, timeout_s))
        for handle in ready:
            while _read(handle):
                pass


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except BlockingIOError:
        return b""
