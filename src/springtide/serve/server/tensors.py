"""Tensors of the Open Inference Protocol: names of datatypes, JSON and bytes, there and back, to the last bit."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch

from springtide.serve.server.faults import Fault
from springtide.spec.quantities import nearest


@dataclass(frozen=True, slots=True)
class Texts:
    """A tensor of BYTES: what torch does not hold. `items` in row-major order."""

    items: tuple[bytes, ...]
    shape: tuple[int, ...]


Value = torch.Tensor | Texts
BYTES = "BYTES"
DTYPES: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool, "UINT8": torch.uint8, "UINT16": torch.uint16, "UINT32": torch.uint32, "UINT64": torch.uint64,
    "INT8": torch.int8, "INT16": torch.int16, "INT32": torch.int32, "INT64": torch.int64,
    "FP16": torch.float16, "FP32": torch.float32, "FP64": torch.float64, "BF16": torch.bfloat16,
}  # fmt: skip
NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
_ITEMS: Mapping[str, Any] = {
    name: list[float] if name in _FLOATS else list[bool] if name == "BOOL" else list[int] for name in DTYPES
} | {BYTES: list[str]}
_LISTS: Mapping[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in _ITEMS.items()}
_SAID = {"BOOL": "true or false", BYTES: "texts"} | dict.fromkeys(_FLOATS, "numbers")
_LENGTH = struct.Struct("<I")
_MOST_DIMENSIONS = 32


def datatype(value: Value) -> str:
    """Its name in the protocol."""
    return BYTES if isinstance(value, Texts) else NAMES[value.dtype]


def shape_of(value: Value) -> list[int]:
    return list(value.shape)


def described(value: Value) -> str:
    """`FP32 [1, 3]`."""
    return f"{datatype(value)} {shape_of(value)}"


def size_bytes(value: Value) -> int:
    if isinstance(value, Texts):
        return sum(map(len, value.items)) + 8 * len(value.items)
    return value.numel() * value.element_size()


def check_shape(name: str, shape: Sequence[int], kind: str) -> int:
    """How many elements it has. Fault: there is no such shape, or no such datatype."""
    if kind != BYTES and kind not in DTYPES:
        hint = nearest(kind, (*DTYPES, BYTES)) or f"; write one of {', '.join((*DTYPES, BYTES))}"
        raise Fault(f'input {name}: datatype "{kind[:40]}" is not known{hint}')
    if len(shape) > _MOST_DIMENSIONS or any(not 0 <= size < 1 << 48 for size in shape):
        raise Fault(f"input {name}: shape {_short(shape)} is none; write up to {_MOST_DIMENSIONS} sizes of 0 or more")
    return math.prod(shape)


def _short(shape: Sequence[int]) -> str:
    return str(list(shape[:6]))[:120] + ("..." if len(shape) > 6 else "")


# --- JSON


def from_json(name: str, kind: str, shape: Sequence[int], data: bytes | memoryview | msgspec.Raw) -> Value:
    """`data` is the JSON text of a list, flat or nested as the shape is. Fault: it does not suit shape or datatype."""
    count = check_shape(name, shape, kind)
    try:
        items = _LISTS[kind].decode(data)
    except (msgspec.MsgspecError, RecursionError):
        items = _nested(name, kind, shape, data)
    if len(items) != count:
        raise Fault(f"input {name}: shape {_short(shape)} wants {count:,} values, and data has {len(items):,}")
    return _made(name, kind, shape, items)


def _nested(name: str, kind: str, shape: Sequence[int], data: bytes | memoryview | msgspec.Raw) -> list[Any]:
    try:
        found: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Fault(f"input {name}: data is no JSON list: {error}") from None
    return _typed(name, kind, flattened(name, found, shape))


def from_lists(name: str, kind: str, shape: Sequence[int], found: list[Any]) -> Value:
    """As `from_json`, of what was read already; nested as the shape is."""
    check_shape(name, shape, kind)
    return _made(name, kind, shape, _typed(name, kind, flattened(name, found, shape)))


def _typed(name: str, kind: str, items: list[Any]) -> list[Any]:
    try:
        return msgspec.convert(items, _ITEMS[kind])  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        wanted = _SAID.get(kind, "whole numbers")
        raise Fault(f"input {name}: {kind} wants {wanted}: {str(error).replace('$', 'data')}") from None


def flattened(name: str, found: Any, shape: Sequence[int]) -> list[Any]:
    """The elements of nested lists. Fault: their lengths are not those of the shape."""
    if not isinstance(found, list):
        raise Fault(f"input {name}: data is no list; write the values in row-major order, flat or nested")
    if not any(isinstance(one, list) for one in found):
        return found
    level: list[Any] = [found]
    for depth, size in enumerate(shape):
        if any(not isinstance(one, list) or len(one) != size for one in level):
            raise Fault(
                f"input {name}: data is not nested as shape {_short(shape)} says: {_lengths(level, depth, size)}"
            )
        level = list(itertools.chain.from_iterable(level))
    return level


def _lengths(level: list[Any], depth: int, size: int) -> str:
    found = next(one for one in level if not isinstance(one, list) or len(one) != size)
    was = f"a list of {len(found)}" if isinstance(found, list) else "no list"
    return f"there is {was} at depth {depth + 1}, where one of {size} belongs"


def _made(name: str, kind: str, shape: Sequence[int], items: Sequence[Any]) -> Value:
    if kind == BYTES:
        return Texts(tuple(one.encode("utf-8", "surrogatepass") for one in items), tuple(shape))
    dtype = DTYPES[kind]
    try:
        if kind in ("BF16", "FP16"):
            value = torch.tensor(items, dtype=torch.float64).to(dtype)
        else:
            with np.errstate(over="ignore"):  # becomes infinity, which is refused with all others
                value = torch.from_numpy(np.array(items, dtype=_numpy(dtype)))
    except (OverflowError, ValueError):
        raise Fault(f"input {name}: a value is beyond what {kind} can hold") from None
    return value.reshape(tuple(shape))


def _numpy(dtype: torch.dtype) -> Any:
    """The same in numpy, which has no BF16."""
    return np.dtype(str(dtype).removeprefix("torch."))


def to_json(value: Value) -> list[Any]:
    """Flat, row-major. A float is written so that it is read as the same bits; JSON has no NaN: it is null there."""
    if isinstance(value, Texts):
        return [one.decode("utf-8", "replace") for one in value.items]
    found: list[Any] = value.reshape(-1).tolist()
    return found


# --- bytes


def from_bytes(name: str, kind: str, shape: Sequence[int], data: memoryview) -> Value:
    """Little-endian, row-major; BYTES are each led by their length in 4 bytes."""
    count = check_shape(name, shape, kind)
    if kind == BYTES:
        return Texts(_cut(name, count, data), tuple(shape))
    dtype = DTYPES[kind]
    if len(data) != count * dtype.itemsize:
        raise Fault(
            f"input {name}: {kind} of shape {_short(shape)} is {count * dtype.itemsize:,} bytes, and {len(data):,} came"
        )
    if not count:
        return torch.empty(tuple(shape), dtype=dtype)
    if kind == "BOOL":
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).ne(0).reshape(tuple(shape))
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(tuple(shape))


def _cut(name: str, count: int, data: memoryview) -> tuple[bytes, ...]:
    found: list[bytes] = []
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data) or (end := at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]) > len(data):
            raise Fault(f"input {name}: BYTES ends in the middle of element {len(found)}")
        found.append(bytes(data[at + _LENGTH.size : end]))
        at = end
    if len(found) != count:
        raise Fault(f"input {name}: its shape wants {count:,} elements of BYTES, and {len(found):,} came")
    return tuple(found)


def to_bytes(value: Value) -> bytes:
    """What `from_bytes` reads."""
    if isinstance(value, Texts):
        return b"".join(part for one in value.items for part in (_LENGTH.pack(len(one)), one))
    flat = value.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


# --- together and apart


def joined(values: Sequence[Value]) -> Value:
    """One below the other, along dimension 0; their other sizes are alike."""
    first = values[0]
    if isinstance(first, Texts):
        items = tuple(itertools.chain.from_iterable(one.items for one in values if isinstance(one, Texts)))
        return Texts(items, (sum(one.shape[0] for one in values), *first.shape[1:]))
    return torch.cat([one for one in values if isinstance(one, torch.Tensor)])


def apart(value: Value, rows: Iterable[int]) -> list[Value]:
    """The reverse of `joined`, for so many rows each."""
    sizes = list(rows)
    if isinstance(value, Texts):
        step = math.prod(value.shape[1:])
        ends = list(itertools.accumulate(sizes))
        return [
            Texts(value.items[(end - size) * step : end * step], (size, *value.shape[1:]))
            for end, size in zip(ends, sizes, strict=True)
        ]
    return list(torch.split(value, sizes))


def finite(value: Value) -> bool:
    """Whether no NaN and no infinity is in it."""
    return isinstance(value, Texts) or not value.is_floating_point() or bool(torch.isfinite(value).all())
