"""What a verdict of the gate means for the circle: promote it, train on, or go back. Pure."""

from __future__ import annotations

from dataclasses import replace

from springtide.serve import judging
from springtide.serve.loop import parts
from springtide.serve.loop.circle import Outcome, Verdict
from springtide.spec.loop import Loop


def rule(loop: Loop, data: str) -> judging.GateRule:
    """The gate's rule of a loop; `data` is the file that both are judged on."""
    said = loop.gate
    fixed = (parts.FIXED,) if said.data is not None else ()
    return judging.GateRule(
        data=data, metric=said.metric, margin=said.margin, better=said.better, least_count=said.count,
        slices=(*said.slices, *fixed), slice_margin=said.slice_margin, slice_least_count=said.slice_count,
        bound=said.bound, scorer=parts.SCORER,
    )  # fmt: skip


def understood(verdict: judging.Verdict) -> Verdict:
    """Refused is only what is *worse* than production on enough records: only then are its records suspected.

    Too few records, or a bound not reached yet, is no reproach: training goes on.
    """
    numbers = _numbers(verdict)
    if verdict.passed:
        return Verdict(Outcome.PROMOTED, verdict.sentence, numbers)
    worse = verdict.production is not None and _worse(verdict)
    return Verdict(Outcome.REFUSED if worse else Outcome.WAITING, verdict.sentence, numbers)


def _worse(verdict: judging.Verdict) -> bool:
    said, candidate = verdict.rule, verdict.candidate
    if candidate.count < max(1, said.least_count):
        return False
    parts = tuple(
        name for name, part in candidate.slices.items()
        if part.count >= max(1, said.slice_least_count) and (name in said.slices or judging.EVERY_SLICE in said.slices)
    )  # fmt: skip
    against_production_alone = replace(said, bound=None, least_count=1, slices=parts, slice_least_count=1)
    return not judging.judge(candidate, verdict.production, against_production_alone).passed


def _numbers(verdict: judging.Verdict) -> dict[str, float]:
    name, candidate, production = verdict.rule.metric, verdict.candidate, verdict.production
    found = {"records": float(candidate.count)}
    if name in candidate.metrics:
        found[name] = float(candidate.metrics[name])
    if production is not None and name in production.metrics:
        found[f"production {name}"] = float(production.metrics[name])
    return found
