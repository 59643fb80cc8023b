"""What a replica asks for and a node has: cores, memory, GPUs, disk and network."""

from __future__ import annotations

import math
from dataclasses import dataclass

RESOURCES = ("cpu", "memory", "gpu", "disk", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """An amount of each resource. `math.inf` stands for no limit, where an amount is a limit."""

    cpu: float = 0.0  # cores
    memory: float = 0.0  # bytes
    gpu: float = 0.0  # devices; below 1 a share of one
    disk: float = 0.0  # bytes/s
    network: float = 0.0  # bytes/s

    def vector(self) -> tuple[float, ...]:
        """The five amounts in the order of `RESOURCES`."""
        return (self.cpu, self.memory, self.gpu, self.disk, self.network)


UNLIMITED = Resources(cpu=math.inf, memory=math.inf, gpu=math.inf, disk=math.inf, network=math.inf)
