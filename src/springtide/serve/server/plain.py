"""The plain form: one item in, as JSON or as bytes, through the module's own `preprocess` and `postprocess`.

Without them a JSON object of input name -> nested lists goes in, and nested lists come out.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from springtide.serve.server import tensors
from springtide.serve.server.faults import Fault
from springtide.serve.server.loaded import Loaded, Outputs
from springtide.serve.server.tensors import BYTES, NAMES, Texts, Value

_MOST_DIMENSIONS = 16


def read(body: bytes, content_type: str) -> Any:
    """What the module gets: JSON as it is, else the bytes. Fault: it is said to be JSON, and is none."""
    if content_type and content_type != "application/json":
        return body
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise Fault(f"the body is no JSON ({said}); bytes of another kind want another Content-Type") from None


def own(loaded: Loaded, name: str) -> Any:
    """The module's method of that name, if it has one."""
    method = getattr(loaded.module, name, None)
    return method if callable(method) else None


def prepared(loaded: Loaded, given: Any) -> dict[str, Value]:
    """Inputs with one row, by the module's `preprocess`. Fault: it does not take what was given."""
    try:
        with torch.inference_mode():
            found = own(loaded, "preprocess")(given)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise Fault(f"version {loaded.number} of {loaded.name} cannot prepare this: {said[0][:300]}") from None
    if not isinstance(found, Mapping):
        raise Fault(f"preprocess of {loaded.name} returned {type(found).__name__}; return a dict of tensors", 500)
    return {str(name): _row(str(name), value) for name, value in found.items()}


def _row(name: str, value: Any) -> Value:
    match value:
        case torch.Tensor() if value.dtype in NAMES:
            return value.unsqueeze(0)
        case str() | bytes():
            return Texts((value.encode() if isinstance(value, str) else value,), (1,))
        case bool() | int() | float():
            return torch.tensor([value])
    raise Fault(f"preprocess returned {type(value).__name__} for {name}; return a tensor, a text or a number", 500)


def direct(loaded: Loaded, given: Any) -> dict[str, Value]:
    """Inputs with one row, from a JSON object. Fault: it is none, or its lists are ragged."""
    names = ", ".join(loaded.signature.names)
    if isinstance(given, bytes):
        raise Fault(f"{loaded.name} takes no bytes: it has no preprocess; send JSON with {names}")
    if not isinstance(given, dict):
        raise Fault(f'the body is no JSON object; write {{"{names.split(", ")[0]}": [...]}}')
    return {name: _value(loaded, name, value) for name, value in given.items()}


def _value(loaded: Loaded, name: str, value: Any) -> Value:
    shape = [1, *_shape(name, value)]
    kind = _kind(loaded, name, value)
    return tensors.from_lists(name, kind, shape, [value])


def _shape(name: str, value: Any) -> list[int]:
    shape: list[int] = []
    while isinstance(value, list):
        if len(shape) == _MOST_DIMENSIONS:
            raise Fault(f"input {name}: lists are nested more than {_MOST_DIMENSIONS} deep")
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _kind(loaded: Loaded, name: str, value: Any) -> str:
    """As declared; else by the first value: a text, true or false, or a number as the model's weights are."""
    if loaded.signature.declared is not None and name in loaded.signature.declared:
        return loaded.signature.declared[name].datatype
    while isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return BYTES
    if isinstance(value, bool):
        return "BOOL"
    return usual_kind(loaded)


def usual_kind(loaded: Loaded) -> str:
    """The datatype of the model's weights."""
    return next((NAMES[one.dtype] for one in loaded.module.parameters() if one.is_floating_point()), "FP32")


def finished(loaded: Loaded, outputs: Outputs) -> Any:
    """What is answered for one item, by the module's `postprocess`; a single output is given without its name."""
    item = {name: _item(value) for name, value in outputs.items()}
    said: Any = item["output"] if list(item) == ["output"] else item
    if (method := own(loaded, "postprocess")) is None:
        return _lists(said)
    try:
        with torch.inference_mode():
            return method(said)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise Fault(f"postprocess of {loaded.name} version {loaded.number} failed: {lines[0][:300]}", 500) from None


def _item(value: Value) -> Any:
    if isinstance(value, Texts):
        return value.items[0].decode("utf-8", "replace") if len(value.items) == 1 else tensors.to_json(value)
    return value[0] if value.dim() and value.shape[0] == 1 else value


def _lists(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: _lists(value) for name, value in said.items()}
    return said.tolist() if isinstance(said, torch.Tensor) else said


def kept(given: Any) -> Any:
    """As it stands in the log: JSON as it was, bytes in base64."""
    return {"base64": base64.b64encode(given).decode()} if isinstance(given, bytes) else given


def kept_tensors(values: Mapping[str, Value]) -> dict[str, Any]:
    """Tensors as they stand in the log: datatype, shape and flat data."""
    return {
        name: {"datatype": tensors.datatype(one), "shape": tensors.shape_of(one), "data": tensors.to_json(one)}
        for name, one in values.items()
    }
