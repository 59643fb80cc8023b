"""Endless data: partitions of records with offsets, kept by the embedded log or by Kafka.

Imports `spec` and the standard library; `confluent_kafka` only where a `kafka://` URL is opened. Begin with `stream`
(what a stream is), then `log` (the embedded log: `frames`, `marks`, `partition`), then `processing` (records in,
records out, each exactly once).
"""

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

__all__ = ["Away", "Bounds", "Damaged", "Expired", "Full", "Record", "Sealed", "Stream", "open_stream"]
