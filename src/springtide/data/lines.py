"""CSV and JSON lines: an index of where each record begins is in memory (8 bytes a record), the records are not."""

from __future__ import annotations

import csv as csv_format
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from springtide.data.fields import PROBED, Fields
from springtide.data.files import File, PathLike, content, expand, remembered
from springtide.data.records import BadRecord, Records
from springtide.spec import UserError

_NEWLINE, _QUOTE = 10, 34


class Lines(Records):
    """Records that are lines of text files; a record may hold line breaks within quotes where `quotes`."""

    def __init__(self, files: list[File], fields: Fields, on_bad: str, quotes: bool, heading: bool) -> None:
        super().__init__(on_bad)
        self._files, self._heading = files, heading
        kept = [_index(file, quotes)[int(heading) :] for file in files]
        counts = [max(0, len(borders) - 1) for borders in kept]
        for file, count in zip(files, counts, strict=True):
            if count == 0:
                raise UserError(f"{file.path}: the file holds no records{' below its heading' if heading else ''}")
        self._ends = np.cumsum(counts)
        self._kept = kept
        self.fields = self._probe(fields)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, index: int) -> Any:
        number, place = self._find(index)
        values = self._values(number, place)
        return self.fields.sample(values.__getitem__, lambda: self._where(number, place))

    def _values(self, number: int, place: int) -> Mapping[str, Any]:
        raise NotImplementedError

    def _probe(self, fields: Fields) -> Fields:
        if not isinstance(fields.target, str):
            return fields
        seen = []
        for index in range(min(PROBED, len(self))):
            try:
                seen.append(self._values(*self._find(index))[fields.target])
            except BadRecord:
                continue
        return fields.typed(seen)

    def _fingerprint(self) -> str:
        return content(self._files, type(self).__name__, self.fields, self.on_bad)

    def _find(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)

    def _text(self, number: int, place: int) -> str:
        borders = self._kept[number]
        start, end = int(borders[place]), int(borders[place + 1])
        try:
            return self._files[number].read(start, end - start).decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise BadRecord(f"{self._where(number, place)}: the record is not UTF-8 text ({error.reason})") from None

    def _where(self, number: int, place: int) -> str:
        """`file:line`; the lines above are counted only now, because records may span lines or be blank."""
        start = int(self._kept[number][place])
        above = sum(block.count(b"\n") for block in self._files[number].blocks(start))
        return f"{self._files[number].path}:{above + 1}"


