"""Corrections find their request, and who begins in the middle goes on as if it had never stopped."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from springtide.serve.loop import joining
from springtide.serve.loop.holdout import held_out
from springtide.serve.loop.joining import Joining

ids = st.sampled_from("abcdef")
entries = st.lists(
    st.one_of(
        ids.map(lambda id: {"kind": "request", "id": id, "input": [1], "output": "x"}),
        st.tuples(ids, st.integers(0, 3)).map(lambda two: {"kind": "feedback", "id": two[0], "correct": two[1]}),
        st.none(),
    ),
    max_size=60,
)


def asked(id: str) -> dict[str, Any]:
    return {"kind": "request", "id": id, "input": {"pixels": [0]}, "output": "on", "version": 3, "time": 1.0}


def corrected(id: str, correct: Any = "off") -> dict[str, Any]:
    return {"kind": "feedback", "id": id, "correct": correct, "version": 3, "time": 2.0}


def test_a_correction_and_its_request_become_one_record() -> None:
    join = Joining()
    assert join.take(asked("a")) is None
    assert join.take(corrected("a")) == {
        "id": "a", "input": {"pixels": [0]}, "output": "on", "correct": "off", "version": 3, "time": 2.0,
    }  # fmt: skip


def test_a_second_correction_is_counted_and_changes_nothing() -> None:
    join = Joining()
    join.take(asked("a"))
    join.take(corrected("a"))
    assert join.take(corrected("a", "on")) is None
    assert (join.twice, join.unknown) == (1, 0)


def test_a_correction_of_what_was_never_asked_is_counted() -> None:
    join = Joining()
    assert join.take(corrected("nobody")) is None
    assert join.unknown == 1


def test_what_waited_beyond_the_window_is_forgotten() -> None:
    join = Joining(window=10)
    join.take(asked("old"))
    for number in range(10):
        join.take(asked(f"n{number}"))
    assert join.take(corrected("old")) is None
    assert join.take(corrected("n9")) is not None
    assert len(join._open) <= 10


def test_what_is_no_entry_is_passed_over() -> None:
    assert joining.entry(b"not json") is None
    assert joining.entry(b"[1]") is None
    assert joining.entry(b'{"id": 3}') is None
    assert joining.entry(json.dumps(asked("a")).encode()) == asked("a")


@given(entries, st.integers(0, 60), st.integers(1, 12))
def test_beginning_in_the_middle_after_a_window_of_reading_gives_what_the_whole_gives(
    history: list[Any], middle: int, window: int
) -> None:
    middle = min(middle, len(history))
    whole, late = Joining(window), Joining(window)
    expected = [whole.take(one) for one in history]
    begin = max(0, middle - window)
    for one in history[begin:middle]:
        late.take(one)
    assert [late.take(one) for one in history[middle:]] == expected[middle:]


def test_a_tenth_of_the_ids_is_held_out_and_always_the_same() -> None:
    chosen = [number for number in range(10_000) if held_out(f"request-{number}")]
    assert 900 < len(chosen) < 1100
    assert chosen[:3] == [number for number in range(chosen[2] + 1) if held_out(f"request-{number}")]
    assert held_out("request-13") == held_out("request-13")
