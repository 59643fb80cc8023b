"""A version in the form that others read: safetensors, TorchScript or ONNX; written whole or not at all."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.serve.registry import folder
from springtide.serve.registry.folder import WEIGHTS
from springtide.serve.registry.version import Version
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.quantities import nearest

if TYPE_CHECKING:
    import torch

FORMATS = ("safetensors", "torchscript", "onnx")
_INPUT = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<type>[a-z]+\d+|bool)\[(?P<shape>[\w, ]*)\]\Z")
_SAID = "write NAME=TYPE[SIZES], for example x=float32[batch,3]; a size that is a word may vary"
_EXAMPLE = 2  # a varying size in the example that a model is traced with; 1 would be taken for a constant


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a model: a size that is a word may vary."""

    name: str
    kind: str
    shape: tuple[int | str, ...]


def parse_input(text: str) -> Input:
    """`x=float32[batch,3]`. UserError: it is none."""
    found = _INPUT.match(text)
    if found is None:
        raise UserError(f'--input: "{text}" is no input; {_SAID}')
    sizes = [size.strip() for size in found["shape"].split(",") if size.strip()]
    shape: list[int | str] = [int(size) if size.isdigit() else size for size in sizes]
    return Input(found["name"], found["type"], tuple(shape))


def export(version: Version, to: Path, form: str, inputs: Sequence[Input] = ()) -> None:
    """Writes the version to a file. UserError: the form cannot hold this model, or wants its inputs described."""
    if form not in FORMATS:
        raise UserError(f'--format: nothing is written as "{form}"{nearest(form, FORMATS) or f"; write {_any()}"}')
    if not to.absolute().parent.is_dir():
        raise UserError(f"FILE: there is no folder {to.absolute().parent}; make it first")
    what = f"version {version.number} of {version.name}"
    aside = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        match form:
            case "safetensors":
                folder.verified(version.path, version.digest, what)
                shutil.copyfile(version.path / WEIGHTS, aside)
            case "torchscript":
                _torchscript(version, aside, inputs, what)
            case _:
                _onnx(version, aside, inputs, what)
        aside.replace(to)
    except OSError as error:
        raise SpringtideError(f"{to} cannot be written: {(error.strerror or str(error)).lower()}") from None
    finally:
        aside.unlink(missing_ok=True)


def _any() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _torchscript(version: Version, path: Path, inputs: Sequence[Input], what: str) -> None:
    import warnings

    import torch

    from springtide.serve.build import build_module

    module = build_module(version)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = _examples(version, inputs) if inputs else None
            jit: Any = torch.jit
            script = jit.trace(module, example) if example else jit.script(module)
            script.save(str(path))
    except OSError:
        raise
    except Exception as error:
        hint = "" if inputs else "; describe its inputs with --input to have it traced instead"
        raise UserError(f"{what} cannot be written as TorchScript: {_sentence(error)}{hint}") from None


def _onnx(version: Version, path: Path, inputs: Sequence[Input], what: str) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("ONNX wants two more packages; install them with `pip install springtide[onnx]`") from None
    import contextlib
    import io
    import logging
    import warnings

    import torch

    from springtide.serve.build import build_module

    if not inputs:
        names = ", ".join(version.inputs) or "none by name"
        raise UserError(f"--input is missing: the inputs of {what} are {names}; {_SAID}")
    module, example = build_module(version), _examples(version, inputs)
    named = {one.name: one for one in inputs}
    shapes = tuple(_dynamic(named[name]) for name in version.inputs if name in named)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, example, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False,
                input_names=[name for name in version.inputs if name in named],
            )  # fmt: skip
    except OSError:
        raise
    except Exception as error:
        raise UserError(f"{what} cannot be written as ONNX: {_sentence(error)}") from None


def _examples(version: Version, inputs: Sequence[Input]) -> tuple[torch.Tensor, ...]:
    """A tensor for each described input, in the order of forward. UserError: forward has no such input."""
    named = {one.name: one for one in inputs}
    for name in named:
        if name not in version.inputs:
            hint = nearest(name, version.inputs) or f"; it has {', '.join(version.inputs)}"
            raise UserError(f'--input: forward has no input "{name}"{hint}')
    return tuple(_example(named[name]) for name in version.inputs if name in named)


def _example(one: Input) -> torch.Tensor:
    import torch

    kind = getattr(torch, one.kind, None)
    if not isinstance(kind, torch.dtype):
        raise UserError(f'--input: {one.name} is of no known type "{one.kind}"; write float32, int64 or bool')
    return torch.ones([size if isinstance(size, int) else _EXAMPLE for size in one.shape], dtype=kind)


def _dynamic(one: Input) -> dict[int, Any]:
    import torch

    return {at: torch.export.Dim(size) for at, size in enumerate(one.shape) if isinstance(size, str)}


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'it says no more'}"[:300]
