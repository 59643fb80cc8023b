"""What lies where in the arena: parameters, optimizer state and module buffers, cut into pieces and chunks.

A chunk is a fixed part of the parameters, neighbours in memory, and the unit of reduction and update. Large tensors
are cut into pieces for optimizers that work element by element; others get whole parameters. The layout belongs to
the run: it depends on the model, the optimizer and M, never on the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from springtide.spec import UserError

ALIGN_BYTES = 64
PIECE_ELEMENTS = 256  # pieces begin at multiples of this: other cuts change bits in fused and half-precision kernels
_CHUNKS_WANTED = 16
_CHUNK_MINIMUM, _CHUNK_MAXIMUM = 32 << 10, 256 << 10  # elements

ELEMENTWISE = frozenset(
    {"SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"}
)


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in a buffer or slot: `offset` in bytes from its beginning."""

    name: str
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    persistent: bool = True


@dataclass(frozen=True, slots=True)
class StateKey:
    """One entry of an optimizer's state for a parameter, as a trial step showed it."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    like: bool  # as the parameter, element for element
    number: str = ""  # "int" or "float" where it is no tensor


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of elements of one parameter, with the offsets of its own optimizer state in a buffer."""

    index: int
    parameter: int
    start: int
    count: int
    state: tuple[tuple[StateKey, int], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring pieces: [begin, end) in bytes of a buffer's parameters, its optimizer state, and a slot."""

    pieces: tuple[Piece, ...]
    values: tuple[int, int]
    state: tuple[int, int]
    slot: tuple[int, int]
    slot_dtype: torch.dtype


@dataclass(slots=True)
class Layout:
    """See the module. `groups[p]` is the optimizer group of parameter p."""

    parameters: list[Place] = field(default_factory=list)
    gradients: list[Place] = field(default_factory=list)
    constants: list[Place] = field(default_factory=list)
    buffers: list[Place] = field(default_factory=list)
    buffer_slots: list[Place] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    pieces: int = 0
    presence_offset: int = 0  # one byte a piece: its optimizer state exists
    changed_offset: int = 0  # one word a module buffer: the step that last changed it
    gradient_presence_offset: int = 0  # in a slot: one byte a parameter
    buffer_counts_offset: int = 0  # in a slot: one word a module buffer: microbatches that changed it
    model_bytes: int = 0  # parameters and module buffers: what a buffer begins with, and all that the best model keeps
    state_bytes: int = 0
    slot_bytes: int = 0
    constant_bytes: int = 0


def dtype_name(dtype: torch.dtype) -> str:
    """safetensors' name of a torch dtype."""
    try:
        return _NAMES[dtype]
    except KeyError:
        raise UserError(
            f"tensors of {dtype} cannot be kept in a checkpoint; use a dtype that safetensors knows"
        ) from None


def gradient_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums of half-precision gradients are float32: a bfloat16 tree errs by 3e-3."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def build(
    parameters: Sequence[tuple[str, Tensor, int]],
    constants: Sequence[tuple[str, Tensor]],
    buffers: Sequence[tuple[str, Tensor, bool]],
    state_keys: Sequence[Sequence[StateKey]],
    *,
    elementwise: bool,
) -> Layout:
    """The layout for `parameters` (name, tensor, group), frozen `constants` and module `buffers` (name, tensor,
    persistent).
    """
    layout = Layout(groups=[group for _, _, group in parameters])
    values, slots = _Area(), _Area()
    for name, tensor, _ in parameters:
        layout.parameters.append(values.place(name, tensor.dtype, tensor.shape))
        layout.gradients.append(slots.place(name, gradient_dtype(tensor.dtype), tensor.shape))
    area = _Area(values.end)
    for name, tensor, persistent in buffers:
        layout.buffers.append(area.place(name, tensor.dtype, tensor.shape, persistent))
        layout.buffer_slots.append(slots.place(name, gradient_dtype(tensor.dtype), tensor.shape))
    layout.changed_offset = area.take(8 * max(1, len(buffers)))
    layout.model_bytes = area.take(0)
    limit = _chunk_elements(sum(tensor.numel() for _, tensor, _ in parameters))
    for run in _cut(layout, limit, elementwise):
        layout.chunks.append(_chunk(layout, run, state_keys, area))
    layout.presence_offset = area.take(max(1, layout.pieces))
    layout.state_bytes = area.take(0)
    layout.gradient_presence_offset = slots.take(max(1, len(parameters)))
    layout.buffer_counts_offset = slots.take(8 * max(1, len(buffers)))
    layout.slot_bytes = slots.take(0)
    frozen = _Area()
    layout.constants = [frozen.place(name, tensor.dtype, tensor.shape) for name, tensor in constants]
    layout.constant_bytes = frozen.take(0)
    return layout


