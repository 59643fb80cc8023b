"""Plain tables: columns as wide as their longest word. A pipe gets every word; on a terminal the last column is cut."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence

import click


def lines(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> list[str]:
    """The headers and rows in aligned columns; those whose header is in `right` are aligned to the right."""
    table = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            " " * (wide - width(cell)) + cell if header in right else cell + " " * (wide - width(cell))
            for header, cell, wide in zip(headers, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def show(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Print the table; columns in which nothing stands are left out."""
    kept = [at for at, _ in enumerate(headers) if any(row[at] not in ("", "-") for row in rows) or at == 0]
    found = lines([headers[at] for at in kept], [[row[at] for at in kept] for row in rows], right)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in found:
        click.echo(line if room is None else cut(line, room))


def cut(text: str, room: int) -> str:
    """The text, shortened to `room` columns of a terminal; an ellipsis says so."""
    if width(text) <= room:
        return text
    kept, used = [], 1
    for letter in text:
        used += width(letter)
        if used > room:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + "…" if room > 0 else ""


def width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
