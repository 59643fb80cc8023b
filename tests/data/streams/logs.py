"""Embedded logs for tests: small segments, forked writers, and blows that a machine may deal to them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from springtide.data.streams import open_stream, segments
from springtide.data.streams.log import LogStream
from springtide.data.streams.marks import Marks, Word


def a_log(folder: Path, partitions: int = 1, **settings: object) -> LogStream:
    """A new log with these settings (`segment=...` is in bytes, at least 4096)."""
    LogStream(str(folder), create=True, partitions=partitions, sync="os").close()
    path = folder / "log.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return LogStream(str(folder))


def forked(work: Callable[[], object]) -> int:
    """A process that does it and ends; its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


def ended(pid: int) -> int:
    """Its exit code; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def last_segment(log: LogStream, partition: int = 0) -> Path:
    folder = log.folder / str(partition)
    return segments.path(folder, segments.bases(folder)[-1])


def restart_the_machine(log: LogStream, durable: int | None = None, partition: int = 0) -> LogStream:
    """What the words look like after that: of another boot, and perhaps not the newest. Opens the log anew."""
    row = Marks(log.folder).rows[partition]
    row[Word.BOOT] = 1
    if durable is not None:
        row[Word.DURABLE] = durable
    log.close()
    found = open_stream(log.url)
    assert isinstance(found, LogStream)
    return found


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))
