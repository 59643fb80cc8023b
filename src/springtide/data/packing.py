"""Samples of any dataset, decoded once and written as `.npy` files: the one indexed format that there is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from springtide.data.arrays import Arrays, npy
from springtide.data.files import PathLike
from springtide.spec import UserError, quantities

_TOGETHER = 256  # samples read and written at once
_NAMES = ("x", "y", "z")

Columns = tuple[NDArray[Any], ...]


def pack(dataset: Any, target: PathLike) -> Arrays:
    """Writes the samples of `dataset` into the folder `target`, as x.npy and y.npy, and gives them back as `npy` does.

    Sample i of the packed data is sample i of `dataset`: the same numbers, under another fingerprint. The folder is
    there whole or not at all. Raises `UserError`: samples that are no arrays of one shape, a target that is there
    already or lies elsewhere, a disk too small.
    """
    folder = Path(target)
    if "://" in os.fspath(target):
        raise UserError(f"{target}: data is packed into a folder of this machine; pack it here, then copy the folder")
    if folder.exists():
        raise UserError(f"{folder} is there already; name a folder that is not, or remove it")
    count = len(dataset)
    if count == 0:
        raise UserError("the dataset is empty: there is nothing to pack")
    first = _columns(dataset, range(1))
    _check_room(folder, count * sum(column.nbytes for column in first))
    aside = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    try:
        aside.mkdir(parents=True)
        _write(dataset, count, first, aside)
        aside.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return npy(*(folder / f"{name}.npy" for name, _ in zip(_NAMES, first, strict=False)))


def _write(dataset: Any, count: int, first: Columns, folder: Path) -> None:
    with ExitStack() as stack:
        files: list[IO[bytes]] = [
            stack.enter_context((folder / f"{name}.npy").open("xb")) for name in _NAMES[: len(first)]
        ]
        for file, column in zip(files, first, strict=True):
            header = {"descr": column.dtype.str, "fortran_order": False, "shape": (count, *column.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        for file, column in _parts(dataset, count, first, files):
            file.write(column.data)
        for file in files:
            file.flush()
            os.fsync(file.fileno())


def _parts(dataset: Any, count: int, first: Columns, files: list[IO[bytes]]) -> Iterator[tuple[IO[bytes], Any]]:
    for start in range(0, count, _TOGETHER):
        columns = _columns(dataset, range(start, min(start + _TOGETHER, count)))
        for column, wanted in zip(columns, first, strict=True):
            if (column.shape[1:], column.dtype) != (wanted.shape[1:], wanted.dtype):
                raise _unlike(f"some of samples {start} to {start + len(column) - 1}")
        yield from zip(files, columns, strict=True)


def _columns(dataset: Any, numbers: range) -> Columns:
    """Several samples as one array for each of their places."""
    many = getattr(dataset, "__getitems__", None)
    samples = many(list(numbers)) if many is not None else [dataset[number] for number in numbers]
    rows = [sample if isinstance(sample, tuple | list) else (sample,) for sample in samples]
    if not 1 <= len(rows[0]) <= len(_NAMES) or any(len(row) != len(rows[0]) for row in rows):
        raise UserError(f"samples of {len(rows[0])} places cannot be packed; up to {len(_NAMES)} can")
    columns = []
    for place in zip(*rows, strict=True):
        arrays = [np.asarray(value) for value in place]
        if any(array.dtype.kind not in "biufc" for array in arrays):
            raise UserError("samples that are texts or objects cannot be packed; arrays of numbers can")
        if len({(array.shape, array.dtype) for array in arrays}) != 1:
            raise _unlike(f"some of samples {numbers[0]} to {numbers[-1]}")
        columns.append(np.ascontiguousarray(np.stack(arrays)))
    return tuple(columns)


def _unlike(which: str) -> UserError:
    return UserError(
        f"{which} differ from the others in shape or type; packed samples are arrays of one shape (for images, give "
        "size=)"
    )


def _check_room(folder: Path, wanted_bytes: int) -> None:
    place = folder.absolute().parent
    while not place.exists():
        place = place.parent
    if wanted_bytes > (free := shutil.disk_usage(place).free):
        wanted, there = quantities.bytes_text(wanted_bytes), quantities.bytes_text(free)
        raise UserError(f"{folder}: the packed data takes {wanted}, and {there} are free on this disk")
