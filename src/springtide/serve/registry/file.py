"""The registry's file: its tables as numbered steps, and transactions that are on the disk when they end."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from springtide.spec.errors import SpringtideError, UserError

_BUSY_S = 30.0  # for which a writer waits for another
_FIRST = """
CREATE TABLE models (name TEXT PRIMARY KEY, rule TEXT, made_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
    name TEXT NOT NULL REFERENCES models, number INTEGER NOT NULL, stage TEXT NOT NULL, digest TEXT NOT NULL,
    build TEXT NOT NULL, config TEXT NOT NULL, metrics TEXT NOT NULL, lineage TEXT NOT NULL, inputs TEXT NOT NULL,
    created_s REAL NOT NULL, by TEXT NOT NULL, PRIMARY KEY (name, number), UNIQUE (name, digest)
) WITHOUT ROWID;
CREATE UNIQUE INDEX versions_production ON versions (name) WHERE stage = 'production';
CREATE UNIQUE INDEX versions_previous ON versions (name) WHERE stage = 'previous';
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, number INTEGER NOT NULL, action TEXT NOT NULL,
    by TEXT NOT NULL, time_s REAL NOT NULL, why TEXT NOT NULL, moves TEXT NOT NULL, before INTEGER,
    forced INTEGER NOT NULL
);
CREATE INDEX changes_name ON changes (name, id);
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, number INTEGER NOT NULL, time_s REAL NOT NULL,
    verdict TEXT NOT NULL
);
CREATE INDEX verdicts_version ON verdicts (name, number, id);
CREATE TABLE servers (
    name TEXT NOT NULL, admin TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL,
    PRIMARY KEY (name, admin)
) WITHOUT ROWID;
"""
_STEPS: tuple[str, ...] = (_FIRST,)  # number n brings a file of version n to n + 1


class File:
    """The path of the registry's file. Each transaction opens it anew, so threads and forks may share one object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SpringtideError(f"{path} cannot be used as the registry: {reason}") from None
        with self._opened() as rows:
            if self._version(rows) != len(_STEPS):
                with _alone(path.parent):  # two that turn a new file to WAL at once would turn each other away
                    rows.execute("PRAGMA journal_mode = WAL")
                    self._bring_up_to_date(rows)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Statements that see one state of the file."""
        with self._opened() as rows:
            rows.execute("BEGIN")
            yield rows

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on the disk when this ends, or nothing of it; one writer at a time, of all processes."""
        with self._opened() as rows:
            rows.execute("BEGIN IMMEDIATE")
            yield rows
            rows.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        rows = None
        try:
            rows = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            rows.execute("PRAGMA synchronous = FULL")
            yield rows
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise SpringtideError(f"{self.path} cannot be used as the registry: {error}; nothing was changed") from None
        finally:
            if rows is not None:
                rows.close()  # what was not committed is rolled back

    def _bring_up_to_date(self, rows: sqlite3.Connection) -> None:
        version = self._version(rows)
        if version > len(_STEPS):
            raise UserError(
                f"{self.path} was written by a newer Springtide (schema {version}, this one reads to {len(_STEPS)}); "
                "install that version again, or set TIDE_HOME to another folder"
            )
        for number in range(version, len(_STEPS)):
            rows.executescript(f"BEGIN IMMEDIATE; {_STEPS[number]} PRAGMA user_version = {number + 1}; COMMIT;")

    @staticmethod
    def _version(rows: sqlite3.Connection) -> int:
        return int(rows.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
