"""Drift of inputs and of answers: what is the same stays silent, what differs is told, and memory has a bound."""

from __future__ import annotations

import random

import pytest

from springtide.serve.loop import drift


def _sample(seed: int, count: int, mean: float = 0.0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(mean, 1.0) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_two_samples_of_one_kind_are_alike(seed: int) -> None:
    assert drift.stability_index(_sample(seed, 1000), _sample(seed + 1000, 1000)) < 0.1


@pytest.mark.parametrize("seed", range(20))
def test_small_samples_of_one_kind_are_no_major_drift(seed: int) -> None:
    assert drift.stability_index(_sample(seed, 200), _sample(seed + 1000, 200)) < 0.25


@pytest.mark.parametrize("seed", range(20))
def test_a_mean_that_moved_by_one_spread_is_major(seed: int) -> None:
    assert drift.stability_index(_sample(seed, 1000), _sample(seed + 1000, 1000, mean=1.0)) > 0.25


def test_a_constant_that_changes_is_major_and_one_that_stays_is_none() -> None:
    assert drift.stability_index([3.0] * 200, [3.0] * 200) == 0.0
    assert drift.stability_index([3.0] * 200, [2.0] * 200) > 1.0
    assert drift.stability_index([3.0] * 200, [4.0] * 200) > 1.0


def test_numbers_are_found_by_their_path() -> None:
    found = drift.numbers({"age": 3, "name": "x", "on": True, "at": [1.5, {"deep": 2}], "odd": float("nan")})
    assert found == {"input.age": 3.0, "input.on": 1.0, "input.at[0]": 1.5, "input.at[1].deep": 2.0}


def test_a_long_list_counts_as_mean_spread_and_length() -> None:
    found = drift.numbers([[1.0, 3.0]] * 50)
    assert found == {"input (mean)": 2.0, "input (spread)": 1.0, "input (length)": 50.0}


def test_a_window_is_bounded_in_records_and_in_fields() -> None:
    window = drift.Window(100)
    for number in range(1000):
        window.add({f"field {number}": 1.0, "always": float(number)})
    values = window.values()
    assert list(values) == ["always"]
    assert values["always"] == [float(number) for number in range(900, 1000)]
    assert len(window._fields) == drift.MOST_FIELDS


def test_answers_that_stay_as_right_as_they_were_are_no_fall() -> None:
    draw, answers = random.Random(7), drift.Answers(500, 0.1)
    assert not any(answers.add(draw.random() < 0.9) for _ in range(5000))
    assert answers.accuracy == pytest.approx(0.9, abs=0.05)


def test_a_fall_of_accuracy_is_told_once() -> None:
    draw, answers = random.Random(7), drift.Answers(200, 0.1)
    told = [answers.add(draw.random() < 0.95) for _ in range(1000)]
    assert not any(told)
    told = [answers.add(draw.random() < 0.6) for _ in range(400)]
    assert sum(told) == 1
    assert answers.accuracy == pytest.approx(0.6, abs=0.1)


def test_an_answer_is_right_where_its_field_is() -> None:
    assert drift.right("loud", "loud")
    assert not drift.right({"word": "loud", "score": 1}, {"word": "loud"})
    assert drift.right({"word": "loud", "score": 1}, {"word": "loud"}, "word")
    assert drift.right({"word": "loud", "score": 1}, "loud", "word")
