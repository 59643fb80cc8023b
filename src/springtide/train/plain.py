"""A plain module out of a checkpoint, for whoever wants just the model."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from springtide.spec import SpringtideError, UserError
from springtide.train import checkpoint
from springtide.train.checkpoint import Manifest, Stored

_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_PREFIX = "model."
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Plain(nn.Module):
    """The parameters and buffers of a checkpoint, under their names; the code that used them is not in it."""

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise SpringtideError("a checkpoint holds no code: give the model to fill, load(path, into=model), to call it")


def load(path: str | os.PathLike[str], into: nn.Module | None = None) -> nn.Module:
    """The model of a checkpoint, on the CPU, each tensor in memory of its own; every byte is verified.

    `path` (local or fsspec URL) is a checkpoint, a folder of them or a run's folder: the newest whole one counts, and a
    warning names each damaged one before it. With `into`, that module is filled, strictly, and returned; without, a
    plain tree of modules of equal `state_dict()`. Executes nothing from the file.
    UserError: no checkpoint there, or one of another model. SpringtideError: none there is whole.
    """
    manifest, stored = _newest_whole(os.fspath(path))
    state = {name.removeprefix(_PREFIX): _tensor(one) for name, one in stored.items() if name.startswith(_PREFIX)}
    tied = {
        alias.removeprefix(_PREFIX): name.removeprefix(_PREFIX)
        for alias, name in dict(manifest.config.get("tied") or {}).items()
    }
    for alias, name in tied.items():
        if name in state:
            state[alias] = state[name]
    if into is None:
        return _plain(state, _buffers(manifest, state))
    _compare(into.state_dict(), state, str(path))
    into.load_state_dict(state)
    return into


def _newest_whole(path: str) -> tuple[Manifest, Mapping[str, Stored]]:
    found = checkpoint.find(path)
    problems = []
    for one in found:
        try:
            stored = checkpoint.read_verified(one)
        except SpringtideError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; the one before it is used", stacklevel=3)
        assert one.manifest is not None  # or it would not have verified
        return one.manifest, stored
    if problems:
        raise SpringtideError(f"no checkpoint in {path} is whole: {'; '.join(problems)}")
    raise UserError(f"{path} holds no checkpoint; name a checkpoint, a folder of checkpoints or a run's folder")


def _tensor(stored: Stored) -> torch.Tensor:
    """A tensor of its own memory; copied as bytes, since numpy knows no bfloat16."""
    raw = torch.empty(len(stored.data), dtype=torch.uint8)
    raw.numpy()[:] = np.frombuffer(stored.data, dtype=np.uint8)
    return raw.view(_DTYPES[stored.dtype]).reshape(stored.shape)


def _buffers(manifest: Manifest, state: Mapping[str, torch.Tensor]) -> set[str]:
    """Which names are buffers: what the manifest's config says, else integers and the statistics of normalization."""
    told = manifest.config.get("buffers")
    if isinstance(told, list):
        return {str(name).removeprefix(_PREFIX) for name in told}
    return {name for name, t in state.items() if not _learnable(t) or name.rsplit(".", 1)[-1] in _STATISTICS}


def _learnable(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _plain(state: Mapping[str, torch.Tensor], buffers: set[str]) -> nn.Module:
    root = Plain()
    parameters: dict[int, nn.Parameter] = {}  # by tensor, so that tied names share one
    for name in sorted(state, key=_natural):
        tensor, (*path, leaf) = state[name], name.split(".")
        try:
            module: nn.Module = root
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            if name in buffers or not _learnable(tensor):
                module.register_buffer(leaf, tensor)
            else:
                module.register_parameter(leaf, parameters.setdefault(id(tensor), nn.Parameter(tensor)))
        except (KeyError, TypeError) as error:
            raise SpringtideError(f"the tensor name {name!r} cannot be part of a module: {error.args[0]}") from None
    return root


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `layers.10` behind `layers.9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _compare(wanted: Mapping[str, Any], state: Mapping[str, torch.Tensor], path: str) -> None:
    """UserError that lists what differs between a module and a checkpoint, in one sentence."""
    missing = [f"{name} {_describe(wanted[name])} is missing" for name in wanted if name not in state]
    extra = [f"{name} {_describe(state[name])} is not in the model" for name in state if name not in wanted]
    other = [
        f"{name} is {_describe(state[name])}, the model has {_describe(wanted[name])}"
        for name in wanted
        if name in state and _describe(wanted[name]) != _describe(state[name])
    ]
    if differences := other + missing + extra:
        raise UserError(f"{path} is of another model: {_few(differences)}")


def _describe(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def _few(items: Iterable[str], limit: int = 8) -> str:
    listed = list(items)
    more = f"; and {len(listed) - limit} more" if len(listed) > limit else ""
    return "; ".join(listed[:limit]) + more
