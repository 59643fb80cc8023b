"""The tables of the store, as numbered steps from an empty file to what this version reads."""

from __future__ import annotations

import sqlite3

from springtide.spec.errors import UserError

_FIRST = """
CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, team TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
    over INTEGER NOT NULL, number INTEGER NOT NULL UNIQUE, submitted_s REAL NOT NULL, submitted_by TEXT NOT NULL,
    spec TEXT NOT NULL, source TEXT, script TEXT, wish TEXT NOT NULL, pinned TEXT, revision INTEGER NOT NULL,
    version INTEGER NOT NULL, change INTEGER NOT NULL, course TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_alive ON jobs (name) WHERE over = 0;
CREATE INDEX jobs_name ON jobs (name, number);
CREATE INDEX jobs_change ON jobs (change);
CREATE TABLE replicas (
    job TEXT NOT NULL REFERENCES jobs, id TEXT NOT NULL, node TEXT NOT NULL, devices TEXT NOT NULL,
    step TEXT NOT NULL, revision INTEGER NOT NULL, since_s REAL NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (job, id)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_s REAL NOT NULL, team TEXT, job TEXT, job_id TEXT, kind TEXT NOT NULL,
    sentence TEXT NOT NULL
);
CREATE INDEX events_job ON events (job_id, id);
CREATE TABLE usage (
    hour INTEGER NOT NULL, team TEXT NOT NULL, job TEXT NOT NULL, resource TEXT NOT NULL, asked_s REAL NOT NULL,
    allocated_s REAL NOT NULL, used_s REAL NOT NULL, PRIMARY KEY (hour, team, job, resource)
) WITHOUT ROWID;
CREATE TABLE prices (since_s REAL PRIMARY KEY, core REAL NOT NULL, gpu REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, team TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL,
    made_by TEXT NOT NULL, made_s REAL NOT NULL, expires_s REAL, used_s REAL
) WITHOUT ROWID;
CREATE TABLE secrets (
    team TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, set_by TEXT NOT NULL, set_s REAL NOT NULL,
    PRIMARY KEY (team, name)
) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_s REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, team TEXT,
    job TEXT
);
CREATE TABLE answers (
    who TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    time_s REAL NOT NULL, PRIMARY KEY (who, key)
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)  # number n brings a file of version n to n + 1


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Brings the file to this version, each step whole or not at all. UserError: it is of a newer Springtide."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise UserError(
            f"{where} was written by a newer Springtide (schema {version}, this one reads up to {len(MIGRATIONS)}); "
            "install that version again, or set TIDE_HOME to another folder"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN EXCLUSIVE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
