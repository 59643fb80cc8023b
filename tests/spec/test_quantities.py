"""Ranges, durations, shares, sizes and chaos as people type them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.spec import UserError, quantities
from springtide.spec.quantities import Blow, Every, Range

counts = st.integers(1, quantities.MOST_WORKERS)


@given(counts, counts, st.sampled_from([":", "..", " : "]))
def test_a_range_is_the_same_with_a_colon_and_with_dots(low: int, high: int, between: str) -> None:
    low, high = sorted((low, high))
    assert quantities.workers(f"{low}{between}{high}") == Range(low, high)


@given(counts, counts)
def test_a_range_reads_back_what_it_prints(low: int, high: int) -> None:
    written = Range(*sorted((low, high)))
    assert quantities.workers(str(written)) == written


@given(counts, counts)
def test_a_range_that_counts_down_is_told_the_right_way_round(low: int, high: int) -> None:
    low, high = sorted((low, high))
    if low < high:
        with pytest.raises(UserError, match=f"counts down; write {low}:{high}$"):
            quantities.workers(f"{high}:{low}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0", "no worker; the least is one: write 1"),
        ("0:4", "no worker; the least is one: write 1:4"),
        ("0:0", "no worker; the least is one: write 1"),
        ("3:0", "counts down; write 1:3"),
        ("-2", "is negative; write 4"),
        ("four", "is no number of workers; write 4, or 1:4"),
        ("", "is no number of workers"),
        ("1:2:3", "is no number of workers"),
        ("1:", "is no number of workers"),
        ("1.5", "is no number of workers"),
        ("100000", "the most is 48"),
    ],
)
def test_a_wrong_range_gets_a_sentence(text: str, sentence: str) -> None:
    assert sentence in told(quantities.workers, text)


@given(
    st.one_of(
        st.integers(1, 10**6).map(lambda n: Every(steps=n)), st.floats(0.001, 1e6).map(lambda s: Every(seconds=s))
    )
)
def test_an_interval_reads_back_what_it_prints(every: Every) -> None:
    read = quantities.interval(str(every))
    assert read.steps == every.steps
    assert read.seconds == pytest.approx(every.seconds)


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("30s", Every(seconds=30)),
        ("5m", Every(seconds=300)),
        ("1h", Every(seconds=3600)),
        ("1.5 min", Every(seconds=90)),
        ("200ms", Every(seconds=0.2)),
        ("200steps", Every(steps=200)),
        ("200 steps", Every(steps=200)),
        ("1 step", Every(steps=1)),
    ],
)
def test_intervals_as_people_type_them(text: str, every: Every) -> None:
    assert quantities.interval(text) == every


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("30", "has no unit; write 30s or 30steps"),
        ("30 sceonds", 'did you mean "seconds"?'),
        ("200stpes", 'did you mean "steps"?'),
        ("0s", "is not more than nothing"),
        ("0steps", "is no whole number of steps; write 200steps"),
        ("1.5steps", "is no whole number of steps"),
        ("often", "is no interval; write 30s, 5m or 200steps"),
        ("", "is no interval"),
    ],
)
def test_a_wrong_interval_gets_a_sentence(text: str, sentence: str) -> None:
    assert sentence in told(quantities.interval, text)


@given(st.floats(0.01, 100))
def test_a_share_is_the_same_in_hundredths_and_as_a_fraction(percent: float) -> None:
    assert quantities.share(f"{percent:.6f}%") == pytest.approx(quantities.share(f"{percent / 100:.8f}"), abs=1e-7)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5", "write 5% if you meant hundredths"),
        ("150%", "the most is 100%"),
        ("0%", "leaves no data"),
        ("-1%", "leaves no data"),
        ("half", "is no share; write 1% or 0.01"),
    ],
)
def test_a_wrong_share_gets_a_sentence(text: str, sentence: str) -> None:
    assert sentence in told(quantities.share, text)


moments = st.one_of(
    st.integers(1, 10**9).map(lambda n: {"at_step": n}),
    st.integers(1, 10**9).map(lambda n: {"every_steps": n}),
    st.integers(1, 10**6).map(lambda n: {"every_seconds": n / 1000}),
)
blows = st.one_of(
    st.builds(
        lambda kind, count, at: Blow(kind, count, **at),
        st.sampled_from(["kill", "stop", "join", "leave"]),
        counts,
        moments,
    ),
    st.builds(lambda kind, at: Blow(kind, "all", **at), st.sampled_from(["kill", "stop"]), moments),
    st.builds(lambda at: Blow("supervisor", **at), moments),
)


@given(st.lists(blows, min_size=1, max_size=5))
def test_chaos_reads_back_what_it_prints(schedule: list[Blow]) -> None:
    assert quantities.chaos(";".join(map(str, schedule))) == schedule


def test_chaos_as_people_type_it() -> None:
    assert quantities.chaos("kill=1,every=2s; stop=1,at=step:40;kill=all,at=step:60;supervisor,at=step:80;") == [
        Blow("kill", 1, every_seconds=2),
        Blow("stop", 1, at_step=40),
        Blow("kill", "all", at_step=60),
        Blow("supervisor", at_step=80),
    ]
    assert quantities.chaos("kill,every=20steps") == [Blow("kill", 1, every_steps=20)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kil=1,every=2s", 'did you mean "kill"?'),
        ("kill=1,evry=2s", 'did you mean "every"?'),
        ("kill=1", "does not say when; write kill=1,at=step:40 or kill=1,every=2s"),
        ("kill=none,at=step:4", '"none" is no number of workers; write kill=1 or kill=all'),
        ("kill=0,at=step:4", '"0" is no number of workers'),
        ("join=all,at=step:4", "write join=1"),
        ("supervisor=2,at=step:4", "there is one supervisor"),
        ("kill=1,at=noon", "write at=step:40"),
        ("kill=1,at=step:0", "steps start at 1"),
        ("kill=1,at=step:4,every=2s", "names two moments"),
        ("kill=1,every=2", "has no unit"),
        (" ; ", "nothing is said"),
    ],
)
def test_wrong_chaos_gets_a_sentence(text: str, sentence: str) -> None:
    assert sentence in told(quantities.chaos, text)


@given(st.text(max_size=20))
def test_whatever_is_typed_is_read_or_told_in_one_line(text: str) -> None:
    for read in (
        quantities.workers,
        quantities.interval,
        quantities.share,
        quantities.chaos,
        quantities.size,
        quantities.duration,
    ):
        try:
            read(text)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512MiB", 512 * 2**20), ("2GB", 2 * 10**9), ("1.5g", 1_500_000_000), ("7 kB", 7000)],
)
def test_sizes_as_people_type_them(text: str, size: int) -> None:
    assert quantities.size(text) == size


@given(st.integers(0, 10**14))
def test_a_size_for_people_is_within_a_twentieth_of_the_truth(size: int) -> None:
    assert quantities.size(quantities.bytes_text(size)) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "4 ms"), (0.32, "0.32 s"), (1.26, "1.3 s"), (12.4, "12 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"), (7800, "2 h 10 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert quantities.duration_text(seconds) == text


def told(read: object, text: str) -> str:
    """The one sentence about `text`, which must be refused."""
    with pytest.raises(UserError) as refused:
        read(text)  # type: ignore[operator]
    assert not re.search(r"[\r\n]", str(refused.value))
    return str(refused.value)
