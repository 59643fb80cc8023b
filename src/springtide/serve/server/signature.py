"""What a model takes: the parameters of its `forward`, and what it declares of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from springtide.serve.server import tensors
from springtide.serve.server.faults import Fault
from springtide.serve.server.tensors import BYTES, DTYPES, Texts, Value
from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import nearest


@dataclass(frozen=True, slots=True)
class Declared:
    """Of one input, by the module's attribute `inputs`. A size of -1 may be any; the first is the rows."""

    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"

    def takes(self, value: Value) -> bool:
        return tensors.datatype(value) == self.datatype and len(value.shape) == len(self.shape) and all(
            wanted in (-1, size) for wanted, size in zip(self.shape, value.shape, strict=True)
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signature:
    """`needed` and `optional` are names of parameters; `open`: other names are taken too."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    open: bool = False
    raw: frozenset[str] = frozenset()  # parameters that want texts as bytes
    declared: Mapping[str, Declared] | None = None
    infinite: bool = False  # NaN and infinity are taken

    @property
    def names(self) -> tuple[str, ...]:
        return self.needed + self.optional

    def check(self, inputs: Mapping[str, Value]) -> None:
        """Fault: what is wrong with which input, what came, what would be right."""
        for name, value in inputs.items():
            if not self.open and name not in self.names:
                hint = nearest(name, self.names) or f"; it takes {', '.join(self.names) or 'none'}"
                raise Fault(f'the model has no input "{name[:60]}"{hint}')
            if self.declared is not None and name in self.declared and not self.declared[name].takes(value):
                raise Fault(f"input {name} is {tensors.described(value)}, and the model wants {self.declared[name]}")
            if not self.infinite and not tensors.finite(value):
                raise Fault(f"input {name} holds NaN or infinity, or a number too large for {tensors.datatype(value)}")
        for name in self.needed:
            if name not in inputs:
                raise Fault(f"input {name} is missing; the model takes {', '.join(self.names)}")

    def sample(self, rows: int) -> dict[str, torch.Tensor] | None:
        """Zeros as declared, to warm up with; None where too little is declared, or texts."""
        if self.declared is None or any(one.datatype == BYTES for one in self.declared.values()):
            return None
        if not set(self.needed) <= set(self.declared):
            return None
        return {
            name: torch.zeros((rows, *(max(1, size) for size in one.shape[1:])), dtype=DTYPES[one.datatype])
            for name, one in self.declared.items()
            if name in self.needed
        }

    def given(self, inputs: Mapping[str, Value]) -> dict[str, Any]:
        """As `forward` takes them: tensors, and lists for texts."""
        return {
            name: _texts(value, name in self.raw) if isinstance(value, Texts) else value
            for name, value in inputs.items()
        }


def signature_of(module: torch.nn.Module, what: str) -> Signature:
    """SpringtideError: what it declares is none of its parameters, or makes no sense."""
    kinds = inspect.Parameter
    parameters = inspect.signature(module.forward).parameters.values()
    named = [one for one in parameters if one.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    return Signature(
        tuple(one.name for one in named if one.default is kinds.empty),
        tuple(one.name for one in named if one.default is not kinds.empty),
        any(one.kind == kinds.VAR_KEYWORD for one in parameters),
        frozenset(one.name for one in named if "bytes" in str(one.annotation)),
        _declared(module, {one.name for one in named}, what),
        getattr(module, "finite", True) is False,
    )


def _declared(module: torch.nn.Module, names: set[str], what: str) -> dict[str, Declared] | None:
    said = getattr(module, "inputs", None)
    if said is None or not isinstance(said, Mapping):
        return None
    found = {}
    for name, one in said.items():
        if name not in names:
            raise SpringtideError(f"{what}: its inputs name {name}, and forward has no such parameter")
        try:
            kind, shape = one
            found[str(name)] = Declared(str(kind), tuple(int(size) for size in shape))
        except (TypeError, ValueError):
            raise SpringtideError(f'{what}: inputs["{name}"] is {one!r}; write ("FP32", (-1, 16))') from None
        if kind not in (*DTYPES, BYTES):
            raise SpringtideError(f'{what}: inputs["{name}"]: {kind!r} is none of {", ".join((*DTYPES, BYTES))}')
    return found


def _texts(value: Texts, raw: bool) -> list[Any]:
    """Nested as its shape is. Fault: not UTF-8, where texts are wanted."""
    try:
        items: list[Any] = [one if raw else one.decode() for one in value.items]
    except UnicodeDecodeError:
        raise Fault("a text is not UTF-8, and the model wants texts") from None
    for size in reversed(value.shape[1:]):
        items = [items[at : at + size] for at in range(0, len(items), size)] if size else []
    return items
