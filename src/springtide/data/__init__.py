"""What a run trains on, and in which order.

Imports `spec`, numpy, fsspec, pyarrow and Pillow, each where it is needed; never torch. Begin with `order` (the Order
law: which samples form which microbatch), then `fingerprint` (the name of the data in that law), then `records` (files
as samples) and `length` (batches of similar length).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from springtide.data.fingerprint import fingerprint
from springtide.data.length import Padded, by_length
from springtide.data.order import Order, OrderLike, checksum

if TYPE_CHECKING:
    from springtide.data.arrays import npy
    from springtide.data.columnar import parquet
    from springtide.data.lines import csv, json_lines
    from springtide.data.packing import pack
    from springtide.data.pictures import images
    from springtide.data.streams.source import stream

__all__ = [
    "Order",
    "OrderLike",
    "Padded",
    "by_length",
    "checksum",
    "csv",
    "fingerprint",
    "images",
    "json_lines",
    "npy",
    "pack",
    "parquet",
    "stream",
]

# The libraries that read files take 0.3 s to import, and some start threads, which a process that forks must not have.
_READERS = {"csv": "lines", "json_lines": "lines", "parquet": "columnar", "npy": "arrays", "images": "pictures",
            "pack": "packing", "stream": "streams.source"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_READERS[name]}"), name)
