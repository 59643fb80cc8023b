"""How far a stream had been read at a checkpoint. No torch."""

from __future__ import annotations

import os

from springtide.spec import UserError
from springtide.train import checkpoint
from springtide.train.manifest import Manifest


def of(path: str | os.PathLike[str]) -> dict[int, int]:
    """Partition -> the next offset, of a checkpoint or of the newest whole one in a folder. UserError: there is none.

    All records below these offsets, from the run's start on, are in the weights, each once, but for those that were
    quarantined or lost to retention.
    """
    found = next((found for found in checkpoint.find(path) if found.problem is None and found.manifest), None)
    if found is None or found.manifest is None:
        raise UserError(f"{os.fspath(path)} holds no complete checkpoint; `tide checkpoints` lists those that are")
    offsets = kept(found.manifest)
    if offsets is None:
        raise UserError(f"{found.path} is of a run that was not trained on a stream: it has no offsets")
    return offsets


def kept(manifest: Manifest) -> dict[int, int] | None:
    """The same from a manifest (`position.offsets` there); None: it was no run on a stream."""
    offsets = manifest.position.get("offsets")
    return None if offsets is None else {int(partition): int(offset) for partition, offset in offsets.items()}
