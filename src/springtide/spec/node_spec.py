"""Nodes in a few words, as `--nodes` and `--virtual` take them: `8x1cpu,2Gi`, several kinds joined by `+`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from springtide.spec import amounts
from springtide.spec.errors import UserError
from springtide.spec.resources import UNLIMITED, Resources

MOST_GPUS = 63  # of one node: a replica's devices are the bits of one number
_MOST_NODES = 1_000_000
_GROUP = re.compile(r"(\d+)\s*x\s*(.+)")
_COUNTED = re.compile(r"([0-9.]+m?)\s*(cpu|cores?|gpus?)", re.IGNORECASE)
_NAMED = re.compile(r"(memory|disk|network):(.+)", re.IGNORECASE)
_EXAMPLE = "write 16x4gpu, 8x1cpu,2Gi or 105x16cpu,64Gi+27x24cpu,96Gi"


def resources(text: str, where: str, most: int = _MOST_NODES) -> Sequence[Resources]:
    """One for each node. What is not named is unlimited, but GPUs: who names none has none. Raises UserError."""
    found: list[Resources] = []
    for group in text.split("+"):
        match = _GROUP.fullmatch(group.strip())
        if not match or not 0 < int(match[1]) <= _MOST_NODES:
            raise UserError(f'{where}: "{group.strip()}" is no number of nodes; {_EXAMPLE}')
        found += [_one(match[2], where)] * int(match[1])
    if len(found) > most:
        raise UserError(f"{where}: {len(found)} nodes are too many; the most is {most}")
    return found


def _one(text: str, where: str) -> Resources:
    named: dict[str, Any] = {"gpu": 0.0}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, value = _amount(part, where)
        named[kind] = value
    if named["gpu"] > MOST_GPUS:
        raise UserError(f"{where}: a node of {named['gpu']:g} GPUs is too large; the most is {MOST_GPUS}")
    return replace(UNLIMITED, **named)


def _amount(part: str, where: str) -> tuple[str, float]:
    if match := _COUNTED.fullmatch(part):
        kind = match[2].lower()
        if kind.startswith("gpu"):
            return "gpu", float(amounts.count("GPUs of a node", 4, least=0)(match[1], where))
        return "cpu", amounts.cores(match[1], where)
    if match := _NAMED.fullmatch(part):
        kind = match[1].lower()
        return kind, (amounts.memory if kind == "memory" else amounts.rate)(match[2], where)
    if re.fullmatch(r"[0-9.]+\s*[kKmMgGtT]i?[bB]?", part):
        return "memory", amounts.memory(part, where)
    raise UserError(f'{where}: "{part}" is no amount of cpu, memory or gpu; {_EXAMPLE}')
