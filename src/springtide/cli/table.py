"""Plain tables: columns as wide as their longest word, nothing cut off, so that a pipe gets what a person sees."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def lines(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> list[str]:
    """The headers and rows in aligned columns; those whose header is in `right` are aligned to the right."""
    table = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            " " * (width - _width(cell)) + cell if header in right else cell + " " * (width - _width(cell))
            for header, cell, width in zip(headers, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
