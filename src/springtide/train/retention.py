"""Which checkpoints may go. A pure rule; `checkpoint.write` carries it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    """A checkpoint as retention sees it; `good` is False where a quick look found it damaged."""

    path: str
    run_id: str
    step: int
    good: bool


def expired(held: Iterable[Held], *, run_id: str, step: int, keep: int, keep_every: int | None) -> list[Held]:
    """What goes once step `step` of `run_id` is written: all but the newest `keep` and every n-th step, oldest first.

    Never another run's, never the one just written, and none of a later step: those were skipped when the run began
    again below them, and are judged when it has passed them. Damaged ones do not count as kept, and go when all that
    are kept are newer.
    """
    mine = sorted((one for one in held if one.run_id == run_id and one.step <= step), key=lambda one: one.step)
    kept = {one.step for one in [one for one in mine if one.good][-keep:]} | {step}
    oldest = min(kept)
    return [one for one in mine if one.step < oldest and not (one.good and keep_every and one.step % keep_every == 0)]
