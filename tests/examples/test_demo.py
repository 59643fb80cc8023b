"""The demonstration compares what really happened."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "examples" / "demo_elastic.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_elastic", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def told(demo: ModuleType, *, blows: bool, **report: object):
    """A run of 100 steps of 10 ms; each blow makes the step after it 500 ms longer."""
    run = demo.Told(report={"digest": "ab", "metrics": {"accuracy": 0.99}, "samples_lost": 0, "samples_twice": 0,
                            "steps": 100, "seconds": 1.0, **report})  # fmt: skip
    time, places = 0.0, [round(100 * blow.at) for blow in demo.BLOWS] if blows else []
    for step in range(1, 101):
        if step in places:
            run.hear({"event": "chaos", "step": step, "time": time + 0.001, "what": "kill"})
            run.hear({"event": "chaos", "step": step, "time": time + 0.002, "what": "kill another in the same blow"})
            time += 0.5
        time += 0.01
        run.hear({"event": "step", "step": step, "time": time})
    return run


def test_a_good_pair_of_runs_is_called_good(demo):
    assert demo.verdict(told(demo, blows=True), told(demo, blows=False))[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": "cd"},
        {"digest": None},
        {"samples_lost": 1},
        {"samples_twice": 1},
        {"steps": 99},
        {"metrics": {"accuracy": 0.9}},
    ],
    ids=str,
)
def test_whatever_differs_makes_the_verdict_bad(demo, wrong):
    assert not demo.verdict(told(demo, blows=True, **wrong), told(demo, blows=False))[1]


def test_two_runs_without_a_digest_are_not_the_same(demo):
    assert not demo.verdict(told(demo, blows=True, digest=None), told(demo, blows=False, digest=None))[1]


def test_blows_that_did_not_come_make_the_verdict_bad(demo):
    assert not demo.verdict(told(demo, blows=False), told(demo, blows=False))[1]


def test_each_blow_is_charged_with_its_own_delay(demo):
    storm = told(demo, blows=True)
    assert [round(storm.delay_seconds(k), 3) for k in range(len(demo.BLOWS))] == [0.5] * len(demo.BLOWS)


def test_what_is_said_at_once_is_one_blow(demo):
    assert len(told(demo, blows=True).blows) == len(demo.BLOWS)
