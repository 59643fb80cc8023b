"""Slots: gradients published by block, and their sums over the tree by chunk."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import torch
from torch import Tensor

from springtide.spec import UserError
from springtide.train import layout as lay
from springtide.train.arena import Arena
from springtide.train.layout import Chunk, Layout
from springtide.train.tree import Stack, fold, split


@dataclass(frozen=True, slots=True)
class Meta:
    """What a block says about itself beside its gradients. Sums over its microbatches."""

    weight: float
    loss: float  # weight x loss
    samples: int
    checksum: int  # of the sample indices, modulo 2^64
    skipped: int
    seconds: float


class Slots:
    """Reading and writing slots. A slot may be torn until its flag is set, and nobody reads it before."""

    def __init__(self, arena: Arena, layout: Layout) -> None:
        self.arena, self.layout = arena, layout
        self._gradients: dict[int, list[Tensor]] = {}
        self._buffers: dict[int, list[Tensor]] = {}
        self._flat: dict[tuple[int, int], Tensor] = {}
        self._scratch: dict[tuple[int, torch.dtype], Tensor] = {}

    # --- publishing

    def publish(
        self, block: int, gradients: list[Tensor | None], buffers: list[Tensor | None], counts: list[int]
    ) -> None:
        """Write a block's sums: gradients by parameter (None: it got none), changed module buffers and their counts."""
        present = bytearray(len(gradients))
        targets, sources = [], []
        for index, (target, gradient) in enumerate(zip(self._slot(block), gradients, strict=True)):
            if gradient is not None:
                present[index] = 1
                targets.append(target)
                sources.append(gradient)
        if targets:
            torch._foreach_copy_(targets, sources)
        offset = self.arena.at.slots[block] + self.layout.gradient_presence_offset
        self.arena.bytes[offset : offset + len(present)] = bytes(present)
        if counts:
            self._counts(block)[:] = memoryview(array("q", counts))
            for target, source in zip(self._buffer_slot(block), buffers, strict=True):
                if source is not None:
                    target.copy_(source)

    def write_meta(self, block: int, meta: Meta) -> None:
        words, reals = self.arena.metas[block], self.arena.metas_real[block]
        reals[0], reals[1], reals[2] = meta.weight, meta.loss, meta.seconds
        words[3], words[4] = meta.samples, meta.skipped
        words[5] = meta.checksum - (1 << 64) if meta.checksum >= 1 << 63 else meta.checksum

    def meta(self, block: int) -> Meta:
        words, reals = self.arena.metas[block], self.arena.metas_real[block]
        return Meta(reals[0], reals[1], words[3], words[5] & (1 << 64) - 1, words[4], reals[2])

    # --- reducing

    def reduce(self, number: int, out: Tensor, blocks: list[int], divisor: float) -> list[bool]:
        """The mean gradient of chunk `number` over `blocks` into `out` (flat, the slot's dtype).

        `blocks` are tree positions; those that a fused pass covered are left out by their number -1. Returns which
        pieces got a gradient in at least one of them.
        """
        chunk = self.layout.chunks[number]
        first, last = chunk.pieces[0].parameter, chunk.pieces[-1].parameter
        everywhere = b"\x01" * (last - first + 1)
        present = {block: self._presence(block, first, last) for block in blocks if block >= 0}
        if all(found == everywhere for found in present.values()):
            flats = [self._flat_slot(block, number) if block >= 0 else None for block in blocks]
            self._tree(flats, out, 0)
            found = [True] * len(chunk.pieces)
        else:
            found = [
                self._reduce_piece(chunk, number, k, out, blocks, present, first) for k in range(len(chunk.pieces))
            ]
        if divisor != 1.0:
            out.div_(divisor)
        return found

    def buffer_means(self, blocks: list[int]) -> list[Tensor | None]:
        """The tree mean of each module buffer over the microbatches that changed it; whole numbers must agree."""
        means: list[Tensor | None] = []
        leaders = [block for block in blocks if block >= 0]
        counts = {block: self._counts(block) for block in leaders}
        for index, place in enumerate(self.layout.buffers):
            total = sum(counts[block][index] for block in leaders)
            leaves = [self._buffer_slot(b)[index] if b >= 0 and counts[b][index] else None for b in blocks]
            means.append(_mean(place.name, leaves, total) if total else None)
        return means

    def _reduce_piece(
        self, chunk: Chunk, number: int, k: int, out: Tensor, blocks: list[int], present: dict[int, bytes], first: int
    ) -> bool:
        lo, hi = piece_range(chunk, self.layout, k)
        index = chunk.pieces[k].parameter - first
        leaves = [self._flat_slot(b, number)[lo:hi] if b >= 0 and present[b][index] else None for b in blocks]
        if not any(leaf is not None for leaf in leaves):
            out[lo:hi].zero_()  # the norm is taken over the whole chunk, and an earlier step's gradient may lie here
            return False
        self._tree(leaves, out[lo:hi], 0)
        return True

    def _tree(self, leaves: list[Tensor | None], out: Tensor, depth: int) -> None:
        """The sum of the leaves into `out`, in the order of `tree.fold`, with one scratch tensor a level."""
        held = self._sum(leaves, out, depth)
        if held is not None and held is not out:
            out.copy_(held)

    def _sum(self, leaves: list[Tensor | None], out: Tensor, depth: int) -> Tensor | None:
        if len(leaves) == 1:
            return leaves[0]
        middle = split(len(leaves))
        left = self._sum(leaves[:middle], out, depth + 1)
        aside = out if left is not out else self._temporary(depth, out)
        right = self._sum(leaves[middle:], aside, depth + 1)
        if left is None or right is None:
            return right if left is None else left
        return torch.add(left, right, out=out)

    def _temporary(self, depth: int, like: Tensor) -> Tensor:
        scratch = self._scratch.get((depth, like.dtype))
        if scratch is None or scratch.numel() < like.numel():
            size = max(_elements(chunk) for chunk in self.layout.chunks)
            scratch = self._scratch[depth, like.dtype] = torch.empty(size, dtype=like.dtype)
        return scratch[: like.numel()]

    def _slot(self, block: int) -> list[Tensor]:
        if block not in self._gradients:
            base = self.arena.at.slots[block]
            self._gradients[block] = [lay.view(self.arena.map, base, place) for place in self.layout.gradients]
        return self._gradients[block]

    def _buffer_slot(self, block: int) -> list[Tensor]:
        if block not in self._buffers:
            base = self.arena.at.slots[block]
            self._buffers[block] = [lay.view(self.arena.map, base, place) for place in self.layout.buffer_slots]
        return self._buffers[block]

    def _flat_slot(self, block: int, number: int) -> Tensor:
        if (block, number) not in self._flat:
            chunk = self.layout.chunks[number]
            begin, end = chunk.slot
            offset = self.arena.at.slots[block] + begin
            self._flat[block, number] = lay.flat(self.arena.map, offset, end - begin, chunk.slot_dtype)
        return self._flat[block, number]

    def _presence(self, block: int, first: int, last: int) -> bytes:
        offset = self.arena.at.slots[block] + self.layout.gradient_presence_offset
        return bytes(self.arena.bytes[offset + first : offset + last + 1])

    def _counts(self, block: int) -> memoryview[int]:
        offset = self.arena.at.slots[block] + self.layout.buffer_counts_offset
        return self.arena.view(offset, len(self.layout.buffers))


