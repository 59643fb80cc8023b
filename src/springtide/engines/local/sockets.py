"""Listening sockets that outlive whoever made them: bound once, handed to replicas, taken back from one that lives."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from springtide.spec.errors import Refused

HOST = "127.0.0.1"
BACKLOG = 1024
_PIDFD_GETFD = 438
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1
_LISTEN = "0A"  # a state, in /proc/net/tcp
_libc = ctypes.CDLL(None, use_errno=True)


def bind(port: int, host: str = HOST) -> socket.socket:
    """A socket that listens. Refused: who holds the port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise Refused(_why_not(port, host, error)) from None
    return server


def _why_not(port: int, host: str, error: OSError) -> str:
    holders = holding(port)
    if holders:
        return f"port {port} of {host} is in use by {_told(holders[0])}; end that, or give the service another port"
    return f"port {port} of {host} cannot be listened on: {error.strerror}; give the service another port"


def _told(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        command = "a process"
    return f"{command} (pid {pid})"


def free(port: int, host: str = HOST) -> None:
    """Refused: the port cannot be had, and who holds it."""
    bind(port, host).close()


def holding(port: int) -> list[int]:
    """Processes that listen on a port, as far as this user may see them."""
    inodes = _listening(port)
    if not inodes:
        return []
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and any(inode in inodes for _, inode in _sockets(int(entry.name))):
            found.append(int(entry.name))
    return sorted(found)


def take(port: int, pids: Iterable[int]) -> socket.socket | None:
    """The listening socket of a port, duplicated out of one of these processes; None: none of them holds it."""
    inodes = _listening(port)
    for pid in pids:
        for descriptor, inode in _sockets(pid):
            if inode in inodes and (own := _duplicated(pid, descriptor)) is not None:
                return socket.socket(fileno=own)
    return None


def let_siblings_take() -> None:
    """In a child before it becomes the program: where the kernel lets only parents look into processes (Yama), the next
    shim, which is not its parent, still has to get the service's socket out of it.
    """
    _libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY & (1 << 64) - 1), 0, 0, 0)


def _duplicated(pid: int, descriptor: int) -> int | None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        own = int(_libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0))
    finally:
        os.close(pidfd)
    return own if own >= 0 else None


def _listening(port: int) -> set[int]:
    """Inodes of the sockets that listen on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(int(fields[9]))
    return found


def _sockets(pid: int) -> list[tuple[int, int]]:
    """(descriptor, inode) of each socket of a process."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = str(Path(entry.path).readlink())
                if target.startswith("socket:["):
                    found.append((int(entry.name), int(target[8:-1])))
    return found
