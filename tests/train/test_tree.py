"""One tree for all sums: the same whatever the order in which leaves come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.train.tree import Stack, fold, split

leaves = st.lists(st.none() | st.text("abc", min_size=1, max_size=2), min_size=1, max_size=40)


def _shown(left: str, right: str) -> str:
    return f"({left}+{right})"


@pytest.mark.parametrize(("count", "left"), [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8)])
def test_the_left_side_is_the_largest_power_of_two_below(count: int, left: int) -> None:
    assert split(count) == left


def test_the_shape_of_the_tree_is_fixed() -> None:
    assert fold(list("abcdef"), _shown) == "(((a+b)+(c+d))+(e+f))"


@given(leaves)
def test_a_stack_sums_in_the_order_of_the_tree(leaves: list[str | None]) -> None:
    stack: Stack[str] = Stack(_shown)
    for leaf in leaves:
        stack.push([leaf])
    assert stack.total() == [fold(leaves, _shown)]


@given(leaves)
def test_missing_leaves_add_nothing_and_the_rest_is_there_once(leaves: list[str | None]) -> None:
    total = fold(leaves, lambda left, right: left + right)
    assert (total or "") == "".join(leaf or "" for leaf in leaves)


@given(st.lists(st.integers(), min_size=1, max_size=8), st.integers(0, 3))
def test_an_aligned_block_summed_beforehand_changes_nothing(numbers: list[int], power: int) -> None:
    size = 1 << power
    blocks = [numbers[at : at + size] for at in range(0, len(numbers), size)]
    sums = [fold([str(number) for number in block], _shown) for block in blocks]
    assert fold(sums, _shown) == fold([str(number) for number in numbers], _shown)
