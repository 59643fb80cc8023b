"""One version, built and ready to answer: its forward on one request or on many at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from springtide.serve.server import tensors
from springtide.serve.server.faults import RETRY_S, Fault
from springtide.serve.server.signature import Signature, signature_of
from springtide.serve.server.tensors import NAMES, Texts, Value

_log = logging.getLogger("springtide.serve")
_ALIKE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}  # how far a row may be from what it is alone, relative
_USUALLY_ALIKE = 1e-3
_WARM_ROUNDS = 2

Inputs = Mapping[str, Value]
Outputs = dict[str, Value]


class Loaded:
    """A version in memory. Its module is touched by one thread at a time.

    `batches`: whether requests may be computed together. It begins with what the module says (`batch = False`, or the
    most rows), and ends where the first batch shows that an answer depends on its neighbours, or has no row for each.
    """

    def __init__(self, name: str, number: int, module: torch.nn.Module) -> None:
        self.name, self.number, self.module = name, number, module
        self.signature: Signature = signature_of(module, f"version {number} of {name}")
        said = getattr(module, "batch", True)
        self.batches = said is not False
        self.most_rows: int | None = said if isinstance(said, int) and not isinstance(said, bool) else None
        self.outputs: dict[str, tuple[str, list[int]]] = {}  # as last seen: datatype and shape, without the rows
        self._tried = False

    def compute(self, asked: Sequence[Inputs], rows: Sequence[int]) -> list[Outputs | Fault]:
        """An answer for each. One that cannot be answered harms no other."""
        if len(asked) > 1 and self.batches:
            try:
                together = self._together(asked, rows)
            except Fault:
                together = None
            if together is not None:
                return together
        return [self._alone(one) for one in asked]

    def _alone(self, inputs: Inputs) -> Outputs | Fault:
        try:
            return self.forward(inputs)
        except Fault as fault:
            return fault

    def _together(self, asked: Sequence[Inputs], rows: Sequence[int]) -> list[Outputs | Fault] | None:
        """None: it cannot be done, or not with these."""
        found = self.forward({name: tensors.joined([one[name] for one in asked]) for name in asked[0]})
        total = sum(rows)
        if any(not value.shape or value.shape[0] != total for value in found.values()):
            self._stop_batching(f"its outputs have no row for each of {total} rows")
            return None
        parts = {name: tensors.apart(value, rows) for name, value in found.items()}
        answers = [{name: parts[name][at] for name in parts} for at in range(len(asked))]
        if not self._tried:
            self._tried = True
            alone = self._alone(asked[0])
            if isinstance(alone, Fault) or not _alike(answers[0], alone):
                self._stop_batching("an answer depends on what is computed beside it")
                return None
        return [*answers]

    def _stop_batching(self, why: str) -> None:
        self.batches = False
        _log.warning("version %d of %s is computed one request at a time: %s", self.number, self.name, why)

    def forward(self, inputs: Inputs) -> Outputs:
        """Fault: the model does not take these inputs, or has no room for them."""
        try:
            with torch.inference_mode():
                found = self.module(**self.signature.given(inputs))
        except Fault:
            raise
        except (MemoryError, torch.OutOfMemoryError):
            raise Fault("there is no memory left for this request; send less at a time", 503, RETRY_S) from None
        except (NameError, AttributeError, ImportError) as error:
            _log.exception("version %d of %s", self.number, self.name)
            raise Fault(f"version {self.number} of {self.name} is broken: {_line(error)}", 500) from None
        except Exception as error:
            _log.debug("version %d of %s", self.number, self.name, exc_info=True)
            raise Fault(f"version {self.number} of {self.name} does not take {_told(inputs)}: {_line(error)}") from None
        outputs = named(found)
        self.outputs = {name: (tensors.datatype(one), tensors.shape_of(one)[1:]) for name, one in outputs.items()}
        return outputs

    def warm(self, recent: Inputs | None) -> None:
        """The first answers are as quick as the others. With what was asked of late, else with zeros as declared."""
        some = recent if recent is not None else self.signature.sample(1)
        if some is None:
            return
        for _ in range(_WARM_ROUNDS):
            answer = self._alone(some)
            if isinstance(answer, Fault):
                _log.warning("warming up: %s", answer)
                return


def _told(inputs: Inputs) -> str:
    return ", ".join(f"{name} {tensors.described(value)}" for name, value in inputs.items()) or "nothing"


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{said[0][:300]}" if said else type(error).__name__


def _alike(one: Outputs, other: Outputs) -> bool:
    return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)


def alike(one: Value, other: Value) -> bool:
    """Equal but for the last bits of floating-point sums."""
    if isinstance(one, Texts) or isinstance(other, Texts):
        return one == other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    relative = _ALIKE.get(one.dtype, _USUALLY_ALIKE)
    return torch.allclose(one.double(), other.double(), rtol=relative, atol=relative / 10, equal_nan=True)


def named(found: Any, name: str = "output") -> Outputs:
    """What forward returned, by name. Fault (500): there is no such output in the protocol."""
    match found:
        case torch.Tensor():
            if found.dtype not in NAMES:
                raise Fault(f"the model's {name} is {found.dtype}, which the protocol does not know", 500)
            return {name: found}
        case Texts():
            return {name: found}
        case bool() | int() | float():
            return {name: torch.tensor([found])}
        case str() | bytes():
            return {name: Texts((_encoded(found),), (1,))}
        case Mapping():
            return {key: value for key, part in found.items() for key, value in named(part, str(key)).items()}
        case tuple() if (fields := getattr(found, "_fields", None)) is not None:
            return named(dict(zip(fields, found, strict=True)))
        case list() | tuple() if found and all(isinstance(one, str | bytes) for one in found):
            return {name: Texts(tuple(map(_encoded, found)), (len(found),))}
        case list() | tuple() if found:
            parts = (named(part, f"{name}_{at}") for at, part in enumerate(found) if part is not None)
            return {key: value for part in parts for key, value in part.items()}
    raise Fault(
        f"the model's {name} is {type(found).__name__}; return tensors, texts, or a mapping or tuple of them", 500
    )


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
