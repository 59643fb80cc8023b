"""The step protocol's pure functions, one law each; `test_model` walks them all together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.train import protocol
from springtide.train.protocol import (
    BUFFERS,
    NOBODY,
    Compute,
    Course,
    Header,
    Kind,
    Partial,
    Update,
    Wait,
    Wish,
)  # fmt: skip

NOW = Header(7, Kind.TRAIN, 7, 0, 0, 1, NOBODY, 0, 0)


def _next(me: int, blocks: list[int], partials: list[int] | None, chunks: list[int], **more: object) -> protocol.Action:
    owners = [0, 0, 1, 1]
    covers = more.pop("covers", [1] * 4)
    return protocol.next_action(me, NOW, owners, [0, 1], blocks, covers, partials, chunks, **more)  # type: ignore[arg-type]


# --- what is next


def test_ones_own_microbatches_come_first_in_order() -> None:
    assert _next(1, [6, 6, 6, 6], None, [6, 6]) == Compute((2,))
    assert _next(1, [6, 6, 7, 6], None, [6, 6]) == Compute((3,))


def test_reduction_waits_for_every_microbatch() -> None:
    assert _next(1, [7, 6, 7, 7], None, [6, 6]) == Wait()
    assert _next(1, [7, 7, 7, 7], None, [6, 6]) == Update(1)


def test_an_update_waits_for_every_partial() -> None:
    assert _next(0, [7] * 4, [6, 6], [6, 6]) == Partial(0)
    assert _next(0, [7] * 4, [7, 6], [6, 6]) == Wait()
    assert _next(0, [7] * 4, [7, 7], [6, 6]) == Update(0)


def test_who_has_done_all_waits() -> None:
    assert _next(0, [7] * 4, None, [7, 6]) == Wait()


def test_a_committed_tick_leaves_nothing_to_compute() -> None:
    assert _next(0, [8, 6, 8, 8], None, [7, 7]) == Wait()


def test_a_fused_pass_takes_neighbours_and_a_flag_speaks_for_them() -> None:
    assert _next(0, [6] * 4, None, [6, 6], fused=True) == Compute((0, 1))
    assert _next(0, [7, 6, 6, 6], None, [6, 6], fused=True, covers=[2, 1, 1, 1]) == Wait()
    assert _next(1, [7, 6, 6, 6], None, [6, 6], fused=True, covers=[2, 1, 1, 1]) == Compute((2, 3))


def test_held_out_microbatches_go_round_the_owners() -> None:
    assert protocol.next_action(1, NOW, [0, 1], [0, 0], [7, 7, 7, 6], [1] * 4, None, [6, 6]) == Compute((3,))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data()
)
def test_nobody_is_ever_told_to_do_what_is_anothers_or_done(
    blocks: list[int], chunks: list[int], data: st.DataObject
) -> None:
    flags = data.draw(st.lists(st.integers(6, 7), min_size=len(blocks), max_size=len(blocks)))
    done = data.draw(st.lists(st.integers(6, 7), min_size=len(chunks), max_size=len(chunks)))
    actions = {
        me: protocol.next_action(me, NOW, blocks, chunks, flags, [1] * len(blocks), None, done) for me in range(4)
    }
    for me, action in actions.items():
        match action:
            case Compute((block,)):
                assert blocks[block] == me and flags[block] < 7
            case Update(chunk):
                assert chunks[chunk] == me and done[chunk] < 7 and min(flags) == 7
    if min(done) < 7:  # with all chunks flagged, the tick is committed
        assert any(action != Wait() for action in actions.values()), "somebody can always go on"


def test_owners_are_read_before_flags() -> None:
    read: list[str] = []

    class Seen(list[int]):
        def __init__(self, name: str, words: list[int]) -> None:
            super().__init__(words)
            self.name = name

        def __iter__(self):  # type: ignore[no-untyped-def]
            read.append(self.name)
            return super().__iter__()

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            read.append(self.name)
            return super().__getitem__(at)

    protocol.next_action(
        0, NOW, Seen("owner", [0]), Seen("owner", [0]), Seen("flag", [6]), [1], None, Seen("flag", [6])
    )
    assert "flag" in read and "owner" not in read[read.index("flag") :]


# --- where one is


def _headers(*headers: Header) -> protocol.Callable[[int], Header]:
    kept = {header.tick % 2: header for header in headers}
    return kept.__getitem__


def test_the_tick_under_way_is_the_one_after_the_least_flag() -> None:
    assert protocol.committed([6, 7]) == 6
    assert protocol.current([6, 7], _headers(NOW, protocol.following(NOW, Wish(), Course(9)))) == NOW


def test_a_header_of_another_tick_is_not_taken() -> None:
    assert protocol.current([8, 8], _headers(NOW)) is None


def test_a_tick_committed_while_its_header_was_read_is_looked_for_again() -> None:
    flags = [6]

    def read(parity: int) -> Header:
        flags[0] = 7
        return NOW

    assert protocol.current(flags, read) is None


# --- the next tick


def test_buffers_alternate_while_nothing_is_lent() -> None:
    after = protocol.following(NOW, Wish(), Course(9))
    assert (after.read, after.write, after.step) == (1, 0, 8)


def test_a_loan_is_granted_on_what_is_read_next_and_kept_until_it_is_returned() -> None:
    lent = protocol.following(NOW, Wish(loan=1), Course(99))
    assert (lent.lent, lent.loan, lent.lent_step) == (1, 1, 7)
    after = protocol.following(lent, Wish(loan=1), Course(99))
    assert after.lent == 1 and after.write != 1
    assert protocol.following(after, Wish(loan=1, returned=1), Course(99)).lent == NOBODY


wishes = st.builds(Wish, st.integers(0, 3), st.integers(0, 5), st.integers(0, 5), st.integers(0, 1))


@given(st.lists(wishes, max_size=30), st.integers(0, 6), st.integers(0, 3))
def test_whatever_is_wished_no_tick_writes_what_it_reads_or_lends(wished: list[Wish], steps: int, every: int) -> None:
    course = Course(steps, every)
    now = protocol.first_header(0, 0, course, evaluated=False)
    for wish in wished:
        assert now.write not in (now.read, now.lent) and 0 <= now.write < BUFFERS
        assert now.step <= max(steps, 0)
        if now.kind == Kind.END:
            break
        after = protocol.following(now, wish, course)
        assert after.tick == now.tick + 1 and after.generation >= now.generation
        assert after.read == (now.write if now.kind == Kind.TRAIN else now.read)
        now = after


@pytest.mark.parametrize(("steps", "every"), [(3, 0), (4, 2), (5, 2), (1, 7)])
def test_a_run_has_its_steps_and_an_evaluation_after_each_period_and_the_last(steps: int, every: int) -> None:
    course, kinds = Course(steps, every), []
    now = protocol.first_header(0, 0, course, evaluated=False)
    while now.kind != Kind.END:
        kinds.append((now.kind, now.step))
        now = protocol.following(now, Wish(), course)
    looked = [s for s in range(1, steps + 1) if every and (s % every == 0 or s == steps)]
    assert [step for kind, step in kinds if kind == Kind.TRAIN] == list(range(1, steps + 1))
    assert [step for kind, step in kinds if kind == Kind.EVALUATE] == looked


def test_a_wish_for_the_end_is_kept_after_the_evaluation_that_is_due() -> None:
    due = protocol.following(NOW, Wish(stop=1), Course(9, 7))
    assert due.kind == Kind.EVALUATE
    assert protocol.following(due, Wish(stop=1), Course(9, 7)).kind == Kind.END


# --- who


@given(st.dictionaries(st.integers(0, 63), st.floats(0.1, 10), min_size=1, max_size=8), st.integers(0, 64))
def test_dealing_gives_every_item_to_somebody_as_near_to_the_share_as_can_be(
    shares: dict[int, float], items: int
) -> None:
    dealt = protocol.deal(shares, items)
    assert len(dealt) == items and set(dealt) <= set(shares)
    total = sum(shares.values())
    assert all(abs(dealt.count(worker) - items * share / total) < 1 + 1e-6 for worker, share in shares.items())
    assert dealt == sorted(dealt), "neighbours stay together"


@given(
    st.lists(st.integers(0, 4), max_size=20), st.integers(0, 4), st.lists(st.integers(5, 9), min_size=1, unique=True)
)
def test_a_substitution_touches_all_of_the_dead_and_nothing_else(
    owners: list[int], dead: int, heirs: list[int]
) -> None:
    changes = protocol.substitute(owners, dead, heirs)
    assert set(changes) == {item for item, owner in enumerate(owners) if owner == dead}
    assert set(changes.values()) <= set(heirs)
    counts = [list(changes.values()).count(heir) for heir in heirs]
    assert max(counts) - min(counts) <= 1
