"""The Open Inference Protocol v2 over HTTP: a body into tensors by name, tensors into a body. Pure.

Tensors travel as JSON, or as bytes behind the JSON (the binary tensor extension: the header
Inference-Header-Content-Length says how long the JSON is, the parameter binary_data_size how long each tensor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from springtide.serve.server import tensors
from springtide.serve.server.faults import Fault
from springtide.serve.server.tensors import Value
from springtide.spec.quantities import nearest

JSON_LENGTH = b"inference-header-content-length"
LONGEST_ID = 128
_EMPTY = msgspec.Raw(b"")
_EXAMPLE = '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = _EMPTY
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] = {}


_REQUEST = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants. `binary`: how outputs travel that do not say so; `outputs` None: all of them."""

    inputs: Mapping[str, Value]
    id: str = ""
    outputs: Mapping[str, bool | None] | None = None  # name -> whether as bytes; None: as `binary` says
    binary: bool = False
    deadline_ms: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def decode(body: bytes, json_length: int | None = None) -> Ask:
    """Fault: one sentence about what is wrong with it."""
    view = memoryview(body)
    if json_length is not None and not 0 < json_length <= len(body):
        raise Fault(f"Inference-Header-Content-Length says {json_length}, and the body has {len(body):,} bytes")
    head, rest = (view, view[:0]) if json_length is None else (view[:json_length], view[json_length:])
    try:
        request = _REQUEST.decode(head)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Fault(_unread(error)) from None
    return Ask(
        _inputs(request.inputs, rest),
        checked_id(request.id),
        _outputs(request.outputs),
        _flag(request.parameters, "binary_data_output", "the request") or False,
        _deadline(request.parameters),
        request.parameters,
    )


def _unread(error: Exception) -> str:
    said = str(error) or type(error).__name__
    if isinstance(error, msgspec.ValidationError):
        return f"the request is not as the protocol wants it: {said.replace('$.', '').replace('$', 'the body')}"
    return f"the body is no JSON ({said}); write {_EXAMPLE}"


def checked_id(text: str) -> str:
    """Fault: an id that is too long, or holds what cannot be printed."""
    if len(text) > LONGEST_ID or not (text.isprintable() and text.isascii()):
        raise Fault(f"the id of a request has at most {LONGEST_ID} printable ASCII characters")
    return text


def _inputs(given: Sequence[_Input], rest: memoryview) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for one in given:
        if one.name in found:
            raise Fault(f"input {one.name} is given twice; give it once")
        found[one.name], rest = _value(one, rest)
    if len(rest):
        raise Fault(f"{len(rest):,} bytes follow the last tensor, and belong to none")
    return found


def _value(one: _Input, rest: memoryview) -> tuple[Value, memoryview]:
    if not one.parameters:
        if not len(one.data):
            raise Fault(f"input {one.name} has no data; write its values in row-major order")
        return tensors.from_json(one.name, one.datatype, one.shape, one.data), rest
    if "shared_memory_region" in one.parameters:
        raise Fault(f"input {one.name}: shared memory is not offered; send its values as JSON or bytes")
    size = one.parameters.get("binary_data_size")
    if size is None:
        return _value(_Input(one.name, one.shape, one.datatype, one.data), rest)
    if len(one.data):
        raise Fault(f"input {one.name} has both data and binary_data_size; send one of the two")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise Fault(f"input {one.name}: binary_data_size is {str(size)[:40]}, and {len(rest):,} bytes are left")
    return tensors.from_bytes(one.name, one.datatype, one.shape, rest[:size]), rest[size:]


def _outputs(given: Sequence[_Output] | None) -> dict[str, bool | None] | None:
    if not given:
        return None
    for one in given:
        for word in ("classification", "shared_memory_region"):
            if one.parameters.get(word):
                raise Fault(f"output {one.name}: {word} is not offered; ask for the tensor itself")
    return {one.name: _flag(one.parameters, "binary_data", f"output {one.name}") for one in given}


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise Fault(f"{where}: {name} is true or false, not {str(value)[:40]}")
    return value


def _deadline(parameters: Mapping[str, Any]) -> float | None:
    """Triton's parameter `timeout`, in microseconds; 0 is none."""
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Fault(f"timeout is a number of microseconds, not {str(value)[:40]}")
    return value / 1000.0


def chosen(outputs: Mapping[str, Value], ask: Ask) -> Mapping[str, Value]:
    """The outputs that were asked for. Fault: the model has no such output."""
    if ask.outputs is None:
        return outputs
    for name in ask.outputs:
        if name not in outputs:
            hint = nearest(name, outputs) or f"; there is {', '.join(outputs)}"
            raise Fault(f'there is no output "{name[:60]}"{hint}')
    return {name: outputs[name] for name in ask.outputs}


def encode(
    model: str, version: int, id: str, outputs: Mapping[str, Value], ask: Ask
) -> tuple[bytes, int | None]:  # fmt: skip
    """The body, and how long its JSON is if bytes follow it. Fault: as `chosen`."""
    told: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for name, value in chosen(outputs, ask).items():
        one: dict[str, Any] = {"name": name, "datatype": tensors.datatype(value), "shape": tensors.shape_of(value)}
        asked = ask.outputs[name] if ask.outputs is not None else None
        if ask.binary if asked is None else asked:
            behind.append(tensors.to_bytes(value))
            one["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            one["data"] = tensors.to_json(value)
        told.append(one)
    head = msgspec.json.encode({"model_name": model, "model_version": str(version), "id": id, "outputs": told})
    return (b"".join((head, *behind)), len(head)) if behind else (head, None)