class Collected:
    """What the microbatches of one block left, summed in tree order as they come."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._gradients: Stack[Tensor] = Stack(_add_in_place)
        self._buffers: Stack[tuple[int, Tensor]] = Stack(self._join_buffers)
        self._counts = [0] * len(layout.buffers)
        self._count = 0

    def add(self, gradients: list[Tensor | None], buffers: list[Tensor | None], weight: int = 1) -> None:
        """One pass; `weight` microbatches went into it. The tensors are kept and may be written to."""
        self._count += 1
        self._gradients.push(gradients)
        self._buffers.push([None if b is None else (i, self._weighted(b, weight)) for i, b in enumerate(buffers)])
        self._counts = [c + (weight if b is not None else 0) for c, b in zip(self._counts, buffers, strict=True)]

    def totals(self) -> tuple[list[Tensor | None], list[Tensor | None], list[int]]:
        buffers = [None if found is None else found[1] for found in self._buffers.total()]
        return self._gradients.total(), buffers, self._counts

    def _weighted(self, buffer: Tensor, weight: int) -> Tensor:
        return buffer if weight == 1 or not buffer.is_floating_point() else buffer.mul_(weight)

    def _join_buffers(self, left: tuple[int, Tensor], right: tuple[int, Tensor]) -> tuple[int, Tensor]:
        index, value = left
        return index, _join(self._layout.buffers[index].name, value, right[1])


def piece_range(chunk: Chunk, layout: Layout, k: int) -> tuple[int, int]:
    """Piece k of a chunk in elements of the chunk's flat slot."""
    piece = chunk.pieces[k]
    size = chunk.slot_dtype.itemsize
    begin = (layout.gradients[piece.parameter].offset - chunk.slot[0]) // size + piece.start
    return begin, begin + piece.count


def dense(gradient: Tensor | None) -> Tensor | None:
    """A gradient as a dense CPU tensor."""
    if gradient is None:
        return None
    if gradient.layout != torch.strided:
        gradient = gradient.to_dense()
    return gradient if gradient.device.type == "cpu" else gradient.cpu()


def _elements(chunk: Chunk) -> int:
    return (chunk.slot[1] - chunk.slot[0]) // chunk.slot_dtype.itemsize


def _add_in_place(left: Tensor, right: Tensor) -> Tensor:
    return left.to(lay.gradient_dtype(left.dtype)).add_(
        right
    )  # as the slots do, or the block size would show in the bits


def _join(name: str, left: Tensor, right: Tensor) -> Tensor:
    if left.is_floating_point() or left.is_complex():
        return left + right
    if not torch.equal(left, right):
        raise UserError(
            f"buffer '{name}' of {left.dtype} differs between the microbatches of one step; whole numbers and booleans "
            "have no mean: let it depend on the step alone"
        )
    return left


def _mean(name: str, leaves: list[Tensor | None], count: int) -> Tensor | None:
    total = fold(leaves, lambda left, right: _join(name, left, right))
    if total is None or not (total.is_floating_point() or total.is_complex()):
        return total
    return total / count
