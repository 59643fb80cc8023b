"""Who is killed for silence, and who is merely busy."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from springtide.train.vigil import Look, Vigil, look, measured

BUSY = Look(beat=0.0, since=0.0, state="R", cpu_ticks=0)


def _watched(seen: dict[float, Look], vigil: Vigil | None = None) -> dict[float, str]:
    """Looks at one worker at these times; when it was condemned, and why."""
    vigil, found = vigil or Vigil(), {}
    for now, at in seen.items():
        vigil, condemned = look(vigil, {0: at}, now)
        if condemned:
            found[now] = condemned[0]
    return found


def test_a_stopped_worker_is_condemned_after_a_second() -> None:
    stopped = replace(BUSY, state="T")
    found = _watched({t / 10: stopped for t in range(30)})
    assert min(found) > 1.0 and "stopped" in found[min(found)]


def test_a_busy_interpreter_is_not_a_hung_one() -> None:
    assert not _watched({t / 10: replace(BUSY, cpu_ticks=t) for t in range(300)})


def test_silence_without_cpu_time_is_a_hang() -> None:
    found = _watched({t / 10: BUSY for t in range(60)})
    assert found and "hung" in next(iter(found.values()))


def test_a_worker_that_beats_is_left_alone_however_still() -> None:
    assert not _watched({t / 10: replace(BUSY, beat=t / 10, state="S") for t in range(300)})


def test_a_microbatch_beyond_its_deadline_is_condemned_although_it_beats() -> None:
    seen = {t / 10: replace(BUSY, beat=t / 10, since=1.0, cpu_ticks=t) for t in range(10, 80)}
    found = _watched(seen, Vigil(deadline_seconds=5.0))
    assert min(found) > 6.0 and "microbatch" in found[min(found)]


def test_a_supervisor_that_was_late_gives_everyone_a_fresh_second() -> None:
    stopped = replace(BUSY, state="T")
    found = _watched({0.0: BUSY, 10.0: stopped, 10.5: stopped, 11.1: stopped})
    assert list(found) == [11.1]


def test_the_deadline_follows_what_microbatches_take() -> None:
    vigil = Vigil()
    assert vigil.deadline == 600.0
    for _ in range(5):
        vigil = measured(vigil, 10.0)
    assert vigil.deadline == 200.0
    assert measured(Vigil(), 0.001).deadline == 60.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.sampled_from("RSTD"), st.integers(0, 9)), max_size=20))
def test_nobody_who_beat_within_the_second_and_is_outside_a_microbatch_is_condemned(
    seen: list[tuple[float, float, str, int]],
) -> None:
    vigil, now = Vigil(), 0.0
    for pause, silent, state, ticks in seen:
        now += pause
        vigil, condemned = look(vigil, {0: Look(now - min(silent, 0.99), 0.0, state, ticks)}, now)
        assert not condemned
