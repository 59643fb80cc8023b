"""How an embedded log is kept: `log.json` beside its partitions, read when the log is opened."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

NAME = "log.json"
MOST_PARTITIONS = 256
_SEGMENT_BYTES = 64 << 20
_LEAST_SEGMENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """`sync_s`: what is appended is on the disk after so long; 0: when `append` returns; None: when the kernel likes.

    Retention None: nothing is ever removed.
    """

    sync_s: float | None = 0.01
    segment_bytes: int = _SEGMENT_BYTES
    retain_bytes: int | None = None  # of one partition
    retain_s: float | None = None
    identity: str = ""


def parse(text: str, where: str) -> Settings:
    """`{"sync": "10ms", "segment": "64MiB", "retain_bytes": "10GB", "retain": "7d"}`; each may be left out."""
    try:
        told = json.loads(text)
    except ValueError as error:
        raise UserError(f'{where}: {error}; write {{"sync": "10ms", "segment": "64MiB"}}') from None
    if not isinstance(told, dict):
        raise UserError(f'{where}: there is no object; write {{"sync": "10ms", "segment": "64MiB"}}')
    for name in told:
        if name not in _FIELDS:
            hint = nearest(name, _FIELDS) or f"; there are {', '.join(_FIELDS)}"
            raise UserError(f'{where}: "{name}" is no setting of a log{hint}')
    return Settings(
        sync(told.get("sync", "10ms"), f"{where}: sync"),
        max(_LEAST_SEGMENT_BYTES, _size(told.get("segment", _SEGMENT_BYTES), f"{where}: segment") or 0),
        _size(told.get("retain_bytes"), f"{where}: retain_bytes"),
        None if told.get("retain") is None else quantities.duration(str(told["retain"]), f"{where}: retain"),
        str(told.get("identity", "")),
    )


_FIELDS = ("sync", "segment", "retain_bytes", "retain", "identity")


def sync(text: Any, where: str = "sync") -> float | None:
    """Seconds within which appends share a sync: "each" is 0, "os" None."""
    if text in ("each", "os"):
        return 0.0 if text == "each" else None
    try:
        return quantities.duration(str(text), where)
    except UserError:
        raise UserError(f'{where}: "{text}" is no sync policy; write each, os, or a time such as 10ms') from None


def _size(told: Any, where: str) -> int | None:
    return told if told is None or isinstance(told, int) else quantities.size(str(told), where)


def load(folder: Path) -> Settings | None:
    """None: there is no log in that folder. Raises UserError."""
    path = folder / NAME
    try:
        return parse(path.read_text(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_new(folder: Path, sync_policy: str) -> None:
    """Write the settings of a new log: complete or absent."""
    aside = folder / f".{NAME}"
    told = {"sync": sync_policy, "segment": "64MiB", "identity": secrets.token_hex(8)}
    with aside.open("w") as file:
        file.write(json.dumps(told) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / NAME)
