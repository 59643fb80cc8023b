"""What nodes this machine is: itself, or what `--virtual` cuts it into."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from springtide.engines.local import gpus
from springtide.spec import node_spec
from springtide.spec.quantities import bytes_text
from springtide.spec.resources import UNLIMITED
from springtide.spec.sharing import Node
from springtide.train import hardware

MOST_VIRTUAL = 1000
_SYSTEMS_SHARE = 0.1  # of the memory, left to what is not of the pool
_SYSTEMS_LEAST_BYTES = 512e6


def nodes(virtual: str | None = None, where: str = "--virtual") -> tuple[Node, ...]:
    """One node named after the host, or node-0, node-1 ... of a text like `8x1cpu,2Gi+4x1gpu`. Raises UserError."""
    devices = gpus.devices()
    whole = real(devices)
    if virtual is None:
        return (whole,)
    parts = node_spec.resources(virtual, where, most=MOST_VIRTUAL)
    return tuple(
        Node(name=f"node-{n}", resources=part, gpu_model=whole.gpu_model if part.gpu else None)
        for n, part in enumerate(parts)
    )


def real(devices: Sequence[gpus.Gpu]) -> Node:
    """The machine as it is, less what the system itself needs. Disk and network are not limited."""
    amount = replace(
        UNLIMITED,
        cpu=float(hardware.cores()),
        memory=for_jobs(hardware.memory_bytes()),
        gpu=float(min(len(devices), node_spec.MOST_GPUS)),
    )
    return Node(name=_host(), resources=amount, gpu_model=devices[0].model if devices else None)


def for_jobs(memory_bytes: int) -> float:
    """The memory that jobs may have of so much; at least half of it, however small the machine."""
    systems = max(_SYSTEMS_SHARE * memory_bytes, _SYSTEMS_LEAST_BYTES)
    return float(round(max(memory_bytes - systems, memory_bytes / 2)))


def overcommitted(parts: Sequence[Node], whole: Node | None = None) -> str | None:
    """What virtual nodes have together beyond the machine, in one sentence; None: they fit.

    Then speeds that are measured say nothing of nodes of their own.
    """
    whole = whole or real(gpus.devices())
    beyond = [
        f"{_amount(kind, asked)} (there are {_amount(kind, there)})"
        for kind, asked, there in (
            (kind, sum(getattr(part.resources, kind) for part in parts), getattr(whole.resources, kind))
            for kind in ("cpu", "memory", "gpu")
        )
        if math.isfinite(asked) and asked > there * (1 + 1e-9)
    ]
    if not beyond:
        return None
    return f"the virtual nodes have {', '.join(beyond)}: good for a trial, but they slow each other down"


def physical(parts: Sequence[Node], devices: int) -> Mapping[str, tuple[int, ...]]:
    """For each node the machine's index of each of its GPUs; dealt out in turn, twice where there are too few."""
    dealt, found = 0, {}
    for part in parts:
        count = int(part.resources.gpu) if devices else 0
        found[part.name] = tuple((dealt + n) % devices for n in range(count)) if devices else ()
        dealt += count
    return found


def _amount(kind: str, value: float) -> str:
    match kind:
        case "memory":
            return f"{bytes_text(value)} of memory"
        case "cpu":
            return f"{value:g} core{'s' if value != 1 else ''}"
        case _:
            return f"{value:g} GPU{'s' if value != 1 else ''}"


def _host() -> str:
    """The host's name as a node's: small letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:63]
    return name or "machine"
