"""What of a loop lies where: all of it below `TIDE_HOME/loops/NAME`. Pure.

loop.yaml             the file as it was understood
state.json            the circle (`circle`), written aside and renamed
streams/              requests (unless a source is named), training, held-out
checkpoints/N/        where training of generation N writes
generations/N/        what it began with: quarantine.json
kept/                 checkpoints that are candidates or can be gone back to
asked/                what people asked of the circle, a file each, until it has taken it up
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from springtide.spec.loop import Loop


@dataclass(frozen=True, slots=True)
class Places:
    """The folder of one loop."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "loop.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def drift(self) -> Path:
        return self.folder / "drift.json"

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    @property
    def asked(self) -> Path:
        return self.folder / "asked"

    @property
    def judged(self) -> Path:
        """What the present candidate is judged on."""
        return self.folder / "judged.jsonl"

    @property
    def lease(self) -> Path:
        return self.folder / "circle.lock"

    def checkpoints(self, generation: int) -> Path:
        return self.folder / "checkpoints" / str(generation)

    def quarantine(self, generation: int) -> Path:
        return self.folder / "generations" / str(generation) / "quarantine.json"

    def stream(self, name: str) -> str:
        return f"log://{self.folder / 'streams' / name}"

    def requests(self, loop: Loop) -> str:
        """Where the model server writes what it was asked, and what its users corrected."""
        return loop.source or self.stream("requests")

    @property
    def training(self) -> str:
        return self.stream("training")

    @property
    def held_out(self) -> str:
        return self.stream("held-out")


def loops(home: Path) -> Path:
    """Where the loops of a home lie."""
    return home / "loops"


def places(home: Path, name: str) -> Places:
    """Of the loop of that name."""
    return Places(loops(home) / name)
