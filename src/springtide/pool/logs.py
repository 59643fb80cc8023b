"""What a job's replicas wrote, from the files that their shims keep."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.local import logs as files
from springtide.pool.records import JobRecord
from springtide.pool.refusals import Unknown
from springtide.spec.job import Kind

_LOOK_S = 0.5  # between looks for replicas that are new, and for the end of the job
_IDLE_LOOKS = 4
_MOST_WAITING = 1000  # lines that were read and not fetched yet


@dataclass(frozen=True, slots=True)
class Logs:
    """Below `folder` there is one folder for each job, with one log for each replica."""

    folder: Path

    def tail(self, record: JobRecord, replica: str | None, lines: int) -> list[str]:
        """The last lines of one replica, or of each; of training those of the newest try."""
        mark = replica is None and _many(record)
        return [
            _marked(name, line, mark)
            for name in self._wanted(record, replica)
            for line in files.tail(self._of(record), name, lines)
        ]

    def follow(
        self, record: JobRecord, replica: str | None, lines: int, stop: threading.Event, over: Callable[[], bool]
    ) -> Iterator[list[str]]:
        """The last lines and each that follows, some at a time, until the job is over or `stop` is set.

        Now and then nothing at all comes, so that whoever asks can look after other things.
        """
        waiting: queue.Queue[str] = queue.Queue(_MOST_WAITING)
        mark, wanted = replica is None and _many(record), self._wanted(record, replica)
        known = set(files.replicas(self._of(record))) - set(wanted)
        first, readers, idle = frozenset(wanted), list[threading.Thread](), 0
        try:
            while not stop.is_set():
                if replica is None:
                    wanted = [name for name in files.replicas(self._of(record)) if name not in known]
                for name in wanted:
                    if name not in known:
                        known.add(name)
                        count = lines if name in first else None  # of who came later, all
                        words = (self._of(record), name, count, mark, waiting, stop)
                        readers.append(threading.Thread(target=_read, args=words, daemon=True))
                        readers[-1].start()
                ended = over()
                found = _taken(waiting)
                yield found
                idle = 0 if found else idle + 1
                # A log whose writer died has no end that could be waited for.
                if ended and idle > (_IDLE_LOOKS if any(one.is_alive() for one in readers) else 0):
                    return
        finally:
            stop.set()

    def _of(self, record: JobRecord) -> Path:
        return self.folder / record.id

    def _wanted(self, record: JobRecord, replica: str | None) -> list[str]:
        names = files.replicas(self._of(record))
        if replica is None:
            return names[-1:] if record.job.kind == Kind.TRAINING else names
        if replica not in names:
            there = f"there are {', '.join(names[-10:])}" if names else "nothing of it has been written yet"
            raise Unknown(f'{record.name} has no log of a replica "{replica[:80]}"; {there}')
        return [replica]


def _read(
    folder: Path, name: str, lines: int | None, mark: bool, waiting: queue.Queue[str], stop: threading.Event
) -> None:
    for line in files.follow(folder, name, stop, lines):
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(_marked(name, line, mark), timeout=_LOOK_S)
                break


def _taken(waiting: queue.Queue[str]) -> list[str]:
    found = []
    with contextlib.suppress(queue.Empty):
        found.append(waiting.get(timeout=_LOOK_S))
        while len(found) < _MOST_WAITING:
            found.append(waiting.get_nowait())
    return found


def _many(record: JobRecord) -> bool:
    return record.job.kind != Kind.TRAINING and record.range.maximum > 1


def _marked(name: str, line: str, mark: bool) -> str:
    return f"{name} | {line}" if mark else line
