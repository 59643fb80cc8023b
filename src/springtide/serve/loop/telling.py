"""Where a circle is and why, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from springtide.serve.loop import ranges
from springtide.serve.loop.circle import Circle, Outcome, Past, Quarantine
from springtide.spec.quantities import duration_text

Row = dict[str, Any]
_PAST_TOLD = 5


def where(circle: Circle, now_s: float) -> str:
    """The one sentence: what the circle is doing now."""
    exam, base = circle.exam, circle.base
    if not circle.placed:
        return "training is being sent back" + (f" to version {base.version}" if base else "")
    if exam is not None:
        since = duration_text(max(1.0, round(now_s - exam.began_s)))
        if exam.version is None:
            return f"the checkpoint of step {exam.checkpoint.step:,} is being registered, for {since}"
        doing = "judged" if exam.verdict is None else "promoted"
        return f"version {exam.version} (step {exam.checkpoint.step:,}) is being {doing}, for {since}"
    if circle.training:
        return f"training has ended: {circle.training}"
    if circle.newest is not None:
        left = duration_text(max(1.0, round(circle.ended_s + circle.every_s - now_s)))
        return f"the checkpoint of step {circle.newest.step:,} is a candidate, and is examined in {left}"
    return "training goes on; no checkpoint is newer than the last candidate"


def story(circle: Circle, now_s: float) -> Iterator[str]:
    """What is in production, what became of the last candidates, what is quarantined; a line each."""
    base = circle.base
    yield f"now: {where(circle, now_s)}"
    yield (
        f"in production: version {base.version}, of step {base.checkpoint.step:,}"
        if base
        else ("in production: nothing of this loop yet")
    )
    if refused := next((one for one in reversed(circle.past) if one.outcome != Outcome.PROMOTED), None):
        yield f"last not promoted: {_past(refused, now_s)}"
    for one in circle.past[-_PAST_TOLD:]:
        yield f"candidate: {_past(one, now_s)}"
    for held in circle.quarantines:
        yield f"quarantine {held.id}: {_quarantine(held)}"


def _past(one: Past, now_s: float) -> str:
    name = f"version {one.version}" if one.version is not None else "a candidate"
    ago = duration_text(max(1.0, round(now_s - one.at_s)))
    return f"{name} (step {one.step:,}) {ago} ago: {one.outcome}; {one.sentence}"


def _quarantine(one: Quarantine) -> str:
    many = ranges.count(one.training)
    spans = "; ".join(
        f"partition {partition}: {', '.join(f'{first} to {end - 1}' for first, end in intervals)}"
        for partition, intervals in one.training.items()
    )
    state = f"released, {one.count} appended again" if one.released else "being released" if one.asked else "held"
    return f"{many} records ({spans or 'none'}), {state}; {one.why}"


def drift(said: Mapping[str, Any]) -> Iterator[str]:
    """What the watching of drift has found, as it wrote it down."""
    inputs: dict[str, float] = said.get("inputs") or {}
    limit = said.get("limit", 0.25)
    worst = sorted(inputs.items(), key=lambda one: -one[1])[:3]
    if not inputs:
        yield "drift of inputs: too few requests yet to compare"
    else:
        drifted = [f"{name} {index:.2f}" for name, index in worst if index > limit]
        told = ", ".join(drifted) if drifted else f"none; the largest index is {worst[0][0]} {worst[0][1]:.2f}"
        yield f"drift of inputs from {said.get('reference')}: {told} (from {limit:g} on it counts)"
    if said.get("corrected"):
        falls = said.get("falls", 0)
        told = "no fall was noticed" if not falls else f"{falls} {'fall was' if falls == 1 else 'falls were'} noticed"
        yield f"accuracy on feedback: {said['accuracy']:.1%} of the last {said['corrected']} corrected answers; {told}"
    for version, counts in (said.get("versions") or {}).items():
        share = counts["right"] / counts["corrected"]
        yield f"accuracy of version {version} on feedback: {share:.1%} of {counts['corrected']}"


def row(name: str, circle: Circle, now_s: float) -> Row:
    """A line of `tide loop ls`."""
    base = circle.base
    return {
        "name": name, "production": base.version if base else None, "step": base.checkpoint.step if base else None,
        "candidates": circle.candidates, "refused": sum(one.outcome == Outcome.REFUSED for one in circle.past),
        "quarantined": sum(ranges.count(one.training) for one in circle.quarantines if not one.released),
        "generation": circle.generation, "now": where(circle, now_s),
    }  # fmt: skip
