"""Parquet files: row groups are decoded when a sample of theirs is asked for, and kept while they fit."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

# Arrow's allocator would start a thread when it is imported, and a nursery with threads cannot fork.
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")

import pyarrow
from pyarrow import parquet as parquet_format

from springtide.data.fields import PROBED, Fields
from springtide.data.files import File, PathLike, content, expand
from springtide.data.records import Records
from springtide.spec import UserError

Columns = dict[str, Any]  # name -> a numpy array of numbers, or an arrow array of anything else


class Parquet(Records):
    """Rows of Parquet files; at most `cache_bytes` of decoded row groups are in memory, the last used ones."""

    def __init__(self, files: list[File], fields: Fields, on_bad: str, cache_bytes: int) -> None:
        super().__init__(on_bad)
        self._files, self._cache_bytes = files, cache_bytes
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        counts = []
        schema = None
        for number, file in enumerate(files):
            opened = self._open(file)
            if schema is not None and not opened.schema_arrow.equals(schema):
                raise UserError(f"{file.path}: its columns differ from those of {files[0].path}")
            schema = opened.schema_arrow
            for group in range(opened.num_row_groups):
                self._groups.append((number, group))
                counts.append(opened.metadata.row_group(group).num_rows)
        self._ends = np.cumsum(counts, dtype=np.int64)
        if not counts or self._ends[-1] == 0:
            raise UserError(f"{files[0].path}: the file holds no rows")
        self._opened: dict[int, Any] = {}
        self._process = 0
        self._cache: OrderedDict[int, Columns] = OrderedDict()
        self._held_bytes = 0
        assert schema is not None
        self.fields = fields.known(schema.names, files[0].path)
        self._names = list(
            dict.fromkeys(
                name
                for name in (*self.fields.columns, *self.fields.targets(), self.fields.text, self.fields.sequence)
                if name is not None
            )
        )
        if isinstance(self.fields.target, str) and (kind := schema.field(self.fields.target).type):
            self.fields = self._typed(kind)

    def _typed(self, kind: Any) -> Fields:
        assert isinstance(self.fields.target, str)
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind):
            return self.fields.typed([0])
        if pyarrow.types.is_floating(kind):
            return self.fields.typed([0.5])
        values = self._columns(0)[self.fields.target]
        return self.fields.typed([_plain(values[i]) for i in range(min(PROBED, len(values)))])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, index: int) -> Any:
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[group - 1]) if group else 0)
        columns = self._columns(group)
        return self.fields.sample(lambda name: _plain(columns[name][row]), lambda: self._where(group, row))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples, read row group by row group, so that each is decoded once."""
        by_place = {index: self[index] for index in sorted(indices)}
        return [by_place[index] for index in indices]

    def _where(self, group: int, row: int) -> str:
        number = self._groups[group][0]
        first = next(i for i, (file, _) in enumerate(self._groups) if file == number)
        above = int(self._ends[group - 1]) - (int(self._ends[first - 1]) if first else 0) if group > first else 0
        return f"{self._files[number].path}: row {above + row + 1}"

    def _columns(self, group: int) -> Columns:
        if self._process != os.getpid():  # open files do not cross a fork, what is decoded does
            self._opened, self._process = {}, os.getpid()
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        number, part = self._groups[group]
        if number not in self._opened:
            self._opened[number] = self._open(self._files[number])
        try:
            table = self._opened[number].read_row_group(part, columns=self._names, use_threads=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{self._files[number].path}: row group {part} is damaged: {_words(error)}") from None
        columns = {name: _decoded(table.column(name)) for name in self._names}
        self._cache[group] = columns
        self._held_bytes += _size(columns)
        while self._held_bytes > self._cache_bytes and len(self._cache) > 1:
            self._held_bytes -= _size(self._cache.popitem(last=False)[1])
        return columns

    def _open(self, file: File) -> Any:
        if file.size_bytes == 0:
            raise UserError(f"{file.path}: the file is empty")
        try:
            return parquet_format.ParquetFile(file.stream(), pre_buffer=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{file.path}: this is not a whole Parquet file: {_words(error)}") from None

    def _fingerprint(self) -> str:
        return content(self._files, type(self).__name__, self.fields, self.on_bad)


def parquet(
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
    cache_bytes: int = 256 << 20,
    disk_cache_bytes: int | None = None,
) -> Parquet:
    """Rows of a Parquet file (or several of one schema; `*` is a pattern) as samples, as `json_lines` gives them.

    A random order touches all row groups: data whose columns, decoded, take more than `cache_bytes` in each worker is
    decoded over and over; raise it, or keep such data as `.npy`.
    """
    fields = Fields.of(columns, target, text, sequence, classes, target_type=target_type, missing=missing, dtype=dtype)
    return Parquet(expand(path, "Parquet file", disk_cache_bytes), fields, on_bad, cache_bytes)


def _decoded(column: Any) -> Any:
    kind = column.type
    plain = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)
    if plain and column.null_count == 0:
        return column.to_numpy()
    return column.combine_chunks()


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pyarrow.Scalar) else value.item()


def _size(columns: Columns) -> int:
    return sum(int(column.nbytes) for column in columns.values())


def _words(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
