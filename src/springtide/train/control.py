"""The control socket: one JSON object a line, both ways, over a Unix socket that only its user may open.

The launcher holds the listening end, so that nobody who calls while the supervisor is away is turned down: the call
waits.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from springtide.spec import SpringtideError

Message = dict[str, Any]
_LONGEST_BYTES = 64 << 20
_PATH_LIMIT = 100  # of the kernel's 108


def listen(path: Path) -> socket.socket:
    """The listening end, mode 0600; a socket that nobody owns any more is replaced."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _reachable(path) as name:
            server.bind(name)
    finally:
        os.umask(before)
    server.listen(64)
    server.set_inheritable(True)
    return server


def connect(path: Path, timeout_seconds: float | None = None) -> Channel:
    """A channel to the supervisor of the run whose socket lies at `path`."""
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.settimeout(timeout_seconds)
    with _reachable(path) as name:
        caller.connect(name)
    return Channel(caller)


class Channel:
    """One end of a conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._pending = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: Message) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, message: Message) -> Message | None:
        """Send, and wait for the answer; None when the other end is gone."""
        self.send(message)
        return self.receive()

    def receive(self) -> Message | None:
        """The next message; None at the end of the conversation."""
        while b"\n" not in self._pending:
            if not self._read():
                return None
        line, _, self._pending = self._pending.partition(b"\n")
        return _parse(line)

    def ready(self) -> list[Message] | None:
        """After the socket became readable: all whole messages; None when the other end is gone."""
        if not self._read():
            return None
        *lines, self._pending = self._pending.split(b"\n")
        return [_parse(line) for line in lines]

    def close(self) -> None:
        self.socket.close()

    def _read(self) -> bool:
        try:
            found = self.socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        self._pending += found
        if len(self._pending) > _LONGEST_BYTES:
            raise SpringtideError(f"a message of more than {_LONGEST_BYTES >> 20} MiB came over the control socket")
        return bool(found)


def _parse(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    return message if isinstance(message, dict) else {"do": "nonsense"}


class _reachable:
    """A name by which a socket can be bound or called: through /proc where the path itself is too long for the
    kernel.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, -1

    def __enter__(self) -> str:
        if len(str(self._path)) <= _PATH_LIMIT:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)
