"""Endless data: partitions of records with offsets, kept by the embedded log or by Kafka.

Imports `spec` and the standard library; `confluent_kafka` only where a `kafka://` URL is opened. Begin with `stream`
(what a stream is), then `log` (the embedded log: `frames`, `marks`, `partition`), then `processing` (records in,
records out, each exactly once).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from springtide.data.streams.stream import (
    Away,
    Bounds,
    Damaged,
    Expired,
    Full,
    Record,
    Sealed,
    Stream,
    open_stream,
)

if TYPE_CHECKING:
    from springtide.data.streams.join import Join
    from springtide.data.streams.processing import Processed, process

__all__ = [
    "Away",
    "Bounds",
    "Damaged",
    "Expired",
    "Full",
    "Join",
    "Processed",
    "Record",
    "Sealed",
    "Stream",
    "open_stream",
    "process",
]


_LATER = {"Join": "join", "Processed": "processing", "process": "processing"}  # not needed by who only reads


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
