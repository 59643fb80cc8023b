"""What the launcher wrote down for the supervisor: `run.json` in the run's folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from springtide.spec import UserError
from springtide.spec.quantities import Every
from springtide.train import checkpoint
from springtide.train.manifest import Manifest

FILE = "run.json"


@dataclass(frozen=True)
class Launched:
    """One launch of one run on this machine. Descriptors are numbers in launcher and supervisor alike."""

    folder: Path
    name: str
    run_id: str
    state: str
    launcher: int
    launcher_started: int
    arena: int
    python: str
    script: str
    arguments: tuple[str, ...]
    minimum: int
    maximum: int
    start: int
    checkpoint: str
    every: Every
    keep: int
    resume: str | None
    seed: int | None
    sample: float | None
    threads: int | None
    began: float

    @classmethod
    def read(cls, folder: Path) -> Launched:
        """OSError, ValueError or TypeError: there is none, or it is of another version."""
        found: dict[str, Any] = json.loads((folder / FILE).read_text())
        found["every"] = Every(**found["every"])
        found["arguments"] = tuple(found["arguments"])
        return cls(**{**found, "folder": folder})

    def write(self) -> None:
        """Complete or as before."""
        document = asdict(self) | {"folder": str(self.folder)}
        aside = self.folder / f"{FILE}.{os.getpid()}"
        aside.write_text(json.dumps(document, indent=2) + "\n")
        aside.replace(self.folder / FILE)

    @property
    def socket(self) -> Path:
        return self.folder / "control.sock"

    def keep_shape(self, shape: dict[str, int]) -> None:
        """For a supervisor that has to find its way in an arena that it did not make."""
        aside = self.folder / "shape.json.new"
        aside.write_text(json.dumps(shape))
        aside.replace(self.folder / "shape.json")

    def shape(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "shape.json").read_text())
        return found

    def resumable(self, identity: dict[str, Any]) -> str | None:
        """The checkpoint to begin from. UserError: it is of another run, in the named respects."""
        if self.resume is None:
            return None
        manifest = self._manifest()
        kept = manifest.config.get("identity", {}) if manifest else {}
        wrong = [key for key in identity if key != "model" and kept.get(key) != identity[key]]
        if wrong:
            listed = ", ".join(f"{key} {kept.get(key)} then, {identity[key]} now" for key in wrong)
            raise UserError(
                f"'{self.name}' cannot go on from {self.resume}: {listed}; put it back, or start anew with --fresh"
            )
        return self.resume

    def resumed_step(self, resume: str | None) -> int:
        manifest = self._manifest() if resume else None
        return manifest.step if manifest else 0

    def resumed_manifest(self) -> Manifest | None:
        """Of the checkpoint to begin from; None: it begins from nothing."""
        return self._manifest() if self.resume else None

    def evaluated(self) -> int:
        """The last step whose evaluation was told."""
        try:
            lines = (self.folder / "metrics.jsonl").read_text().splitlines()
            return max((int(json.loads(line)["step"]) for line in lines), default=0)
        except (OSError, ValueError):
            return 0

    def error_of(self, pid: int) -> dict[str, Any] | None:
        """What a script's process wrote down before it ended by its own doing; told once."""
        path = self.folder / "workers" / f"{pid}.error.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        path.unlink(missing_ok=True)
        return found if isinstance(found, dict) else None

    def _manifest(self) -> Manifest | None:
        assert self.resume is not None
        root = self.resume.rpartition("/")[0]
        return next((found.manifest for found in checkpoint.find(root) if found.path == self.resume), None)
