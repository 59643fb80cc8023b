"""CSV files, plain or gzipped, row by row; what is wrong with one is said with its file and line."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `row["column"]` is its text; the other methods read numbers of it."""

    path: Path
    line: int
    columns: dict[str, int]
    cells: Sequence[str]

    def __getitem__(self, column: str) -> str:
        return self.cells[self.columns[column]]

    def get(self, column: str, otherwise: str = "") -> str:
        """The text, or `otherwise` where the file has no such column or it is empty."""
        at = self.columns.get(column)
        return (self.cells[at] or otherwise) if at is not None else otherwise

    def number(self, column: str, otherwise: float | None = None, least: float = 0.0) -> float:
        """A finite number of at least `least`; `otherwise` where it is empty and that is given."""
        text = self.get(column)
        if not text and otherwise is not None:
            return otherwise
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(column, f'"{text}" is no number') from None
        if not math.isfinite(value):
            raise self.wrong(column, f'"{text}" is no finite number')
        if value < least:
            what = "is negative" if value < 0 and least == 0 else f"is less than {least:g}"
            raise self.wrong(column, f"{text} {what}; write {least:g} or more")
        return value

    def moment(self, column: str) -> float:
        """Seconds since 1970 of a date and time (as in ISO 8601, UTC where no zone is said)."""
        text = self[column]
        try:
            if "." in text:  # some write seven digits behind the point, one more than datetime takes
                whole, _, fraction = text.partition(".")
                digits = fraction.rstrip("Z")
                return _seconds(whole) + float(f"0.{digits}")
            return _seconds(text)
        except ValueError:
            raise self.wrong(column, f'"{text}" is no date and time; write 2017-10-09 07:01:55') from None

    def wrong(self, column: str, what: str) -> UserError:
        """An error about this cell."""
        return UserError(f"{self.path}:{self.line}: {column}: {what}")


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)).total_seconds()


def rows(path: Path, needed: Sequence[str], known: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows below the header, which must have the columns `needed`, and only `known` ones where that is given.

    Raises UserError: no such file, a missing or unknown column, a short line, a file that is empty or cut off.
    """
    with _opened(path) as file:
        lines = _lines(path, file)
        head = next(lines, None)
        if not head or not any(head[1]):
            raise UserError(f"{path}: the file is empty; a first line with the names of the columns is needed")
        columns = _checked(path, [name.strip().lstrip("\ufeff") for name in head[1]], needed, known)
        some = False
        for number, cells in lines:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{path}:{number}: {len(cells)} values stand under {len(columns)} columns; "
                    "the line is cut or a comma is missing"
                )
            some = True
            yield Row(path, number, columns, cells)
        if not some:
            raise UserError(f"{path}: nothing stands below the names of the columns; at least one line is needed")


def header(path: Path) -> list[str]:
    """The names of a file's columns."""
    with _opened(path) as file:
        first = next(_lines(path, file), (1, []))[1]
        if not first:
            raise UserError(f"{path}: the file is empty; a first line with the names of the columns is needed")
        return [name.strip().lstrip("\ufeff") for name in first]


def _checked(path: Path, names: list[str], needed: Sequence[str], known: Sequence[str] | None) -> dict[str, int]:
    if missing := [name for name in needed if name not in names]:
        raise UserError(
            f"{path}:1: there is no column {missing[0]}; needed are {', '.join(needed)}, found {', '.join(names)[:200]}"
        )
    if known is not None:
        for name in names:
            if name not in known:
                hint = nearest(name, known) or f"; known are {', '.join(known)}"
                raise UserError(f'{path}:1: unknown column "{name}"{hint}')
    return {name: at for at, name in enumerate(names)}


def _opened(path: Path) -> IO[str]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        if packed:
            return gzip.open(path, "rt", encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _lines(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    number = 0
    reader = csv.reader(file)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UserError(f"{path}:{number + 1}: the gzip file is cut off here; copy it again") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}:{number + 1}: this is no text in UTF-8") from None
        except csv.Error as error:
            raise UserError(f"{path}:{number + 1}: this is no CSV: {error}") from None
        number = reader.line_num
        yield number, cells