class _Area:
    """Hands out aligned room."""

    def __init__(self, begin: int = 0) -> None:
        self.end = begin

    def take(self, size_bytes: int) -> int:
        offset = -(-self.end // ALIGN_BYTES) * ALIGN_BYTES
        self.end = offset + size_bytes
        return offset

    def place(self, name: str, dtype: torch.dtype, shape: Sequence[int], persistent: bool = True) -> Place:
        known, size = dtype_name(dtype), dtype.itemsize
        for length in shape:
            size *= length
        return Place(name, known, tuple(shape), self.take(size), size, persistent)


def _chunk_elements(total: int) -> int:
    wanted = min(max(total // _CHUNKS_WANTED, _CHUNK_MINIMUM), _CHUNK_MAXIMUM)
    return -(-wanted // PIECE_ELEMENTS) * PIECE_ELEMENTS


def _cut(layout: Layout, limit: int, elementwise: bool) -> list[list[tuple[int, int, int]]]:
    """Runs of (parameter, start, count) of about `limit` elements each, of one dtype, in memory order."""
    runs: list[list[tuple[int, int, int]]] = []
    room, dtype = 0, ""
    for parameter, place in enumerate(layout.parameters):
        numel = place.size_bytes // _DTYPES[place.dtype].itemsize
        start = 0
        while start < numel or (numel == 0 and start == 0):
            if room <= 0 or place.dtype != dtype or (not elementwise and numel > room and runs[-1]):
                runs.append([])
                room, dtype = limit, place.dtype
            count = min(numel - start, room // PIECE_ELEMENTS * PIECE_ELEMENTS or room) if elementwise else numel
            runs[-1].append((parameter, start, count))
            start, room = start + max(1, count), room - count
            room = 0 if room < PIECE_ELEMENTS else room
    return runs or [[]]


def _chunk(
    layout: Layout, run: list[tuple[int, int, int]], state_keys: Sequence[Sequence[StateKey]], area: _Area
) -> Chunk:
    pieces = []
    begin = area.take(0)
    for parameter, start, count in run:
        state = []
        for key in state_keys[parameter]:
            dtype = _DTYPES[key.dtype]
            elements = count if key.like else 1
            for length in () if key.like else key.shape:
                elements *= length
            state.append((key, area.take(elements * dtype.itemsize)))
        pieces.append(Piece(layout.pieces, parameter, start, count, tuple(state)))
        layout.pieces += 1
    end = area.end
    if not run:
        return Chunk((), (0, 0), (begin, end), (0, 0), torch.float32)
    slot_dtype = _DTYPES[layout.gradients[run[0][0]].dtype]
    return Chunk(tuple(pieces), _span(layout.parameters, run), (begin, end), _span(layout.gradients, run), slot_dtype)


def _span(places: list[Place], run: list[tuple[int, int, int]]) -> tuple[int, int]:
    (first, start, _), (last, final, count) = run[0], run[-1]
    size = _DTYPES[places[first].dtype].itemsize
    return places[first].offset + start * size, places[last].offset + (final + count) * size


_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "C64": torch.complex64, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a safetensors name."""
    return _DTYPES[name]


def view(memory: object, base: int, place: Place) -> Tensor:
    """The tensor of `place`, its own storage at `base + place.offset` of a writable map (never a view of one flat
    tensor).
    """
    return flat(memory, base + place.offset, place.size_bytes, _DTYPES[place.dtype]).view(place.shape)


def flat(memory: object, offset: int, size_bytes: int, dtype: torch.dtype) -> Tensor:
    """`size_bytes` of a map at `offset` as one dimension of `dtype`."""
    count = size_bytes // dtype.itemsize
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if dtype == torch.bool:
        return torch.frombuffer(memory, dtype=torch.uint8, count=count, offset=offset).view(torch.bool)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)


def modules_of(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Buffer name -> (module that holds it, its name there), shared buffers once."""
    return {name: holders[0] for name, holders in holders_of(model).items()}


def holders_of(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Buffer name -> all places that hold it; a buffer shared by several goes by the first one's name."""
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    names: dict[int, str] = {}
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                first = names.setdefault(id(buffer), f"{prefix}.{name}" if prefix else name)
                found.setdefault(first, []).append((module, name))
    return found


__all__ = ["Chunk", "Layout", "Piece", "Place", "StateKey", "build", "dtype_of", "flat", "view"]
