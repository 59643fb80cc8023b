"""The user's own optimizer, run on one chunk at a time, on the buffer that is being written.

Pieces are leaf parameters of their own, one set a buffer, put into the user's `param_groups` for the moment of the
call; their state lies in the buffer beside them. A parameter's state is made by its first real step, because zeros
made beforehand change NAdam, ASGD, Rprop and SGD with dampening.
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
    """For each parameter (by id): names, shapes and types of its optimizer state, from a trial step on tensors like
    it.
    """
    found: dict[int, list[StateKey]] = {}
    tried: dict[tuple[Any, ...], list[StateKey]] = {}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if has_state(optimizer, parameter):
                found[id(parameter)] = _keys(optimizer.state[parameter], parameter)
                continue
            kind = (number, parameter.shape, parameter.dtype)
            if kind not in tried:
                tried[kind] = _trial(optimizer, group, parameter)
            found[id(parameter)] = tried[kind]
    return found


def has_state(optimizer: Optimizer, parameter: Tensor) -> bool:
    """Whether the optimizer already keeps something for it; `None`, as older versions of torch wrote, is nothing."""
    return any(value is not None for value in optimizer.state.get(parameter, {}).values())


def _trial(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> list[StateKey]:
    if parameter.numel() == 0:
        return []  # Adafactor divides by the number of elements
    like = nn.Parameter(torch.zeros_like(parameter, device="cpu", memory_format=torch.contiguous_format))
    like.grad = torch.full_like(like, 1e-3)
    name = type(optimizer).__name__
    before = {key: value for key, value in group.items() if key != "params"}
    try:
        _step(optimizer, [(group, [like])])
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"optimizer {name} cannot be run one parameter at a time: {_first_line(error)}") from None
    changed = [key for key, value in group.items() if key != "params" and before.get(key, group) is not value]
    if changed:
        raise UserError(
            f"optimizer {name} keeps '{changed[0]}' of its own in the parameter groups, which a step in parts would "
            "change several times; take one whose state belongs to the parameters"
        )
    return _keys(optimizer.state.pop(like, {}), like)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


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
        self._ready: set[tuple[int, int]] = set()  # (buffer, chunk) whose leaves have their state in place
        self._numbers = any(key.number for chunk in layout.chunks for piece in chunk.pieces for key, _ in piece.state)
        self._leaves: dict[tuple[int, int], list[nn.Parameter]] = {}
        self._states: dict[tuple[int, int], dict[str, Any]] = {}  # (buffer, piece) -> views
        self._groups: dict[tuple[int, int], list[tuple[int, list[nn.Parameter]]]] = {}
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
        begin, end = self._presence(number)
        base = self.arena.at.buffers[write]
        known = bytearray(self.arena.bytes[base + begin : base + end])
        if all(present) and all(known) and (write, number) in self._ready:
            self._update_again(number, write)
            return
        self._update_any(number, write, present, known)
        self.arena.bytes[base + begin : base + end] = bytes(known)
        if all(known) and not self._numbers:
            self._ready.add((write, number))

    def _update_again(self, number: int, write: int) -> None:
        """As most steps are: each piece has a gradient, and its state lies where it lay two steps ago."""
        leaves = self._leaves_of(write, number)
        for leaf, gradient in zip(leaves, self._gradient_pieces(number), strict=True):
            leaf.grad = gradient
        groups = self._groups.get((write, number))
        if groups is None:
            found: dict[int, list[nn.Parameter]] = {}
            for piece, leaf in zip(self.layout.chunks[number].pieces, leaves, strict=True):
                found.setdefault(self.layout.groups[piece.parameter], []).append(leaf)
            groups = self._groups[write, number] = sorted(found.items())
        _step(self.optimizer, [(self.optimizer.param_groups[group], members) for group, members in groups])
        for piece, leaf in zip(self.layout.chunks[number].pieces, leaves, strict=True):
            leaf.grad = None
            views = self._states[write, piece.index]
            state = self.optimizer.state[leaf]
            for key, value in state.items():
                if value is not views.get(key):
                    self._keep(write, piece, state)
                    self.optimizer.state[leaf] = dict(views)
                    break

    def _update_any(self, number: int, write: int, present: list[bool], known: bytearray) -> None:
        """Some pieces have no gradient, or no state yet; `known` is put right."""
        chunk = self.layout.chunks[number]
        leaves = self._leaves_of(write, number)
        gradients = self._gradient_pieces(number)
        self._ready.discard((write, number))
        groups: dict[int, list[nn.Parameter]] = {}
        for k, (piece, leaf) in enumerate(zip(chunk.pieces, leaves, strict=True)):
            if not present[k]:
                continue
            leaf.grad = gradients[k]
            groups.setdefault(self.layout.groups[piece.parameter], []).append(leaf)
            if known[k]:
                self.optimizer.state[leaf] = dict(self._state(write, piece))
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
                # A dictionary of its own: what the optimizer binds anew in it must not pass for the view.
                self.optimizer.state[leaf] = dict(self._states[write, piece.index])

    # --- state for the user, and from the user

    def import_state(self, parameters: Sequence[Tensor], buffer: int) -> None:
        """State that the user's optimizer already has (loaded, or made by its constructor) goes into the arena."""
        base = self.arena.at.buffers[buffer] + self.layout.presence_offset
        for chunk in self.layout.chunks:
            for piece in chunk.pieces:
                parameter = parameters[piece.parameter]
                if not has_state(self.optimizer, parameter):
                    continue
                state = dict(self.optimizer.state[parameter])
                for key, _ in piece.state:
                    if key.like:
                        part = state[key.key].reshape(-1)[piece.start : piece.start + piece.count]
                        state[key.key] = part if self._elementwise else part.view(key.shape)
                self._keep(buffer, piece, state)
                self.arena.bytes[base + piece.index] = 1
        for parameter in parameters:
            self.optimizer.state.pop(parameter, None)

    def export_state(self, parameters: Sequence[Tensor], buffer: int) -> None:
        """Put the state together again in the user's optimizer, by parameter, in memory of its own."""
        self.optimizer.state.clear()
        self.optimizer.state.update(self.whole_state(parameters, buffer))

    def whole_state(self, parameters: Sequence[Tensor], buffer: int) -> dict[Tensor, dict[str, Any]]:
        """The optimizer's state in that buffer, by parameter, copied."""
        found: dict[Tensor, dict[str, Any]] = {}
        base = self.arena.at.buffers[buffer] + self.layout.presence_offset
        for chunk in self.layout.chunks:
            for piece in chunk.pieces:
                if not self.arena.bytes[base + piece.index] or not piece.state:
                    continue
                parameter = parameters[piece.parameter]
                state = found.setdefault(parameter, {})
                views = self._state(buffer, piece)
                for key, _ in piece.state:
                    value = views[key.key]
                    if key.like:
                        if key.key not in state:
                            state[key.key] = torch.empty(parameter.shape, dtype=value.dtype, device=parameter.device)
                        state[key.key].view(-1)[piece.start : piece.start + piece.count] = value.reshape(-1)
                    elif key.key not in state:
                        state[key.key] = self._beside(parameter, piece, value) if isinstance(value, Tensor) else value
        return found

    def _beside(self, parameter: Tensor, piece: Piece, value: Tensor) -> Tensor:
        """A copy of a counter where torch keeps it: on the CPU, unless kernels on the device read it."""
        group = self.optimizer.param_groups[self.layout.groups[piece.parameter]]
        there = group.get("fused") or group.get("capturable")
        return value.to(parameter.device if there else value.device, copy=True)

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
        first = self.layout.chunks[number].pieces[0].parameter
        if self.layout.chunks[number].slot_dtype == lay.dtype_of(self.layout.parameters[first].dtype):
            return self._pieces_of_gradient[number]
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
