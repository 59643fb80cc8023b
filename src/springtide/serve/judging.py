"""The gate's decision: may a candidate take production's place? Pure; scores in, a verdict with its numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from springtide.spec.errors import UserError

Better = Literal["higher", "lower"]
EVERY_SLICE = "*"


@dataclass(frozen=True, slots=True)
class Slice:
    """What a model scored on a part of the held-out data."""

    metrics: Mapping[str, float]
    count: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model scored on all of the held-out data, and on named parts of it; `count` is of records."""

    metrics: Mapping[str, float]
    count: int
    slices: Mapping[str, Slice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateRule:
    """What a model must show before it is promoted.

    `data` is the held-out data (a JSONL file, or a stream's URL), `scorer` the MODULE:FUNCTION that scores a module on
    its records where the module itself has no `evaluate`. `slices` must not fall either; "*" means all of them.
    """

    data: str | None = None
    metric: str = "accuracy"
    margin: float = 0.0  # by which it may be worse than production
    better: Better = "higher"
    least_count: int = 1
    slices: tuple[str, ...] = ()
    slice_margin: float | None = None  # None: as `margin`
    slice_least_count: int = 1
    bound: float | None = None  # what it must reach whatever production does
    scorer: str | None = None

    def __post_init__(self) -> None:
        """UserError: no candidate could be judged by it."""
        for name in ("margin", "slice_margin"):
            if (value := getattr(self, name)) is not None and not 0 <= value < math.inf:
                raise UserError(f"{name}: {value} is no margin; write 0 or more, for example 0.01")
        for name in ("least_count", "slice_least_count"):
            if (count := getattr(self, name)) < 1:
                raise UserError(f"{name}: {count} records judge nothing; write 1 or more")
        if self.bound is not None and not math.isfinite(self.bound):
            raise UserError(f"bound: {self.bound} is no number that a metric can reach")
        if self.better not in ("higher", "lower"):
            raise UserError(f'better: "{self.better}" is no direction; write higher or lower')


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate may be promoted, in one sentence and with the numbers that led to it."""

    passed: bool
    sentence: str
    rule: GateRule
    candidate: Scores
    production: Scores | None = None
    against: int | None = None  # the version that was production when it was judged


def judge(candidate: Scores, production: Scores | None, rule: GateRule) -> Verdict:
    """Not worse than production by more than the margin, on enough records, on the whole and on each named slice."""
    objection = next(_objections(candidate, production, rule), None)
    sentence = objection or _praise(candidate, production, rule)
    return Verdict(objection is None, sentence, rule, candidate, production)


def _objections(candidate: Scores, production: Scores | None, rule: GateRule) -> Iterator[str]:
    if candidate.count < max(1, rule.least_count):
        yield f"{_records(candidate.count)} of held-out data are too few to judge by; the rule wants {rule.least_count}"
    yield from _fallen(candidate, production, rule, "", rule.margin)
    value = candidate.metrics.get(rule.metric, math.nan)
    if rule.bound is not None and _worse(value, rule.bound, 0.0, rule.better):
        word = "at least" if rule.better == "higher" else "at most"
        yield f"{rule.metric} is {_number(value)}, and the rule wants {word} {_number(rule.bound)}"
    margin = rule.margin if rule.slice_margin is None else rule.slice_margin
    for name in _names(candidate, production, rule):
        part = candidate.slices.get(name, Slice({}, 0))
        if part.count < max(1, rule.slice_least_count):
            yield f"{_records(part.count)} of {name} are too few to judge by; the rule wants {rule.slice_least_count}"
        yield from _fallen(part, production.slices.get(name) if production else None, rule, f" on {name}", margin)


def _fallen(
    candidate: Scores | Slice, production: Scores | Slice | None, rule: GateRule, where: str, margin: float
) -> Iterator[str]:
    value = candidate.metrics.get(rule.metric)
    if value is None:
        known = ", ".join(candidate.metrics) or "no metric"
        yield f"{rule.metric}{where} was not measured: the evaluation gave {known}"
    elif not math.isfinite(value):
        yield f"{rule.metric}{where} is {value}, which is no measurement"
    elif (held := _held(production, rule.metric)) is not None and _worse(value, held, margin, rule.better):
        allowed = f", by more than the margin of {_number(margin)}" if margin else ""
        yield f"{rule.metric}{where} is {_number(value)}, worse than production's {_number(held)}{allowed}"


def _held(production: Scores | Slice | None, metric: str) -> float | None:
    """Production's value, where it is one to hold a candidate against."""
    value = production.metrics.get(metric) if production is not None and production.count else None
    return value if value is not None and math.isfinite(value) else None


def _worse(value: float, than: float, margin: float, better: Better) -> bool:
    return not (value >= than - margin if better == "higher" else value <= than + margin)


def _names(candidate: Scores, production: Scores | None, rule: GateRule) -> list[str]:
    named = dict.fromkeys(name for name in rule.slices if name != EVERY_SLICE)
    if EVERY_SLICE in rule.slices:
        named |= dict.fromkeys((*(production.slices if production else ()), *candidate.slices))
    return list(named)


def _praise(candidate: Scores, production: Scores | None, rule: GateRule) -> str:
    value = f"{rule.metric} is {_number(candidate.metrics[rule.metric])} on {_records(candidate.count)}"
    held = _held(production, rule.metric)
    against = f"production's is {_number(held)}" if held is not None else "there is no production to hold it against"
    slices = len(_names(candidate, production, rule))
    also = f", and {slices} {'slice does' if slices == 1 else 'slices do'} not fall" if slices else ""
    return f"{value}, {against}{also}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _records(count: int) -> str:
    return f"{count:,} record" if count == 1 else f"{count:,} records"
