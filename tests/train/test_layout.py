"""Where everything lies: whatever the model, pieces and chunks cover it once, aligned, apart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from springtide.spec import UserError
from springtide.train import layout
from springtide.train.arena import Regions, Shape
from springtide.train.layout import ALIGN_BYTES, PIECE_ELEMENTS, Layout, StateKey
from springtide.train.tree import Stack, fold, split

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
LENGTHS = st.sampled_from([0, 1, 2, 3, 7, 255, 256, 257, 1000, 4096, 33_000])
SHAPES = st.one_of(st.just(()), LENGTHS.map(lambda n: (n,)), st.tuples(st.integers(1, 300), st.integers(1, 300)))
PARAMETERS = st.lists(st.tuples(SHAPES, DTYPES, st.integers(0, 3)), min_size=1, max_size=12)
BUFFERS = st.lists(
    st.tuples(SHAPES, st.sampled_from([torch.float32, torch.int64, torch.bool, torch.bfloat16]), st.booleans()),
    max_size=4,
)  # fmt: skip


def laid_out(parameters: Any, buffers: Any, elementwise: bool) -> Layout:
    named = [(f"p{k}", torch.empty(shape, dtype=dtype), group) for k, (shape, dtype, group) in enumerate(parameters)]
    kept = [
        (f"b{k}", torch.empty(shape, dtype=dtype), persistent) for k, (shape, dtype, persistent) in enumerate(buffers)
    ]
    keys = [
        [
            StateKey("step", "F32", (), False),
            StateKey("mean", layout.dtype_name(tensor.dtype), tuple(tensor.shape), True),
            StateKey("pair", "F64", (2,), False),
            StateKey("count", "I64", (), False, "int"),
        ]
        for _, tensor, _ in named
    ]
    return layout.build(named, [("frozen", torch.empty(5))], kept, keys, elementwise=elementwise)


def apart(ranges: list[tuple[int, int]], begin: int, end: int) -> None:
    at = begin
    for first, last in sorted(ranges):
        assert at <= first <= last <= end
        at = last if last > first else at


LAYOUTS = given(parameters=PARAMETERS, buffers=BUFFERS, elementwise=st.booleans())
QUICK = settings(max_examples=60, deadline=None)


@LAYOUTS
@example([((1000,), torch.float32, 0), ((40_000,), torch.float32, 0)], [], True)
@QUICK
def test_every_element_is_in_exactly_one_piece(parameters: Any, buffers: Any, elementwise: bool) -> None:
    lay = laid_out(parameters, buffers, elementwise)
    pieces = [piece for chunk in lay.chunks for piece in chunk.pieces]
    assert [piece.index for piece in pieces] == list(range(lay.pieces))
    for number, (shape, _, group) in enumerate(parameters):
        own = [piece for piece in pieces if piece.parameter == number]
        elements = torch.Size(shape).numel()
        at = 0
        for piece in own:
            assert piece.start == at
            at += piece.count
        assert own
        assert at == elements
        assert lay.groups[number] == group
        if not elementwise:
            assert len(own) == 1
        assert all(piece.start % PIECE_ELEMENTS == 0 for piece in own)


@LAYOUTS
@QUICK
def test_chunks_are_neighbours_of_one_type_and_apart(parameters: Any, buffers: Any, elementwise: bool) -> None:
    lay = laid_out(parameters, buffers, elementwise)
    assert lay.chunks
    numbers = [piece.parameter for chunk in lay.chunks for piece in chunk.pieces]
    assert numbers == sorted(numbers)
    apart([chunk.values for chunk in lay.chunks], 0, lay.model_bytes)
    apart([chunk.state for chunk in lay.chunks], lay.model_bytes, lay.state_bytes)
    apart([chunk.slot for chunk in lay.chunks], 0, lay.slot_bytes)
    for chunk in lay.chunks:
        assert len({lay.parameters[piece.parameter].dtype for piece in chunk.pieces}) == 1
        for piece in chunk.pieces:
            place, slot = lay.parameters[piece.parameter], lay.gradients[piece.parameter]
            size, wide = layout.dtype_of(place.dtype).itemsize, layout.dtype_of(slot.dtype).itemsize
            assert layout.dtype_of(slot.dtype) == chunk.slot_dtype
            begin = place.offset + piece.start * size
            assert chunk.values[0] <= begin <= begin + piece.count * size <= chunk.values[1]
            begin = slot.offset + piece.start * wide
            assert chunk.slot[0] <= begin <= begin + piece.count * wide <= chunk.slot[1]


@LAYOUTS
@QUICK
def test_nothing_overlaps_and_all_is_aligned(parameters: Any, buffers: Any, elementwise: bool) -> None:
    lay = laid_out(parameters, buffers, elementwise)
    held = [(place.offset, place.offset + place.size_bytes) for place in [*lay.parameters, *lay.buffers]]
    states = []
    for chunk in lay.chunks:
        for piece in chunk.pieces:
            assert [key.key for key, _ in piece.state] == ["step", "mean", "pair", "count"]
            for key, offset in piece.state:
                elements = piece.count if key.like else torch.Size(key.shape).numel()
                states.append((offset, offset + elements * layout.dtype_of(key.dtype).itemsize))
                assert chunk.state[0] <= offset
                assert states[-1][1] <= chunk.state[1]
    words = [(lay.changed_offset, lay.changed_offset + 8 * max(1, len(buffers)))]
    presence = [(lay.presence_offset, lay.presence_offset + max(1, lay.pieces))]
    apart(held + states + words + presence, 0, lay.state_bytes)
    slots = [(place.offset, place.offset + place.size_bytes) for place in [*lay.gradients, *lay.buffer_slots]]
    slots.append((lay.gradient_presence_offset, lay.gradient_presence_offset + len(parameters)))
    slots.append((lay.buffer_counts_offset, lay.buffer_counts_offset + 8 * len(buffers)))
    apart(slots, 0, lay.slot_bytes)
    assert all(begin % ALIGN_BYTES == 0 for begin, _ in held + states + slots + words + presence)
    assert all(end <= lay.model_bytes for _, end in held + words)


def test_large_tensors_are_cut_for_elementwise_optimizers_only() -> None:
    big = [((1000, 1000), torch.float32, 0)]
    assert len(laid_out(big, [], True).chunks) > 10
    assert len(laid_out(big, [], False).chunks) == 1


def test_types_that_no_checkpoint_can_hold_are_refused() -> None:
    with pytest.raises(UserError, match=r"tensors of torch\.complex128 cannot be kept in a checkpoint"):
        laid_out([((2,), torch.complex128, 0)], [], True)


def test_buffers_shared_by_modules_have_one_name() -> None:
    shared = torch.zeros(2)
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    model[0].register_buffer("mask", shared)
    model[1].register_buffer("mask", shared)
    model[1].register_buffer("none", None)
    assert {name: len(holders) for name, holders in layout.holders_of(model).items()} == {"0.mask": 2}
    assert list(layout.modules_of(model)) == ["0.mask"]


# --- the tree


@pytest.mark.parametrize("count", range(1, 40))
def test_a_stack_sums_in_the_order_of_the_tree(count: int) -> None:
    add = lambda left, right: f"({left}{right})"
    stack: Stack[str] = Stack(add)
    for k in range(count):
        stack.push([f"{k},"])
    assert stack.total() == [fold([f"{k}," for k in range(count)], add)]


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=40), st.integers(0, 5))
def test_leaves_that_are_missing_add_nothing(leaves: list[int | None], size: int) -> None:
    add = lambda left, right: f"({left}{right})"
    named = [None if leaf is None else f"{k}:{leaf} " for k, leaf in enumerate(leaves)]
    stack: Stack[str] = Stack(add)
    for leaf in named:
        stack.push([leaf])
    whole = fold(named, add)
    assert stack.total() == [whole]
    width = 1 << size  # blocks of a power of two, summed first, change nothing
    blocks = [fold(named[k : k + width], add) for k in range(0, len(named), width)]
    assert fold(blocks, add) == whole


@given(st.integers(2, 1 << 20))
def test_the_left_branch_is_the_largest_power_of_two_below(count: int) -> None:
    left = split(count)
    assert left < count <= 2 * left
    assert left & (left - 1) == 0


# --- the arena

SIZES = st.integers(0, 1 << 22)


@given(st.integers(1, 64), st.integers(1, 200), st.integers(0, 50), SIZES, SIZES, SIZES, SIZES)
def test_the_regions_of_an_arena_do_not_touch(
    blocks: int, chunks: int, evaluations: int, state: int, slot: int, constant: int, best: int
) -> None:
    at = Regions(Shape(blocks, chunks, evaluations, state, slot, constant, best))
    begins = {
        name: value for name, value in vars(at).items()
        if isinstance(value, int) and name not in ("_end", "size", "fixed") and not name.endswith("_words")
    }  # fmt: skip
    begins |= {f"buffer {k}": value for k, value in enumerate(at.buffers)}
    begins |= {f"slot {k}": value for k, value in enumerate(at.slots)}
    sizes = {f"buffer {k}": state for k in range(3)} | {f"slot {k}": slot for k in range(blocks)}
    sizes |= {
        "constants": constant, "best": best, "block_flags": 8 * blocks, "covers": 8 * blocks, "chunk_flags": 8 * chunks,
        "partials": 8 * chunks, "partial_flags": 8 * chunks, "evaluation_flags": 8 * evaluations,
        "evaluation_covers": 8 * evaluations,
    }  # fmt: skip
    ordered = sorted(begins, key=lambda name: (begins[name], sizes.get(name, 1)))
    for name, following in pairwise(ordered):
        assert begins[name] + sizes.get(name, 1) <= begins[following], (name, following)
    assert all(value % 64 == 0 for value in begins.values())
    assert at.fixed <= at.buffers[2]
    assert at.buffers[2] + state <= at.size
    assert all(begins[name] + sizes.get(name, 1) <= at.fixed for name in begins if name != "buffer 2")
