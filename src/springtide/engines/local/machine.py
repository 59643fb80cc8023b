"""What nodes this machine is: itself, or what `--virtual` cuts it into."""

from __future__ import annotations

from collections.abc import Sequence

from springtide.spec.sharing import Node


def nodes(virtual: str | None = None) -> tuple[Node, ...]:
    """One node named after the host, or those of a text like `8x1cpu,2Gi+4x1gpu`. Raises UserError."""
    raise NotImplementedError


def overcommitted(parts: Sequence[Node]) -> str | None:
    """What virtual nodes have together beyond the machine, in one sentence; None: they fit."""
    raise NotImplementedError
