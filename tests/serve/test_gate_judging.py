"""The gate's decision: never against a better candidate, never for what was not measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.serve.judging import GateRule, Scores, Slice, Verdict, judge
from springtide.spec.errors import UserError

VALUES = st.floats(0, 1) | st.sampled_from((math.nan, math.inf, -math.inf))
COUNTS = st.integers(0, 30)
NAMES = ("de", "en")
PARTS = st.dictionaries(st.sampled_from(NAMES), st.builds(Slice, st.fixed_dictionaries({"accuracy": VALUES}), COUNTS))
SCORES = st.builds(Scores, st.dictionaries(st.sampled_from(("accuracy", "loss")), VALUES), COUNTS, PARTS)
RULES = st.builds(
    GateRule, margin=st.floats(0, 0.5), better=st.sampled_from(("higher", "lower")), least_count=st.integers(1, 20),
    slices=st.sampled_from(((), ("de",), ("de", "en"), ("*",))), slice_margin=st.none() | st.floats(0, 0.5),
    slice_least_count=st.integers(1, 20), bound=st.none() | st.floats(0, 1),
)  # fmt: skip
MAYBE = st.none() | SCORES


def _improved(scores: Scores, by: float, more: int, better: str) -> Scores:
    """As good on everything, or better, on at least as many records."""
    step = by if better == "higher" else -by

    def up(part: Any) -> Any:
        return replace(
            part, metrics={name: value + step for name, value in part.metrics.items()}, count=part.count + more
        )

    return replace(up(scores), slices={name: up(part) for name, part in scores.slices.items()})


@given(SCORES, MAYBE, RULES, st.floats(0, 1), st.integers(0, 10))
def test_who_is_better_never_fails_where_who_is_worse_passes(
    worse: Scores, production: Scores | None, rule: GateRule, by: float, more: int
) -> None:
    better = _improved(worse, by, more, rule.better)
    if judge(worse, production, rule).passed:
        assert judge(better, production, rule).passed


@given(SCORES, MAYBE, RULES, st.floats(0, 0.5))
def test_a_looser_rule_never_fails_who_passed_a_stricter(
    candidate: Scores, production: Scores | None, rule: GateRule, by: float
) -> None:
    looser = replace(
        rule, margin=rule.margin + by, least_count=1, slice_least_count=1, bound=None,
        slice_margin=None if rule.slice_margin is None else rule.slice_margin + by,
    )  # fmt: skip
    if judge(candidate, production, rule).passed:
        assert judge(candidate, production, looser).passed
        assert judge(candidate, None, rule).passed


@given(SCORES, MAYBE, RULES)
def test_nothing_passes_that_was_not_measured(candidate: Scores, production: Scores | None, rule: GateRule) -> None:
    verdict = judge(candidate, production, rule)
    assert verdict.sentence and "\n" not in verdict.sentence
    if verdict.passed:
        assert math.isfinite(candidate.metrics["accuracy"]) and candidate.count >= rule.least_count
        for name in rule.slices if rule.slices != ("*",) else production.slices if production else ():
            part = candidate.slices[name]
            assert math.isfinite(part.metrics["accuracy"]) and part.count >= rule.slice_least_count


@given(SCORES, RULES)
def test_production_passes_against_itself_where_it_was_measured(scores: Scores, rule: GateRule) -> None:
    assert judge(scores, scores, rule).passed == judge(scores, None, rule).passed


@given(SCORES, MAYBE, RULES)
def test_a_verdict_is_kept_with_all_its_numbers(candidate: Scores, production: Scores | None, rule: GateRule) -> None:
    verdict = replace(judge(candidate, production, rule), against=3)
    kept = msgspec.convert(msgspec.to_builtins(verdict), Verdict)
    assert repr(kept) == repr(verdict)  # nan is not equal to itself


@pytest.mark.parametrize(
    ("candidate", "production", "rule", "passed", "sentence"),
    [
        (0.90, 0.89, {}, True, "accuracy is 0.9 on 100 records, production's is 0.89"),
        (0.90, None, {}, True, "accuracy is 0.9 on 100 records, there is no production to hold it against"),
        (0.90, math.nan, {}, True, "accuracy is 0.9 on 100 records, there is no production to hold it against"),
        (0.88, 0.89, {}, False, "accuracy is 0.88, worse than production's 0.89"),
        (0.88, 0.89, {"margin": 0.02}, True, "accuracy is 0.88 on 100 records, production's is 0.89"),
        (0.80, 0.89, {"margin": 0.02}, False,
         "accuracy is 0.8, worse than production's 0.89, by more than the margin of 0.02"),
        (0.80, 0.90, {"better": "lower"}, True, "accuracy is 0.8 on 100 records, production's is 0.9"),
        (0.95, 0.90, {"better": "lower"}, False, "accuracy is 0.95, worse than production's 0.9"),
        (math.nan, None, {}, False, "accuracy is nan, which is no measurement"),
        (math.inf, 0.9, {}, False, "accuracy is inf, which is no measurement"),
        (0.5, None, {"metric": "f1"}, False, "f1 was not measured: the evaluation gave accuracy"),
        (0.5, None, {"least_count": 200}, False,
         "100 records of held-out data are too few to judge by; the rule wants 200"),
        (0.5, None, {"bound": 0.6}, False, "accuracy is 0.5, and the rule wants at least 0.6"),
        (0.9, 0.9, {"slices": ("de",)}, False, "0 records of de are too few to judge by; the rule wants 1"),
    ],
)  # fmt: skip
def test_a_verdict_says_why(
    candidate: float, production: float | None, rule: dict[str, Any], passed: bool, sentence: str
) -> None:
    held = None if production is None else Scores({"accuracy": production}, 100)
    verdict = judge(Scores({"accuracy": candidate}, 100), held, GateRule(**rule))
    assert (verdict.passed, verdict.sentence) == (passed, sentence)


def test_a_slice_that_falls_stops_what_is_better_on_the_whole() -> None:
    production = Scores(
        {"accuracy": 0.8}, 100, {"de": Slice({"accuracy": 0.9}, 40), "en": Slice({"accuracy": 0.7}, 60)}
    )
    candidate = Scores(
        {"accuracy": 0.9}, 100, {"de": Slice({"accuracy": 0.5}, 40), "en": Slice({"accuracy": 0.99}, 60)}
    )
    refused = judge(candidate, production, GateRule(slices=("*",)))
    assert not refused.passed and refused.sentence == "accuracy on de is 0.5, worse than production's 0.9"
    assert judge(candidate, production, GateRule(slices=("en",))).passed
    gone = judge(Scores({"accuracy": 0.9}, 100), production, GateRule(slices=("*",)))
    assert not gone.passed and gone.sentence == "0 records of de are too few to judge by; the rule wants 1"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"margin": -0.1}, "margin: -0.1 is no margin"),
        ({"margin": math.nan}, "margin: nan is no margin"),
        ({"slice_margin": math.inf}, "slice_margin: inf is no margin"),
        ({"least_count": 0}, "least_count: 0 records judge nothing"),
        ({"bound": math.nan}, "bound: nan is no number"),
        ({"better": "more"}, 'better: "more" is no direction; write higher or lower'),
    ],
)
def test_a_rule_that_cannot_judge_is_refused(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        GateRule(**rule)
