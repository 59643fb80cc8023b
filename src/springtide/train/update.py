"""The user's own optimizer, run on one chunk at a time, on the buffer that is being written.

Pieces are leaf parameters of their own, one set a buffer, put into the user's `param_groups` for the moment of the call;
their state lies in the buffer beside them. A parameter's state is made by its first real step, because zeros made
beforehand change NAdam, ASGD, Rprop and SGD with dampening.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from springtide.spec import UserError
from springtide.train import layout as lay
from springtide.train.arena import Arena
from springtide.train.gradients import piece_range
from springtide.train.layout import Layout, Piece, StateKey

_NUMBERS = {"int": "q", "float": "d"}
_REFUSED = {
    "LBFGS": "it evaluates the loss several times a step; use AdamW or SGD",
    "SparseAdam": "it needs sparse gradients, which are made dense here; use Adam",
}


def is_elementwise(optimizer: Optimizer) -> bool:
    """Whether large tensors may be cut: only for a known list, since other optimizers look at whole tensors."""
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim") and kind.__name__ in lay.ELEMENTWISE


def check(optimizer: object) -> Optimizer:
    """`optimizer`, if it treats parameters one by one."""
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer is {type(optimizer).__name__}; give a torch.optim optimizer, made from the model")
    name = type(optimizer).__name__
    if name in _REFUSED:
        raise UserError(f"optimizer {name} cannot train elastically: {_REFUSED[name]}")
    return optimizer


def state_keys(optimizer: Optimizer) -> dict[int, list[StateKey]]:
    """For each parameter (by id): names, shapes and types of its optimizer state, from a trial step on tensors like it."""
    found: dict[int, list[StateKey]] = {}
    tried: dict[tuple[Any, ...], list[StateKey]] = {}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if optimizer.state.get(parameter):
                found[id(parameter)] = _keys(optimizer.state[parameter], parameter)
                continue
            kind = (number, parameter.shape, parameter.dtype)
            if kind not in tried:
                tried[kind] = _trial(optimizer, group, parameter)
            found[id(parameter)] = tried[kind]
    return found


def _trial(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> list[StateKey]:
    like = nn.Parameter(torch.zeros_like(parameter, device="cpu", memory_format=torch.contiguous_format))
    like.grad = torch.full_like(like, 1e-3)
    try:
        _step(optimizer, [(group, [like])])
    except TypeError as error:
        raise UserError(
            f"optimizer {type(optimizer).__name__} cannot be run one parameter at a time: {error}"
        ) from None
    return _keys(optimizer.state.pop(like, {}), like)


def _keys(state: dict[str, Any], parameter: Tensor) -> list[StateKey]:
    keys = []
    for key, value in state.items():
        if isinstance(value, Tensor):
            like = value.shape == parameter.shape
            keys.append(StateKey(key, lay.dtype_name(value.dtype), tuple(value.shape), like))
        elif isinstance(value, bool | int | float):
            keys.append(StateKey(key, "I64" if isinstance(value, int) else "F64", (), False, _kind(value)))
        elif value is not None:
            raise UserError(
                f"optimizer state '{key}' is a {type(value).__name__}; only tensors and numbers can be kept"
            )
    return keys


def _kind(value: bool | int | float) -> str:
    return "int" if isinstance(value, int) else "float"


def _step(optimizer: Optimizer, groups: Sequence[tuple[dict[str, Any], list[nn.Parameter]]]) -> None:
    """One call of the user's optimizer on these parameters alone."""
    everything = optimizer.param_groups
    kept = [(group, group["params"]) for group, _ in groups]
    try:
        for group, parameters in groups:
            group["params"] = parameters
        optimizer.param_groups = [group for group, _ in groups]
        optimizer.step()
    finally:
        optimizer.param_groups = everything
        for group, parameters in kept:
            group["params"] = parameters


