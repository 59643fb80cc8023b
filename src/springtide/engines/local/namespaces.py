"""What a child gives up before it becomes a program: the view of public folders, and ever gaining rights again."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_CLONE_NEWNS = 0x0002_0000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
_PR_SET_NO_NEW_PRIVS = 38


def private_folders(own: Path, public: Sequence[Path], shown: Sequence[Path] = ()) -> None:
    """This process and its children see `own` at each of `public`; of what was there only the folders `shown` stay.

    Root only, one thread only. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise _failed("a mount namespace")
    _mount(libc, "none", "/", _MS_REC | _MS_PRIVATE)
    hidden = [folder for folder in shown if any(folder.is_relative_to(each) for each in public)]
    # Opened while they are visible: a descriptor leads to its folder also once something is mounted above it.
    doors = [os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in hidden]
    source = os.open(own, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for each in public:
        _mount(libc, f"/proc/self/fd/{source}", str(each), _MS_BIND)
    for folder, door in zip(hidden, doors, strict=True):
        _place(folder, next(each for each in public if folder.is_relative_to(each)))
        _mount(libc, f"/proc/self/fd/{door}", str(folder), _MS_BIND | _MS_REC)
    for descriptor in (source, *doors):
        os.close(descriptor)


def _place(folder: Path, above: Path) -> None:
    """A folder to mount upon, below `above`, which others may write: what they put in the way is not walked through."""
    at = above
    for part in folder.relative_to(above).parts:
        at = at / part
        if not os.path.lexists(at):
            at.mkdir()
            at.chmod(0o755)
        found = at.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{at} is in the way of what is to be shown there")


def no_new_privileges() -> None:
    """No program that is run from here on gains rights by being set-uid. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _failed("giving up new privileges")


def _mount(libc: ctypes.CDLL, source: str, target: str, flags: int) -> None:
    if libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None):
        raise _failed(f"mounting {source} at {target}")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
