"""What a version is made from: files and checkpoints; names, tied tensors, lineage; damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from a_registry import weights

from springtide.serve.registry import sources
from springtide.serve.registry.version import Lineage
from springtide.spec.errors import SpringtideError, UserError
from springtide.train import checkpoint
from springtide.train.tensors import parse


def _written(root: Path, step: int, value: float = 1.0, position: dict[str, Any] | None = None, **config: Any) -> Path:
    order = checkpoint.Order(fingerprint="f00d", seed=0, batch_size=4, microbatches=2)
    content = {"model.a": [value], "model.n": [step], "buffer.scratch": [0.0], "optimizer.a.momentum": [9.0]}
    tensors = [
        checkpoint.Tensor(name, "F32", (1,), (np.array(data, dtype=np.float32).tobytes(),))
        for name, data in content.items()
    ]
    about = checkpoint.ManifestFields(
        name="digits", run_id="r1", step=step, order=order, config=config, position=position or {}
    )
    return Path(checkpoint.write(root, tensors, about).path)


def _values(source: sources.Source) -> dict[str, float]:
    content = memoryview(b"".join(bytes(block) for block in source.weights.blocks()))
    return {name: float(np.frombuffer(one.data, np.float32)[0]) for name, one in parse(content, "it").items()}


def test_a_checkpoint_gives_the_modules_tensors_under_the_modules_names(tmp_path: Path) -> None:
    at = _written(tmp_path, 7, tied={"b": "a"})
    for path in (at, at / "state.safetensors", tmp_path):
        assert _values(sources.read(path)) == {"a": 1.0, "b": 1.0, "n": 7.0}


def test_of_a_folder_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        last = _written(tmp_path / "run" / "checkpoints", step)
    state = bytearray((last / "state.safetensors").read_bytes())
    state[-1] ^= 1
    (last / "state.safetensors").write_bytes(state)
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        assert sources.read(path).lineage.step == 20
    with pytest.raises(SpringtideError, match=r"is whole: .* was changed after it was written"):
        sources.read(last)


def test_lineage_and_metrics_come_from_the_manifest(tmp_path: Path) -> None:
    position = {"record": {"recent": [{"step": 7, "metrics": {"accuracy": 0.5, "loss": 1}}]}}
    at = _written(tmp_path, 7, position=position)
    found = sources.read(at)
    assert found.lineage == Lineage(job="digits", run_id="r1", step=7, data_fingerprint="f00d", source=str(at))
    assert found.metrics == {"accuracy": 0.5, "loss": 1.0}


def test_a_run_on_a_stream_brings_how_far_it_had_read(tmp_path: Path) -> None:
    at = _written(tmp_path, 7, position={"offsets": {"0": 40, "1": 38}})
    assert sources.read(at).lineage.offsets == {"stream": {"0": 40, "1": 38}}
    at = _written(tmp_path, 8, position={"offsets": {"0": 50}}, stream="log:///records")
    assert sources.read(at).lineage.offsets == {"log:///records": {"0": 50}}


def test_checkpoints_may_lie_behind_a_url() -> None:
    order = checkpoint.Order(fingerprint="f00d", seed=0, batch_size=4, microbatches=2)
    about = checkpoint.ManifestFields(name="far", run_id="r1", step=3, order=order)
    tensor = checkpoint.Tensor("model.a", "F32", (1,), (np.array([4], dtype=np.float32).tobytes(),))
    written = checkpoint.write("memory://registry-sources", [tensor], about)
    found = sources.read("memory://registry-sources")
    assert _values(found) == {"a": 4.0} and found.lineage.source == written.path


def test_a_safetensors_file_keeps_its_names(tmp_path: Path) -> None:
    path = weights(tmp_path / "w.safetensors", model__a=[1.0], model__b=[2.0])
    assert _values(sources.read(path)) == {"model.a": 1.0, "model.b": 2.0}
    assert sources.read(path).lineage == Lineage(source=str(path))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no .*; name a .safetensors file, a checkpoint, or the folder of a run"),
        (lambda path: path.mkdir(), "holds no checkpoint; name a"),
        (lambda path: path.write_bytes(b"no"), "is not a safetensors file: .*; name a"),
        (lambda path: path.write_bytes(b"\x80\x04" + b"pickle" * 100), "is torn: .*; name a"),
        (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"), "holds no weights of a model"),
    ],
)
def test_what_is_no_source_is_a_sentence(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path / "source")
    with pytest.raises(UserError, match=sentence):
        sources.read(tmp_path / "source")
