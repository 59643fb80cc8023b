"""How `tide price` draws what spot jobs paid."""

from __future__ import annotations

from springtide.cli import price


def test_each_column_shows_the_highest_price_of_its_span() -> None:
    steps = [(0.0, 1.0), (10.0, 3.0), (12.0, 1.0), (30.0, 2.0)]
    assert price.sampled(steps, 0.0, 40.0, 4) == [1.0, 3.0, 1.0, 2.0]


def test_before_the_first_price_there_is_none() -> None:
    assert price.sampled([(10.0, 3.0)], 0.0, 20.0, 2) == [0.0, 3.0]


def test_a_chart_goes_from_the_lowest_to_the_highest() -> None:
    assert price.chart([0.0, 0.5, 1.0]) == "▁▅█"
    assert price.chart([2.0, 2.0]) == "▁▁"


def test_a_price_that_never_moved_needs_no_chart() -> None:
    prices = {"core": 0.01, "gpu": 0.5, "floor_core": 0.01, "floor_gpu": 0.5, "history": []}
    lines = price._told(prices, 0.0, 3600.0)
    assert lines[0] == "core-hour 0.01 now, 0.01 at least"
    assert not any("▁" in line for line in lines)
