"""How the notes in a sink name what was processed: processor, source, partition of the source."""

from __future__ import annotations


def producer(name: str, source: str, partition: int) -> str:
    """One line of a note; `name` holds no `|`."""
    return f"{name}|{source}|{partition}"


def parse(text: str) -> tuple[str, str, int]:
    """Name, source and partition of `producer`."""
    name, _, rest = text.partition("|")
    source, _, partition = rest.rpartition("|")
    return name, source, int(partition)
