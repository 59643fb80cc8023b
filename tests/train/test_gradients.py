"""Slots: what is published by block is summed over the one tree, however it was cut into blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from springtide.spec import UserError
from springtide.train import arena as arenas
from springtide.train import layout
from springtide.train.arena import Arena, Shape
from springtide.train.gradients import Collected, Meta, Slots, dense
from springtide.train.layout import Layout
from springtide.train.tree import fold

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
SHAPES = [(5,), (33, 1000), (), (3, 4), (40_000,)]


@contextmanager
def slots(lay: Layout, blocks: int) -> Iterator[Slots]:
    shape = Shape(blocks, len(lay.chunks), 0, lay.state_bytes, lay.slot_bytes, lay.constant_bytes, 0)
    descriptor = arenas.create()
    arenas.allocate(descriptor, shape)
    try:
        yield Slots(Arena(descriptor, shape), lay)
    finally:
        os.close(descriptor)


def laid_out(buffers: list[tuple[str, Tensor, bool]] | None = None) -> Layout:
    tensors = [torch.zeros(shape, dtype=dtype) for dtype in DTYPES for shape in SHAPES]
    named = [(f"p{number}", tensor, 0) for number, tensor in enumerate(tensors)]
    return layout.build(named, [], buffers or [], [[] for _ in named], elementwise=True)


def drawn(lay: Layout, microbatches: int, missing: set[tuple[int, int]], seed: int) -> list[list[Tensor | None]]:
    """Gradients of each microbatch, by parameter."""
    source = torch.Generator().manual_seed(seed)
    return [
        [
            None if (m, p) in missing
            else torch.randn(place.shape, generator=source).to(layout.dtype_of(place.dtype))
            for p, place in enumerate(lay.parameters)
        ]
        for m in range(microbatches)
    ]  # fmt: skip


def published(slots: Slots, gradients: list[list[Tensor | None]], size: int) -> None:
    for block in range(-(-len(gradients) // size)):
        collected = Collected(slots.layout)
        for gradient in gradients[block * size : (block + 1) * size]:
            collected.add([None if g is None else g.clone() for g in gradient], [None] * len(slots.layout.buffers))
        slots.publish(block, *collected.totals())


def reduced(slots: Slots, blocks: list[int], divisor: float) -> tuple[list[Tensor], list[list[bool]]]:
    outs, found = [], []
    for number, chunk in enumerate(slots.layout.chunks):
        out = torch.zeros((chunk.slot[1] - chunk.slot[0]) // chunk.slot_dtype.itemsize, dtype=chunk.slot_dtype)
        found.append(slots.reduce(number, out, blocks, divisor))
        outs.append(out)
    return outs, found


@settings(max_examples=15, deadline=None)
@given(
    microbatches=st.integers(1, 9),
    missing=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 14)), max_size=40),
    seed=st.integers(0, 9),
)
def test_blocks_of_several_microbatches_give_the_same_bits(
    microbatches: int, missing: set[tuple[int, int]], seed: int
) -> None:
    """How much memory is free decides the block size, and must not decide the bits (Microbatch law)."""
    lay = laid_out()
    gradients = drawn(lay, microbatches, missing, seed)
    with slots(lay, microbatches) as single:
        published(single, gradients, 1)
        expected, expected_found = reduced(single, list(range(microbatches)), float(microbatches))
    size = 2
    while size < 2 * microbatches:
        count = -(-microbatches // size)
        with slots(lay, count) as several:
            published(several, gradients, size)
            outs, found = reduced(several, list(range(count)), float(microbatches))
        assert found == expected_found
        for mine, theirs in zip(outs, expected, strict=True):
            assert torch.equal(mine, theirs), size
        size *= 2


@settings(max_examples=15, deadline=None)
@given(microbatches=st.integers(1, 9), seed=st.integers(0, 9))
def test_the_sum_is_that_of_the_tree_in_the_slots_own_precision(microbatches: int, seed: int) -> None:
    lay = laid_out()
    gradients = drawn(lay, microbatches, set(), seed)
    with slots(lay, microbatches) as those:
        published(those, gradients, 1)
        outs, _ = reduced(those, list(range(microbatches)), float(microbatches))
    expected = [
        fold([g[p].to(layout.gradient_dtype(g[p].dtype)) for g in gradients], torch.add) / microbatches  # type: ignore
        for p in range(len(lay.parameters))
    ]
    for out, chunk in zip(outs, lay.chunks, strict=True):
        for piece in chunk.pieces:
            place = lay.gradients[piece.parameter]
            begin = (place.offset - chunk.slot[0]) // chunk.slot_dtype.itemsize + piece.start
            whole = expected[piece.parameter].reshape(-1)[piece.start : piece.start + piece.count]
            assert torch.equal(out[begin : begin + piece.count], whole)


def test_what_got_no_gradient_leaves_nothing_of_an_earlier_step_behind() -> None:
    """The norm of the gradient is taken over the whole chunk."""
    lay = layout.build(
        [("a", torch.zeros(4), 0), ("b", torch.zeros(4), 0)], [], [], [[], []], elementwise=True
    )  # fmt: skip
    out = torch.zeros((lay.chunks[0].slot[1] - lay.chunks[0].slot[0]) // 4)
    with slots(lay, 1) as those:
        published(those, [[torch.ones(4), torch.full((4,), float("inf"))]], 1)
        assert those.reduce(0, out, [0], 1.0) == [True, True]
        published(those, [[torch.ones(4), None]], 1)
        assert those.reduce(0, out, [0], 1.0) == [True, False]
    assert float(out.norm()) == 2.0


def test_buffers_of_floats_have_the_mean_of_those_that_changed_them() -> None:
    lay = laid_out([("mean", torch.zeros(3), True), ("half", torch.zeros(3, dtype=torch.bfloat16), True)])
    for size in (1, 2, 4):
        with slots(lay, 4 // size) as those:
            for block in range(4 // size):
                collected = Collected(lay)
                for m in range(block * size, (block + 1) * size):
                    value: Any = torch.tensor([m + 1.0, 2.0, 0.1]) if m != 2 else None
                    half = torch.tensor([1.0 + 2.0**-9 * m] * 3)
                    collected.add([None] * len(lay.parameters), [value, half])
                those.publish(block, *collected.totals())
            mean, half = those.buffer_means(list(range(4 // size)))
        assert mean is not None and half is not None
        assert torch.equal(mean, ((torch.tensor([1.0, 2.0, 0.1]) + torch.tensor([2.0, 2.0, 0.1]))
                                  + torch.tensor([4.0, 2.0, 0.1])) / 3)  # fmt: skip
        assert float(half[0]) == 1 + 2.0**-9 * 1.5


@pytest.mark.parametrize("size", [1, 2])
def test_whole_numbers_that_differ_between_microbatches_are_named(size: int) -> None:
    lay = laid_out([("net.seen", torch.zeros(1, dtype=torch.int64), True)])
    with slots(lay, 2 // size) as those, pytest.raises(UserError, match=r"buffer 'net\.seen' of torch\.int64 differs"):
        for block in range(2 // size):
            collected = Collected(lay)
            for m in range(block * size, (block + 1) * size):
                collected.add([None] * len(lay.parameters), [torch.tensor([m])])
            those.publish(block, *collected.totals())
        those.buffer_means(list(range(2 // size)))


def test_what_a_block_says_of_itself_is_read_as_written() -> None:
    lay = laid_out()
    with slots(lay, 2) as those:
        for checksum in (0, 5, 1 << 63, (1 << 64) - 1):
            meta = Meta(2.0, 0.25, 64, checksum, 3, 0.5)
            those.write_meta(1, meta)
            assert those.meta(1) == meta


def test_sparse_gradients_are_made_dense() -> None:
    sparse = torch.sparse_coo_tensor([[0, 2, 0]], torch.tensor([1.0, 2.0, 3.0]), (4,))
    made = dense(sparse)
    assert made is not None
    assert made.tolist() == [4.0, 0.0, 2.0, 0.0]
