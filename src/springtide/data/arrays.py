"""`.npy` files as samples: mapped where they are local, read row by row where they are not."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from springtide.data.files import File, PathLike, content
from springtide.data.order import Indices
from springtide.data.records import Records
from springtide.data.sources import Local
from springtide.spec import UserError

_HEADER_BYTES = 4096


class Rows:
    """The rows of one array in a file: shape (n, ...)."""

    def __init__(self, file: File) -> None:
        self.file = file
        start = file.read(0, _HEADER_BYTES)
        if not start:
            raise UserError(f"{file.path}: the file is empty")
        self.shape, self.dtype, self._offset = _header(file, start)
        if not self.shape:
            raise UserError(f"{file.path}: this is a single number; samples are the rows of an array")
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        whole = self._offset + self._row_bytes * self.shape[0]
        if file.size_bytes < whole:
            raise UserError(
                f"{file.path}: the file is cut off: {file.size_bytes} bytes of {whole} for its shape {self.shape}"
            )
        self._mapped: NDArray[Any] | None = None
        if file.local and whole > self._offset:
            self._mapped = np.memmap(file.inner, self.dtype, "r", self._offset, self.shape)

    def take(self, indices: Sequence[int] | Indices) -> NDArray[Any]:
        """The rows at `indices`, as an array of their own."""
        if self._mapped is not None:
            assert isinstance(self.file.source, Local)
            self.file.source.check()
            return np.asarray(self._mapped[indices])
        starts = [self._offset + int(index) * self._row_bytes for index in indices]
        parts = [self.file.read(start, self._row_bytes) for start in starts]
        return np.frombuffer(bytearray().join(parts), self.dtype).reshape(len(starts), *self.shape[1:])


class Arrays(Records):
    """Row i of each of several arrays of equal length as sample i."""

    def __init__(self, files: list[File]) -> None:
        super().__init__("raise")
        self._rows = [Rows(file) for file in files]
        first = self._rows[0]
        for rows in self._rows[1:]:
            if rows.shape[0] != first.shape[0]:
                raise UserError(
                    f"{rows.file.path} has {rows.shape[0]} rows, {first.file.path} has {first.shape[0]}; "
                    "arrays that are read together are equally long"
                )

    def __len__(self) -> int:
        return int(self._rows[0].shape[0])

    def read(self, index: int) -> Any:
        taken = [rows.take([index])[0] for rows in self._rows]
        return taken[0] if len(taken) == 1 else tuple(taken)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        taken = [rows.take(indices) for rows in self._rows]
        return list(taken[0]) if len(taken) == 1 else list(zip(*taken, strict=True))

    def gather(self, indices: Indices) -> Any:
        """The samples as one batch: an array, or a list of arrays."""
        taken = [rows.take(indices) for rows in self._rows]
        return taken[0] if len(taken) == 1 else taken

    def _fingerprint(self) -> str:
        return content([rows.file for rows in self._rows], type(self).__name__)


def npy(*paths: PathLike | Sequence[PathLike], disk_cache_bytes: int | None = None) -> Arrays:
    """Rows of a `.npy` file as samples, or of several together: `npy("x.npy", "y.npy")` gives pairs.

    Types are kept. A local file is mapped, so workers share its memory; of a remote one, single rows are read. Raises
    `UserError` for files that are missing, cut off, of unequal length, or hold something else than numbers.
    """
    flat: list[PathLike] = []
    for path in paths:
        flat.extend([path] if isinstance(path, str | os.PathLike) else path)
    if not flat:
        raise UserError("no .npy file was given: the list of paths is empty")
    return Arrays([File(path, ".npy file", disk_cache_bytes=disk_cache_bytes) for path in flat])


def _header(file: File, start: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    try:
        stream = io.BytesIO(start)
        version = np.lib.format.read_magic(stream)
        size = struct.unpack("<H" if version == (1, 0) else "<I", start[8 : 10 if version == (1, 0) else 12])[0]
        stream = io.BytesIO(start if size + 12 <= len(start) else file.read(0, size + 12))
        stream.seek(8)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
    except (ValueError, struct.error) as error:
        raise UserError(f"{file.path}: this is not a .npy file: {str(error).splitlines()[0]}") from None
    if dtype.kind not in "biufc":
        raise UserError(f"{file.path}: an array of {dtype} holds no numbers; give one of numbers")
    if by_columns and len(shape) > 1:
        raise UserError(
            f"{file.path}: the array is stored by columns (Fortran order); save numpy.ascontiguousarray of it instead"
        )
    return shape, dtype, stream.tell()