class Updater:
    """Brings chunks from one buffer to the next."""

    def __init__(self, optimizer: Optimizer, layout: Layout, arena: Arena, *, elementwise: bool) -> None:
        self.optimizer, self.layout, self.arena, self._elementwise = optimizer, layout, arena, elementwise
        self._leaves: dict[tuple[int, int], list[nn.Parameter]] = {}
        self._states: dict[tuple[int, int], dict[str, Any]] = {}  # (buffer, piece) -> views
        self._gradients: dict[int, Tensor] = {}
        self._pieces_of_gradient: dict[int, list[Tensor]] = {}
        self._shared = torch.empty(0)

    def gradient(self, number: int, *, kept: bool) -> Tensor:
        """Where the reduced gradient of a chunk goes; `kept` until the next step, else only until the next chunk."""
        if number not in self._gradients:
            chunk = self.layout.chunks[number]
            count = (chunk.slot[1] - chunk.slot[0]) // chunk.slot_dtype.itemsize
            if kept:
                self._gradients[number] = torch.zeros(count, dtype=chunk.slot_dtype)
            else:
                if self._shared.numel() < count or self._shared.dtype != chunk.slot_dtype:
                    self._shared = torch.zeros(max(count, self._shared.numel()), dtype=chunk.slot_dtype)
                self._gradients[number] = self._shared[:count]
        return self._gradients[number]

    def carry(self, number: int, read: int, write: int) -> None:
        """Copy the chunk as it is, optimizer state and all."""
        chunk, memory = self.layout.chunks[number], self.arena.bytes
        old, new = self.arena.at.buffers[read], self.arena.at.buffers[write]
        for begin, end in (chunk.values, chunk.state, self._presence(number)):
            if end > begin:
                memory[new + begin : new + end] = memory[old + begin : old + end]

    def update(self, number: int, write: int, present: list[bool]) -> None:
        """The optimizer's step on a chunk that was carried over; `present`: which pieces got a gradient."""
        chunk = self.layout.chunks[number]
        leaves = self._leaves_of(write, number)
        gradients = self._gradient_pieces(number)
        begin, end = self._presence(number)
        base = self.arena.at.buffers[write]
        known = bytearray(self.arena.bytes[base + begin : base + end])
        groups: dict[int, list[nn.Parameter]] = {}
        for k, (piece, leaf) in enumerate(zip(chunk.pieces, leaves, strict=True)):
            if not present[k]:
                continue
            leaf.grad = gradients[k]
            groups.setdefault(self.layout.groups[piece.parameter], []).append(leaf)
            if known[k]:
                self.optimizer.state[leaf] = self._state(write, piece)
            else:
                self.optimizer.state.pop(leaf, None)
        if not groups:
            return
        _step(
            self.optimizer, [(self.optimizer.param_groups[group], leaves) for group, leaves in sorted(groups.items())]
        )
        for k, (piece, leaf) in enumerate(zip(chunk.pieces, leaves, strict=True)):
            if present[k]:
                self._keep(write, piece, self.optimizer.state[leaf])
                leaf.grad = None
                known[k] = 1
        self.arena.bytes[base + begin : base + end] = bytes(known)

    # --- state for the user, and from the user

    def import_state(self, parameters: Sequence[Tensor], buffer: int) -> None:
        """State that the user's optimizer already has (loaded, or made by its constructor) goes into the arena."""
        base = self.arena.at.buffers[buffer] + self.layout.presence_offset
        for chunk in self.layout.chunks:
            for piece in chunk.pieces:
                state = self.optimizer.state.get(parameters[piece.parameter])
                if not state:
                    continue
                views = self._state(buffer, piece)
                for key, _ in piece.state:
                    value = state[key.key]
                    if isinstance(value, Tensor):
                        part = value.reshape(-1)[piece.start : piece.start + piece.count] if key.like else value
                        views[key.key].copy_(part.reshape(views[key.key].shape))
                    else:
                        views[key.key] = value
                self._keep(buffer, piece, views)
                self.arena.bytes[base + piece.index] = 1
        for parameter in parameters:
            self.optimizer.state.pop(parameter, None)

    def export_state(self, parameters: Sequence[Tensor], buffer: int) -> None:
        """Put the state together again in the user's optimizer, by parameter, in memory of its own."""
        self.optimizer.state.clear()
        base = self.arena.at.buffers[buffer] + self.layout.presence_offset
        for chunk in self.layout.chunks:
            for piece in chunk.pieces:
                if not self.arena.bytes[base + piece.index]:
                    continue
                parameter = parameters[piece.parameter]
                state = self.optimizer.state[parameter]
                views = self._state(buffer, piece)
                for key, _ in piece.state:
                    value = views[key.key]
                    if key.like:
                        whole = state.setdefault(key.key, torch.empty(parameter.shape, dtype=value.dtype))
                        whole.view(-1)[piece.start : piece.start + piece.count] = value.reshape(-1)
                    else:
                        state.setdefault(key.key, value.clone() if isinstance(value, Tensor) else value)

    def _leaves_of(self, buffer: int, number: int) -> list[nn.Parameter]:
        if (buffer, number) not in self._leaves:
            base = self.arena.at.buffers[buffer]
            leaves = []
            for piece in self.layout.chunks[number].pieces:
                place = self.layout.parameters[piece.parameter]
                dtype = lay.dtype_of(place.dtype)
                offset, size = base + place.offset + piece.start * dtype.itemsize, piece.count * dtype.itemsize
                values = lay.flat(self.arena.map, offset, size, dtype)
                leaves.append(nn.Parameter(values if self._elementwise else values.view(place.shape)))
            self._leaves[buffer, number] = leaves
        return self._leaves[buffer, number]

    def _gradient_pieces(self, number: int) -> list[Tensor]:
        if number not in self._pieces_of_gradient:
            chunk, flat = self.layout.chunks[number], self._gradients[number]
            pieces = []
            for k, piece in enumerate(chunk.pieces):
                lo, hi = piece_range(chunk, self.layout, k)
                place = self.layout.parameters[piece.parameter]
                part = flat[lo:hi] if self._elementwise else flat[lo:hi].view(place.shape)
                pieces.append(part)
            self._pieces_of_gradient[number] = pieces
        return [
            part.to(lay.dtype_of(self.layout.parameters[piece.parameter].dtype))
            for part, piece in zip(self._pieces_of_gradient[number], self.layout.chunks[number].pieces, strict=True)
        ]

    def _state(self, buffer: int, piece: Piece) -> dict[str, Any]:
        """The optimizer state of a piece: views into the buffer, and numbers as they are there now."""
        base = self.arena.at.buffers[buffer]
        views = self._states.get((buffer, piece.index))
        if views is None:
            views = self._states[buffer, piece.index] = {}
            for key, offset in piece.state:
                if not key.number:
                    views[key.key] = self._state_view(base + offset, key, piece)
        for key, offset in piece.state:
            if key.number:
                views[key.key] = struct.unpack_from(_NUMBERS[key.number], self.arena.bytes, base + offset)[0]
        return views

    def _state_view(self, offset: int, key: StateKey, piece: Piece) -> Tensor:
        dtype = lay.dtype_of(key.dtype)
        shape = key.shape
        if key.like and self._elementwise:
            shape = (piece.count,)
        count = 1
        for length in shape:
            count *= length
        return lay.flat(self.arena.map, offset, count * dtype.itemsize, dtype).view(shape)

    def _keep(self, buffer: int, piece: Piece, state: dict[str, Any]) -> None:
        """What the optimizer left in `state` lies in the buffer afterwards, whether it wrote in place or not."""
        views = self._states.get((buffer, piece.index))
        if views is None:
            views = self._state(buffer, piece)
        base = self.arena.at.buffers[buffer]
        for key, offset in piece.state:
            value = state[key.key]
            if key.number:
                struct.pack_into(_NUMBERS[key.number], self.arena.bytes, base + offset, value)
            elif value is not views[key.key]:
                views[key.key].copy_(value)
        if len(state) > len(piece.state) and any(v is not None and k not in views for k, v in state.items()):
            raise UserError(f"optimizer {type(self.optimizer).__name__} keeps other state than its first step showed")

    def _presence(self, number: int) -> tuple[int, int]:
        pieces = self.layout.chunks[number].pieces
        offset = self.layout.presence_offset
        return (offset + pieces[0].index, offset + pieces[-1].index + 1) if pieces else (offset, offset)
