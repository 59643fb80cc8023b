"""The safetensors format: laid out, named by a digest, checked strictly and read, without holding it in memory.

A state has one canonical file: tensors in order of falling element size, then name (so that each is aligned, as the
library orders them too), a header without metadata, padded so that the data begin at a multiple of 64 bytes. The digest
of a state is the hash of that file, so a checkpoint's name, its digest and its file hash are one number.
docs/checkpoints.md shows it; the safetensors library opens these files.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from springtide.spec import SpringtideError

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
BLOCK_BYTES = 4 << 20
_ALIGNMENT_BYTES = 64
_LARGEST_HEADER_BYTES = 100_000_000  # the library's own limit


@dataclass(frozen=True)
class Tensor:
    """A tensor where it lies: `parts` are its bytes in order (row-major, little-endian), never copied as a whole."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[memoryview | bytes, ...]


class Stored(NamedTuple):
    """A tensor in a file: safetensors' name of the element type, the shape, and its bytes (read-only, not copied)."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True)
class Layout:
    """A state as a file: the header (with its length in front) and the tensors in the order of their data."""

    header: bytes
    tensors: tuple[Tensor, ...]
    size_bytes: int

    def blocks(self) -> Iterator[memoryview]:
        """The file's bytes in order, in blocks of at most 4 MiB that lie in the tensors' own memory."""
        yield memoryview(self.header)
        for tensor in self.tensors:
            for part in tensor.parts:
                view = memoryview(part)
                if view.nbytes == 0:  # which cannot be cast
                    continue
                flat = view.cast("B")
                for start in range(0, len(flat), BLOCK_BYTES):
                    yield flat[start : start + BLOCK_BYTES]


def lay_out(tensors: Iterable[Tensor]) -> Layout:
    """The canonical file of a state. ValueError: two tensors of one name, an unknown type, parts of another size."""
    ordered = sorted(tensors, key=lambda tensor: (-_item_bytes(tensor), tensor.name))
    entries: dict[str, Any] = {}
    end = 0
    for tensor in ordered:
        if tensor.name in entries or tensor.name == "__metadata__":
            raise ValueError(f"the tensor name {tensor.name!r} is used twice or reserved")
        begin, end = end, end + _item_bytes(tensor) * prod(tensor.shape)
        held = sum(memoryview(part).nbytes for part in tensor.parts)
        if held != end - begin:
            raise ValueError(f"{tensor.name}: {tensor.dtype} {list(tensor.shape)} is {end - begin} bytes, got {held}")
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT_BYTES)
    header = len(text).to_bytes(8, "little") + text
    return Layout(header, tuple(ordered), len(header) + end)


def hasher() -> Any:
    """The hash that names a state: blake2b of 16 bytes."""
    return hashlib.blake2b(digest_size=16)


def digest(tensors: Iterable[Tensor]) -> str:
    """The name of a state (32 hex digits): hash of names, types, shapes and bytes, however the bytes are cut."""
    total = hasher()
    for block in lay_out(tensors).blocks():
        total.update(block)
    return str(total.hexdigest())


def map_file(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a local file, mapped read-only; they stay valid for as long as a view of them lives."""
    with open(path, "rb") as file:  # noqa: PTH123 - a Path would not take a str
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def parse(data: memoryview, where: str) -> dict[str, Stored]:
    """The tensors of a safetensors file whose bytes are `data`, checked strictly; one sentence if it is malformed."""
    if len(data) < 8:
        raise SpringtideError(f"{where} is not a safetensors file: {len(data)} bytes are too short for a header")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _LARGEST_HEADER_BYTES):
        raise SpringtideError(f"{where} is torn: its header should be {length} bytes, the file has {len(data)}")
    body = data[8 + length :]
    try:
        entries = json.loads(bytes(data[8 : 8 + length]).decode(), object_pairs_hook=_unique)
        if not isinstance(entries, dict):
            raise ValueError("it is not a JSON object")
        entries.pop("__metadata__", None)
        spans = [(*_entry(name, entry), name) for name, entry in entries.items()]
        _contiguous([(begin, end, name) for begin, end, _, _, name in spans], len(body))
    except (ValueError, RecursionError) as error:
        raise SpringtideError(f"{where} has a malformed header: {error}") from None
    return {name: Stored(dtype, shape, body[begin:end]) for begin, end, dtype, shape, name in spans}


def _item_bytes(tensor: Tensor) -> int:
    if tensor.dtype not in ITEM_BYTES:
        raise ValueError(f"{tensor.name}: unknown element type {tensor.dtype!r}; known are {', '.join(ITEM_BYTES)}")
    return ITEM_BYTES[tensor.dtype]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(name: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Begin, end, type and shape of one tensor; ValueError unless they are well-formed and agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name!r} has the unknown element type {dtype!r}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has a shape or offsets that are not whole numbers from 0")
    begin, end = offsets
    if (needed := ITEM_BYTES[dtype] * prod(shape)) != end - begin:
        raise ValueError(f"{name!r} has {end - begin} bytes where {dtype} {shape} needs {needed}")
    return begin, end, dtype, tuple(shape)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _contiguous(spans: Sequence[tuple[int, int, str]], size_bytes: int) -> None:
    """ValueError unless the spans cover the data exactly: none overlaps, none lies outside, no byte is hidden."""
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise ValueError(f"{name!r} begins at byte {begin} where {at} was due")
        at = end
    if at != size_bytes:
        raise ValueError(f"its tensors end at byte {at} of {size_bytes}")
