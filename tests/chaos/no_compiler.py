"""Stands in for torch._dynamo, which every optimizer imports and no script here uses: half of the time of a start."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch


def install() -> None:
    """To be called before the first optimizer is made."""
    stub: Any = ModuleType("torch._dynamo")
    stub.disable = lambda function, *_, **__: function
    stub.graph_break = lambda *_, **__: None
    torch._dynamo = sys.modules["torch._dynamo"] = stub
