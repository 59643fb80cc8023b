"""Springtide runs deep learning on the machines that a company already shares.

`springtide.train` holds what a training script needs, `springtide.data` what feeds it, `springtide.Client` is a pool
from a program; `tide` is the command. Nothing is imported here, so that `tide --help` answers at once; begin reading at
docs/architecture.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from springtide.pool.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from springtide.pool.client import Client

    return globals().setdefault(name, Client)
