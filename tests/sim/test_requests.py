"""Requests as the load of a service, and what stating its pattern is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.made import figures
from springtide.core.load import BINS
from springtide.sim import requests
from springtide.sim.formats import Options
from springtide.sim.policies import POLICIES
from springtide.sim.trace import Trace


@pytest.fixture
def morning(tmp_path: Path) -> Trace:
    """Forty minutes with a sudden rise in the middle."""
    path = tmp_path / "requests.csv"
    a_minute = [2] * 20 + [30] * 5 + [3] * 15
    lines = [
        f"2026-03-02 08:{minute:02}:{second:02}.000" for minute, each in enumerate(a_minute) for second in range(each)
    ]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *(f"{line},1,1" for line in lines)]) + "\n")
    return requests.read([path], Options(nodes="8x8gpu"))


def test_what_its_owner_states_of_a_rise_is_there_before_it_comes(morning: Trace) -> None:
    found = figures(morning, "springtide")
    assert found["service_shortfall"] == 0
    assert found["service_answering_after"] == 0


def test_an_unforeseen_rise_is_answered_as_fast_as_a_replica_starts(morning: Trace) -> None:
    found = figures(POLICIES["springtide-unforeseen"].world(morning), "springtide-unforeseen")
    assert found["service_restored_after"] == 0
    assert found["service_answering_after"] == requests.START_S


def test_the_pattern_is_the_highest_rate_in_force_in_each_five_minutes() -> None:
    stated = requests.pattern(np.arange(0.0, 900.0, 60.0), np.array([1.0, 5, 2, 2, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0]))
    assert len(stated) == BINS
    at = int(np.flatnonzero(stated)[0])
    assert stated[at : at + 3].tolist() == [5.0, 3.0, 7.0]  # the second begins while the rate is 3
