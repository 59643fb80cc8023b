"""Which streams there are, and how full they are: for `tide stream`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from springtide.data.streams import segments, settings
from springtide.data.streams.log import LogStream
from springtide.data.streams.notes import parse
from springtide.data.streams.stream import Stream, open_stream
from springtide.spec.errors import SpringtideError, UserError

_DEPTH = 5


def streams(url: str) -> list[dict[str, Any]]:
    """Logs below a folder (`log:///srv`), or topics of a broker (`kafka://host:9092`). Raises UserError, `Away`."""
    scheme, _, rest = url.partition("://")
    match scheme:
        case "log":
            names = [f"log://{folder}" for folder in _logs(Path(rest), _DEPTH)]
        case "kafka":
            from springtide.data.streams import kafka

            names = kafka.topics(rest)
        case _:
            raise UserError(f"{url}: streams are listed below log:///folder or at kafka://host:9092")
    found = []
    for name in sorted(names):
        opened = open_stream(name)
        bounds = opened.bounds().values()
        opened.close()
        records = sum(one.end - one.first for one in bounds)
        sealed = all(one.sealed for one in bounds)
        found.append({"url": name, "partitions": len(bounds), "records": records, "sealed": sealed})
    return found


def _logs(folder: Path, depth: int) -> list[Path]:
    if (folder / settings.NAME).exists():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    try:
        below = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [found for one in below for found in _logs(one, depth - 1)]


def stat(url: str) -> dict[str, Any]:
    """Partitions and, where `processing` writes into this stream, how many records each processor has before it."""
    opened = open_stream(url)
    try:
        sizes = _sizes(opened) if isinstance(opened, LogStream) else {}
        partitions = [
            {
                "partition": at, "first": one.first, "end": one.end, "bytes": sizes.get(at), "sealed": one.sealed,
            }
            for at, one in sorted(opened.bounds().items())
        ]  # fmt: skip
        return {"url": url, "partitions": partitions, "processors": _processors(opened)}
    finally:
        opened.close()


def _sizes(log: LogStream) -> dict[int, int]:
    found = {}
    for partition in log.partitions():
        files = [segments.path(partition.folder, base) for base in segments.bases(partition.folder)]
        found[partition.number] = sum(file.stat().st_size for file in files if file.exists())
    return found


def _processors(opened: Stream) -> list[dict[str, Any]]:
    """By processor and source: the sum of its positions, and the records of the source that it has not seen."""
    if not isinstance(opened, LogStream):
        return []
    positions: dict[tuple[str, str], dict[int, int]] = {}
    for notes in opened.positions().values():
        for producer, position in notes.items():
            name, source, partition = parse(producer)
            known = positions.setdefault((name, source), {})
            known[partition] = max(position, known.get(partition, 0))
    return [
        {"name": name, "source": source, "position": sum(known.values()), "lag": _lag(source, known)}
        for (name, source), known in sorted(positions.items())
    ]


def _lag(source: str, positions: dict[int, int]) -> int | None:
    """None: the source cannot be asked."""
    try:
        opened = open_stream(source)
        bounds = opened.bounds()
        opened.close()
    except SpringtideError:
        return None
    return sum(max(0, one.end - max(one.first, positions.get(at, one.first))) for at, one in bounds.items())
