"""How a script's process learns what it is: told in the environment by whoever started it, else alone."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "TIDE_LAUNCH"
REPORT = "TIDE_REPORT"


@dataclass(frozen=True)
class Launch:
    """`role`: "alone", "nursery" (fork workers from here) or "cold" (be worker `worker`)."""

    role: str = "alone"
    folder: str = ""
    control: str = ""  # path of the supervisor's socket
    arena: int = -1  # descriptor
    worker: int = 0
    seed: int | None = None
    sample: float | None = None
    threads: int | None = None

    def environment(self) -> dict[str, str]:
        """To be added to the environment of the script's process."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def here(cls) -> Launch:
        """What this process was told."""
        told = os.environ.get(VARIABLE)
        if not told:
            seed = os.environ.get("TIDE_SEED")
            return cls(seed=int(seed) if seed else None)
        return cls(**json.loads(told))
