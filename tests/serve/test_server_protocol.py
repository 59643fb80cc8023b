"""The Open Inference Protocol: a tensor comes back as it went; whatever is wrong with a request has a sentence."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.a_server import Scale, call, infer, served, tensor
from springtide.serve.server import protocol, tensors
from springtide.serve.server.faults import Fault
from springtide.serve.server.tensors import DTYPES, Texts

_WHOLE = [name for name in DTYPES if "INT" in name]
_SMALL = st.lists(st.integers(0, 3), min_size=0, max_size=3)


def _limits(kind: str) -> st.SearchStrategy[Any]:
    if kind == "BOOL":
        return st.booleans()
    if kind in _WHOLE:
        return st.integers(torch.iinfo(DTYPES[kind]).min, torch.iinfo(DTYPES[kind]).max)
    return st.floats(-100, 100, width=16)


@st.composite
def _tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    kind, shape = draw(st.sampled_from(list(DTYPES))), draw(_SMALL)
    count = math.prod(shape)
    return kind, shape, draw(st.lists(_limits(kind), min_size=count, max_size=count))


@given(_tensors())
def test_a_tensor_of_any_datatype_is_the_same_as_json_and_as_bytes(made: tuple[str, list[int], list[Any]]) -> None:
    kind, shape, items = made
    value = tensors.from_json("x", kind, shape, json.dumps(items).encode())
    assert isinstance(value, torch.Tensor) and value.dtype == DTYPES[kind] and list(value.shape) == shape
    again = tensors.from_bytes("x", kind, shape, memoryview(tensors.to_bytes(value)))
    assert isinstance(again, torch.Tensor) and torch.equal(again, value)
    if kind not in ("BF16", "FP16"):
        assert tensors.to_json(value) == items


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_texts_are_the_same_as_json_and_as_bytes(items: list[str]) -> None:
    value = tensors.from_json("x", "BYTES", [len(items)], json.dumps(items).encode())
    assert tensors.from_bytes("x", "BYTES", [len(items)], memoryview(tensors.to_bytes(value))) == value
    assert tensors.to_json(value) == items


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_json_keeps_every_bit_of_a_float(items: list[float]) -> None:
    sent = torch.tensor(items, dtype=torch.float32)
    read = tensors.from_json("x", "FP32", [len(items)], json.dumps(tensors.to_json(sent)).encode())
    assert isinstance(read, torch.Tensor)
    assert torch.equal(read.view(torch.int32), sent.view(torch.int32))


def test_data_may_be_nested_as_the_shape_is() -> None:
    value = tensors.from_json("x", "FP32", [2, 3], b"[[1, 2, 3], [4, 5, 6]]")
    assert torch.equal(value, torch.arange(1.0, 7.0).reshape(2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (tensor([1.0], [2]), "input x: shape [2] wants 2 values, and data has 1"),
        (tensor([[1, 2], [3]], [2, 2]), "input x: data is not nested as shape [2, 2] says"),
        (tensor([1.5], [1], datatype="INT32"), "input x: INT32 wants whole numbers"),
        (tensor([300], [1], datatype="UINT8"), "input x: a value is beyond what UINT8 can hold"),
        (tensor([-1], [1], datatype="UINT64"), "input x: a value is beyond what UINT64 can hold"),
        (tensor([True], [1]), "input x: FP32 wants numbers"),
        (tensor(["a"], [1]), "input x: FP32 wants numbers"),
        (tensor([1], [1], datatype="INT23"), 'input x: datatype "INT23" is not known; '),
        (tensor([1], [-1]), "input x: shape [-1] is none"),
        (tensor([1], [1 << 60]), "input x: shape"),
        (tensor([1e300], [1]), "input x holds NaN or infinity, or a number too large for FP32"),
        (tensor([1.0], [1], name="y"), 'the model has no input "y"; it takes x'),
        ({"name": "x", "shape": [1], "datatype": "FP32"}, "input x has no data"),
        (tensor([1], [1]) | {"parameters": {"shared_memory_region": "a"}}, "input x: shared memory is not offered"),
        (tensor([], [1]) | {"parameters": {"binary_data_size": 4}}, "input x has both data and binary_data_size"),
        ({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}, "0 bytes are left"),
    ],
)
def test_a_wrong_input_is_told_what_came_and_what_would_be_right(one: dict[str, Any], sentence: str) -> None:
    status, said = _asked(infer(one))
    assert status == 400 and sentence in said["error"], said


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is no JSON"),
        (b'{"inputs": [{"name": "x"', "the body is no JSON"),
        (b"[]", "the request is not as the protocol wants it"),
        (b'{"inputs": []}', "input x is missing; the model takes x"),
        (infer(tensor([1], [1]), tensor([1], [1])), "input x is given twice"),
        (infer(tensor([1], [1]), outputs=[{"name": "outptu"}]), 'no output "outptu"; did you mean "output"'),
        (infer(tensor([1], [1]), outputs=[{"name": "output", "parameters": {"classification": 2}}]), "not offered"),
        (infer(tensor([1], [1]), id="x" * 129), "the id of a request has at most 128"),
        (b'{"inputs": [{"name": ' + b"[" * 100_000, "the request is not as the protocol wants it"),
        (infer(tensor([1], [1]), parameters={"timeout": "soon"}), "timeout is a number of microseconds"),
    ],
)
def test_a_wrong_body_is_told_what_is_wrong(body: bytes, sentence: str) -> None:
    status, said = _asked(body)
    assert status == 400 and sentence in said["error"], said


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "/v2/models/scael/infer", 404, 'there is no model "scael" here; did you mean "scale"'),
        ("POST", "/v2/models/scale/versions/7/infer", 404, 'version "7" of scale does not answer here; version 1 does'),
        ("POST", "/v2/models/scale/versions/x/infer", 404, 'version "x" of scale does not answer here'),
        ("GET", "/v2/models/scale/infer", 405, "GET asks no model; write POST"),
        ("GET", "/nothing", 404, "there is nothing at GET /nothing"),
        ("DELETE", "/v2", 404, "there is nothing at DELETE /v2"),
        ("POST", "/feedback", 404, "no feedback is kept here"),
    ],
)
def test_who_asks_for_what_is_not_there_is_told(method: str, path: str, status: int, sentence: str) -> None:
    found, said = _asked(infer(tensor([1.0], [1, 1])), method, path)
    assert found == status and sentence in said["error"], said


def test_tensors_travel_as_bytes_behind_the_json() -> None:
    head = json.dumps(
        {
            "inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
        }
    ).encode()
    sent = {"Inference-Header-Content-Length": str(len(head))}

    async def do(app: Any) -> Any:
        return await call(app, "POST", "/v2/models/scale/infer", head + struct.pack("<2f", 0.1, -2.5), sent)

    status, headers, body = served(Scale(2.0), do=do)
    at = int(headers["inference-header-content-length"])
    assert status == 200 and headers["content-type"] == "application/octet-stream"
    assert json.loads(body[:at])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", body[at:]) == struct.unpack("<2f", struct.pack("<2f", 0.2, -5.0))


def test_not_a_number_as_bytes_is_refused_unless_the_model_takes_it() -> None:
    class Takes(Scale):
        finite = False

    head = infer({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}})
    sent = {"Inference-Header-Content-Length": str(len(head))}

    async def do(app: Any) -> Any:
        return await call(app, "POST", "/v2/models/scale/infer", head + struct.pack("<f", math.nan), sent)

    assert served(Scale(), do=do)[0] == 400
    status, _, body = served(Takes(), do=do)
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [None]  # JSON has no NaN


def test_what_a_model_declares_is_checked_before_it_is_asked() -> None:
    class Declares(Scale):
        inputs = {"x": ("FP32", (-1, 3))}

    status, said = _asked(infer(tensor([1.0, 2.0], [1, 2])), module=Declares())
    assert status == 400 and said["error"] == "input x is FP32 [1, 2], and the model wants FP32 [-1, 3]"
    status, said = _asked(infer(tensor([1, 2, 3], [1, 3], datatype="INT64")), module=Declares())
    assert status == 400 and said["error"] == "input x is INT64 [1, 3], and the model wants FP32 [-1, 3]"


def test_a_model_takes_and_gives_texts() -> None:
    class Shouts(torch.nn.Module):
        def forward(self, words: list[str]) -> dict[str, Any]:
            return {"loud": [word.upper() for word in words], "length": torch.tensor([len(word) for word in words])}

    status, said = _asked(infer(tensor(["ab", "ö"], [2], "words", "BYTES")), module=Shouts())
    assert status == 200, said
    assert said["outputs"] == [
        {"name": "loud", "datatype": "BYTES", "shape": [2], "data": ["AB", "Ö"]},
        {"name": "length", "datatype": "INT64", "shape": [2], "data": [2, 1]},
    ]


def test_only_the_outputs_that_were_asked_for_come() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    _, said = _asked(infer(tensor([1.0], [1]), outputs=[{"name": "output_1"}]), module=Two())
    assert [(one["name"], one["data"]) for one in said["outputs"]] == [("output_1", [3.0])]


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_anything = st.recursive(
    _scalars, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=5), one, max_size=4)
)
_nearly = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", ""]) | _scalars,
        "shape": st.lists(st.integers(-2, 4), max_size=3) | _anything,
        "datatype": st.sampled_from([*DTYPES, "BYTES", "FP7"]) | _scalars,
        "data": st.lists(st.floats() | st.integers() | st.booleans() | st.text(max_size=3), max_size=8) | _anything,
    },
    optional={
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region", "z"]), _scalars, max_size=2
        )
    },
)
_requests = st.fixed_dictionaries(
    {"inputs": st.lists(_nearly, max_size=2) | _anything},
    optional={
        "id": _scalars,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["output", "q"])}), max_size=2) | _anything,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "timeout"]), _scalars) | _anything,
    },
)
_headers = st.fixed_dictionaries(
    {},
    optional={
        "Inference-Header-Content-Length": st.integers(-5, 300).map(str) | st.text("0123456789x", max_size=5),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "identity"]),
        "Content-Type": st.sampled_from(["application/json", "text/plain", "application/json; charset=utf-8"]),
        "X-Request-Id": st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=140),
        "Content-Length": st.integers(-5, 10**12).map(str),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(_requests.map(json.dumps).map(str.encode), _anything.map(json.dumps).map(str.encode), st.binary()),
    st.binary(max_size=20), _headers, st.sampled_from(["/v2/models/scale/infer", "/models/scale", "/feedback"]),
)  # fmt: skip
def test_whatever_comes_is_answered_or_refused_with_a_sentence(
    body: bytes, tail: bytes, headers: dict[str, str], path: str
) -> None:
    async def do(app: Any) -> Any:
        return await call(app, "POST", path, body + tail, headers, parts=2)

    status, _, said = served(Scale(), do=do)
    assert status == 200 or 400 <= status < 500, said
    assert status == 200 or json.loads(said)["error"], said


@given(st.binary(max_size=64), st.lists(st.integers(0, 4), max_size=2))
def test_any_bytes_are_texts_or_are_refused(data: bytes, shape: list[int]) -> None:
    try:
        found = tensors.from_bytes("x", "BYTES", shape, memoryview(data))
    except Fault:
        return
    assert isinstance(found, Texts) and tensors.to_bytes(found) == data


def test_an_answer_says_the_id_and_the_version() -> None:
    _, said = _asked(infer(tensor([1.0], [1]), id="mine"))
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "scale", "1")


def test_a_parameter_chooses_bytes_for_all_outputs() -> None:
    ask = protocol.decode(infer(tensor([1.0], [1]), parameters={"binary_data_output": True}))
    body, length = protocol.encode("scale", 3, "id", {"output": torch.tensor([1.0])}, ask)
    assert length is not None and body[length:] == struct.pack("<f", 1.0)


def _asked(
    body: bytes, method: str = "POST", path: str = "/v2/models/scale/infer", module: torch.nn.Module | None = None
) -> tuple[int, Any]:  # fmt: skip
    async def do(app: Any) -> Any:
        return await call(app, method, path, body)

    status, _, said = served(module or Scale(), do=do)
    return status, json.loads(said)
