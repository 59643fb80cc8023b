"""Elastic, fault-tolerant training: what a script uses is `Run`, `Evaluate` and `load`.

Imports `spec` and `data`. The laws are in docs/training.md; begin reading at `protocol` (what a worker does next),
`membership` (what the supervisor decides) and `worker` (how a step is carried out). Torch is imported when `Run` is
first asked for, so that supervisor and launcher, which live here too, start without it.
"""

from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING, Any

from springtide.train import sentence

if TYPE_CHECKING:
    from springtide.train.evaluation import Evaluate
    from springtide.train.plain import load
    from springtide.train.run import Run

__all__ = ["Evaluate", "Run", "load"]

_HOMES = {"Evaluate": "evaluation", "Run": "run", "load": "plain"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _seed_script() -> None:
    """Give a script the same random numbers in every process: from here on, or from its first line under `tide run`.

    Torch starts from a fixed seed by itself; `random` and numpy would differ in each process.
    """
    word = int(os.environ.get("TIDE_SEED") or 0)
    random.seed(word)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(word & 0xFFFF_FFFF)
    if "torch" in sys.modules and os.environ.get("TIDE_SEED"):
        sys.modules["torch"].manual_seed(word)


if "springtide.cli" not in sys.modules:
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    _seed_script()
    sentence.install()
