"""Amounts of resources as the API tells them, for people; and as people type them, for the API."""

from __future__ import annotations

from typing import Any

from springtide.spec import amounts
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest
from springtide.spec.resources import RESOURCES


def amount_text(name: str, amount: Any) -> str:
    """`3.5` cores or GPUs, `1.5Gi` of memory, `200MB/s`; what a file would say is taken as it is."""
    if isinstance(amount, str):
        return amount
    if name == "memory":
        return binary_text(amount)
    return f"{amounts.number_text(round(float(amount), 2))}"


def amount(name: str, said: Any) -> float:
    """The number of an amount that the API tells as a file would: `2Gi`, `1.5`, `200MB/s`."""
    if not isinstance(said, str):
        return float(said)
    return amounts.rate(said, name) if name in ("disk", "network") else amounts.memory(said, name)


def binary_text(count: float) -> str:
    """Bytes with a binary unit and at most three digits: `512Mi`, `1.5Gi`."""
    value = float(count)
    for unit in ("", "Ki", "Mi", "Gi"):
        if abs(value) < 1023.5:
            return f"{value:.3g}{unit}"
        value /= 1024
    return f"{value:.4g}Ti"


def resources(text: str, where: str) -> dict[str, str]:
    """`cpu=4,gpu=1,memory=8Gi` as the fields of a file. Raises UserError; the amounts are checked by their readers."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        if name not in RESOURCES:
            hint = nearest(name, RESOURCES) or f"; write one of {', '.join(RESOURCES)}"
            raise UserError(f'{where}: no resource is called "{name}"{hint}')
        if not equals or not amount:
            raise UserError(f'{where}: "{part}" does not say how much; write {where} cpu=4,memory=8Gi')
        found[name] = amount
    return found
