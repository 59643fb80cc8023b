"""What a version is made from: a .safetensors file, a checkpoint, a folder of them, or a run's folder. No torch.

From a checkpoint the tensors `model.NAME` become NAME, as in the module's state_dict; tied ones under each name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from springtide.serve.registry.version import Lineage
from springtide.spec.errors import SpringtideError, UserError
from springtide.train import checkpoint, offsets
from springtide.train.manifest import MANIFEST, STATE, Manifest
from springtide.train.tensors import Layout, Stored, Tensor, lay_out, map_file, parse

_PREFIX = "model."


@dataclass(frozen=True, slots=True)
class Source:
    """Weights under the names of the module's state_dict, and where they came from."""

    weights: Layout
    lineage: Lineage
    metrics: Mapping[str, float]


def read(source: Path | str) -> Source:
    """The newest whole state there: a path, or an fsspec URL of checkpoints.

    UserError: there is none; SpringtideError: what is there is damaged.
    """
    if "://" in str(source) and not str(source).startswith("file://"):
        return _of_checkpoints(str(source))
    path = Path(str(source).removeprefix("file://"))
    if path.name == STATE and (path.parent / MANIFEST).exists():
        path = path.parent
    if path.is_dir():
        return _of_checkpoints(path)
    if not path.exists():
        raise UserError(f"there is no {path}; name a .safetensors file, a checkpoint, or the folder of a run")
    try:
        stored = parse(map_file(path), str(path))
    except SpringtideError as error:
        raise UserError(f"{error}; name a .safetensors file, a checkpoint, or the folder of a run") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    return Source(_weights(stored, str(path)), Lineage(source=str(path.absolute())), {})


def _of_checkpoints(path: Path | str) -> Source:
    damaged: list[str] = []
    for found in checkpoint.find(path):
        try:
            stored = checkpoint.read_verified(found)
        except SpringtideError as error:
            damaged.append(str(error))
            continue
        about = found.manifest
        assert about is not None  # or it would not have verified
        weights = _weights(_model(stored, dict(about.config.get("tied") or {})), found.path)
        return Source(weights, lineage_of(about, found.path), _metrics(about))
    if damaged:
        raise SpringtideError(f"no checkpoint in {path} is whole: {'; '.join(damaged)}")
    raise UserError(f"{path} holds no checkpoint; name a .safetensors file, a checkpoint, or the folder of a run")


def lineage_of(about: Manifest, path: str) -> Lineage:
    """What a checkpoint's manifest tells of where it came from."""
    lineage = Lineage(
        job=about.name, run_id=about.run_id, step=about.step, data_fingerprint=about.order.fingerprint,
        source=path if "://" in path else str(Path(path).absolute()),
    )  # fmt: skip
    return replace(lineage, offsets=_offsets(about))


def _offsets(about: Manifest) -> dict[str, dict[str, int]]:
    """How far the run had read its stream, under the stream's URL where the manifest says it; {}: it read none."""
    found = offsets.kept(about)
    url = str(about.config.get("stream") or "stream")
    return {} if found is None else {url: {str(partition): end for partition, end in found.items()}}


def _metrics(about: Manifest) -> dict[str, float]:
    """Those of the last evaluation, where the run made any."""
    record: Any = about.position.get("record") or {}
    recent = record.get("recent") or [{}]
    said = about.position.get("metrics") or recent[-1].get("metrics") or {}
    return {str(name): float(value) for name, value in said.items() if isinstance(value, int | float)}


def _model(stored: Mapping[str, Stored], tied: Mapping[str, str]) -> dict[str, Stored]:
    """The module's state_dict in a checkpoint's tensors; an alias stands beside the name that it is tied to."""
    named = {name.removeprefix(_PREFIX): one for name, one in stored.items() if name.startswith(_PREFIX)}
    return named | {alias: named[name] for alias, name in tied.items() if name in named}


def _weights(named: Mapping[str, Stored], where: str) -> Layout:
    if not named:
        raise UserError(f"{where} holds no weights of a model")
    return lay_out(Tensor(name, one.dtype, one.shape, (one.data,)) for name, one in named.items())