class CSV(Lines):
    def __init__(self, files: list[File], fields: Fields, on_bad: str, delimiter: str) -> None:
        self._delimiter = delimiter
        self.names = self._read_heading(files[0])
        for file in files[1:]:
            if (names := self._read_heading(file)) != self.names:
                raise UserError(f"{file.path}: the heading {names} differs from that of {files[0].path}, {self.names}")
        super().__init__(files, fields.known(self.names, files[0].path), on_bad, quotes=True, heading=True)

    def _read_heading(self, file: File) -> list[str]:
        if file.size_bytes == 0:
            raise UserError(f"{file.path}: the file is empty; a CSV file begins with the names of its columns")
        start, end = (int(border) for border in (*_borders(file, quotes=True, most=8), 0)[:2])
        try:
            text = file.read(start, max(0, end - start)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{file.path}:1: the heading is not UTF-8 text") from None
        names = [name.strip() for name in self._split(text)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{file.path}:1: column '{twice[0]}' is there twice; give each column a name of its own")
        return names

    def _split(self, text: str) -> list[str]:
        return next(csv_format.reader([text], delimiter=self._delimiter, strict=True), [])

    def _values(self, number: int, place: int) -> Mapping[str, Any]:
        text = self._text(number, place)
        try:
            row = self._split(text)
        except csv_format.Error as error:
            where = self._where(number, place)
            raise BadRecord(f'{where}: {error}; mend the quotes, or give on_bad="skip"') from None
        if len(row) != len(self.names):
            raise BadRecord(
                f"{self._where(number, place)}: {len(row)} values where the heading names {len(self.names)} columns; "
                'mend the record, or give on_bad="skip"'
            )
        return dict(zip(self.names, row, strict=True))


class JSONLines(Lines):
    def __init__(self, files: list[File], fields: Fields, on_bad: str) -> None:
        self._names: tuple[str, ...] = ()
        super().__init__(files, fields, on_bad, quotes=False, heading=False)

    def _probe(self, fields: Fields) -> Fields:
        found: Mapping[str, Any] = {}
        bad: BadRecord | None = None
        for index in range(min(PROBED, len(self))):
            try:
                found = self._values(*self._find(index))
                break
            except BadRecord as error:
                bad = bad or error
        if bad is not None and not found:
            raise bad
        fields = fields.known(found, self._files[0].path)
        self._names = (*fields.columns, *fields.targets(), *(each for each in (fields.text, fields.sequence) if each))
        return super()._probe(fields)

    def _values(self, number: int, place: int) -> Mapping[str, Any]:
        try:
            values = json.loads(self._text(number, place))
        except ValueError as error:
            raise BadRecord(
                f'{self._where(number, place)}: the line is not JSON ({error}); mend it, or give on_bad="skip"'
            ) from None
        if not isinstance(values, dict):
            raise BadRecord(f"{self._where(number, place)}: the line is not a JSON object ({{...}})")
        for name in self._names:
            if name not in values:
                raise BadRecord(f"{self._where(number, place)}: there is no '{name}' in this record")
        return values


def csv(
    path: PathLike | Sequence[PathLike],
    target: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    text: str | None = None,
    classes: Sequence[str] = (),
    target_type: str | None = None,
    missing: float | None = None,
    delimiter: str = ",",
    on_bad: str = "raise",
    disk_cache_bytes: int | None = None,
) -> CSV:
    """A CSV file with a heading (or several of one heading; `*` in the name is a pattern) as samples.

    A sample is a float32 vector of the `columns` (all but the target, if none are named), or the `text` of one column;
    with a `target`, the pair of that and the target: int64 if its first values are whole numbers, else float32
    (`target_type` decides), the index in `classes` for words, a float32 vector for several names. `missing` stands in
    for empty values. `disk_cache_bytes` limits what is kept on this machine of files that lie elsewhere. Raises
    `UserError` for what is missing, empty, unknown or corrupt; see `Records` for `on_bad`.
    """
    fields = Fields.of(columns, target, text, None, classes, target_type=target_type, missing=missing)
    return CSV(expand(path, "CSV file", disk_cache_bytes), fields, on_bad, delimiter)


def json_lines(
    path: PathLike | Sequence[PathLike],
    target: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    text: str | None = None,
    sequence: str | None = None,
    dtype: str = "float32",
    classes: Sequence[str] = (),
    target_type: str | None = None,
    missing: float | None = None,
    on_bad: str = "raise",
    disk_cache_bytes: int | None = None,
) -> JSONLines:
    """A file with one JSON object per line (or several files) as samples, as `csv` gives them.

    `sequence` names a list of numbers (nested or not) that becomes an array of type `dtype`.
    """
    fields = Fields.of(columns, target, text, sequence, classes, target_type=target_type, missing=missing, dtype=dtype)
    return JSONLines(expand(path, "JSON lines file", disk_cache_bytes), fields, on_bad)


def _index(file: File, quotes: bool) -> NDArray[np.int64]:
    """The borders of all records; of a remote file they are found once for all processes of this machine."""
    found = remembered([file], ("borders", quotes), lambda: _borders(file, quotes).astype("<i8").tobytes())
    return np.frombuffer(found, dtype="<i8").astype(np.int64, copy=False)


def _borders(file: File, quotes: bool, most: int | None = None) -> NDArray[np.int64]:
    """Where records begin, and last where the last one ends; a blank line belongs to the record above it.

    A line break within quotes ends no record: an even number of quotes stands before a border. In a file with an odd
    number of them a quote is missing somewhere; then each line is a record, so that only that one is bad.
    """
    found, inside, start = [np.zeros(1, dtype=np.int64)], 0, 0
    for block in file.blocks():
        data = np.frombuffer(block, dtype=np.uint8)
        breaks = np.flatnonzero(data == _NEWLINE)
        if quotes:
            marks = np.flatnonzero(data == _QUOTE)
            if marks.size or inside:
                breaks = breaks[(np.searchsorted(marks, breaks) + inside) % 2 == 0]
            inside = (inside + marks.size) % 2
        found.append(breaks + (start + 1))
        start += len(block)
        if most is not None and breaks.size > most:
            break
    else:
        if inside:
            return _borders(file, quotes=False, most=most)
    borders = np.concatenate(found)
    unended = start == file.size_bytes and borders[-1] != start
    if unended:
        borders = np.append(borders, start)
    ended_by_two = len(borders) > 1 and file.read(int(borders[1]) - 2, 2) == b"\r\n"
    holds = np.diff(borders) > (2 if ended_by_two else 1)
    if unended:
        holds[-1] = True
    return np.append(borders[:-1][holds], borders[-1])
