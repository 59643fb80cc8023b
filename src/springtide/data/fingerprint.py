"""A short name for the content of a dataset, so that two processes can tell whether they hold the same data.

Nothing is imported for it: tensors and images are known by what they offer.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from springtide.spec import UserError

WHOLE_BYTES = 256 << 20  # arrays up to this size are hashed whole: about 0.3 s
PARTS = 256
PART_BYTES = 1 << 20
SAMPLES = 64
DEEPEST = 16  # objects that hold themselves end here


def fingerprint(dataset: Any) -> str:
    """Sixteen hexadecimal digits that name the content of `dataset`.

    A dataset's own `fingerprint` (a text, or a method that gives one) is taken as it is. Arrays, and datasets that keep
    `tensors`, are hashed whole up to 256 MB, else 256 parts of 1 MB at even distances; a torch `Subset` by its indices
    and what it is a subset of; any other map-style dataset by its length and 64 samples at even distances. Samples may
    draw random numbers: the caller seeds the generators before and restores them afterwards. Raises `UserError` for a
    dataset without a length.
    """
    own = getattr(dataset, "fingerprint", None)
    if own is not None:
        return str(own() if callable(own) else own)
    digest = hashlib.blake2b(digest_size=8)
    digest.update(type(dataset).__qualname__.encode())
    tensors = getattr(dataset, "tensors", None)
    if isinstance(dataset, np.ndarray):
        _array(digest, dataset)
    elif isinstance(tensors, tuple | list) and tensors and all(_is_tensor(tensor) for tensor in tensors):
        for tensor in tensors:
            _tensor(digest, tensor)
    elif is_subset(dataset):
        _array(digest, np.asarray(dataset.indices, dtype=np.int64))
        digest.update(fingerprint(dataset.dataset).encode())
    else:
        _spread(digest, dataset)
    return digest.hexdigest()


def is_subset(dataset: Any) -> bool:
    """Whether `dataset` is torch's own `Subset`, whose content its indices and its source tell."""
    kind = type(dataset)
    return kind.__name__ == "Subset" and kind.__module__.startswith("torch.utils.data")


def _spread(digest: hashlib.blake2b, dataset: Any) -> None:
    try:
        length = len(dataset)
    except TypeError:
        raise UserError(
            f"a dataset of type {type(dataset).__name__} has no length; give a map-style dataset, "
            "with __len__ and __getitem__"
        ) from None
    digest.update(struct.pack("<q", length))
    for index in sorted({part * (length - 1) // (SAMPLES - 1) for part in range(SAMPLES)} if length else ()):
        _value(digest, dataset[index])


def _value(digest: hashlib.blake2b, value: Any, depth: int = 0) -> None:
    """Adds `value` to the hash: its kind, its shape and its content, so that no two kinds are taken for one another."""
    if depth > DEEPEST:
        digest.update(b"deep")
    elif isinstance(value, np.ndarray):
        _array(digest, value)
    elif _is_tensor(value):
        _tensor(digest, value)
    elif isinstance(value, Mapping):
        digest.update(b"map%d" % len(value))
        for key in value:
            _value(digest, key, depth + 1)
            _value(digest, value[key], depth + 1)
    elif isinstance(value, tuple | list):
        digest.update(b"seq%d" % len(value))
        for part in value:
            _value(digest, part, depth + 1)
    elif isinstance(value, bytes | bytearray):
        digest.update(b"bytes%d:" % len(value))
        digest.update(bytes(value))
    elif value is None or isinstance(value, str | bool | int | float | complex | np.generic):
        text = f"{type(value).__name__}:{value!r}".encode()
        digest.update(b"%d:" % len(text))
        digest.update(text)
    elif hasattr(value, "tobytes") and hasattr(value, "size") and hasattr(value, "mode"):  # an image
        digest.update(f"image:{value.mode}:{value.size}:".encode())
        digest.update(value.tobytes())
    elif hasattr(value, "__dict__"):
        digest.update(type(value).__qualname__.encode())
        _value(digest, vars(value), depth + 1)
    else:
        digest.update(type(value).__qualname__.encode())


def _array(digest: hashlib.blake2b, array: NDArray[Any]) -> None:
    digest.update(f"{array.dtype.str}:{array.shape}:".encode())
    if array.dtype.hasobject:
        flat = array.ravel()
        for index in sorted({part * (flat.size - 1) // (SAMPLES - 1) for part in range(SAMPLES)} if flat.size else ()):
            _value(digest, flat[index])
        return
    if array.nbytes <= WHOLE_BYTES:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return
    flat = array.reshape(-1)  # a copy only where the array is not contiguous
    part = max(1, PART_BYTES // array.itemsize)
    for number in range(PARTS):
        first = number * (flat.size - part) // (PARTS - 1)
        digest.update(np.ascontiguousarray(flat[first : first + part]).view(np.uint8).data)


def _is_tensor(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy", "dtype", "shape"))


def _tensor(digest: hashlib.blake2b, tensor: Any) -> None:
    digest.update(str(tensor.dtype).encode())
    plain = tensor.detach().cpu()
    try:
        _array(digest, np.asarray(plain.numpy()))
    except TypeError:  # numpy has no bfloat16; float32 holds each of its values
        _array(digest, np.asarray(plain.float().numpy()))
