"""`tide model` as somebody types it: the real command, its words, its sentences, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from a_pool import APool
from tide import tide

from springtide.train import checkpoint
from springtide.train.tensors import Tensor, lay_out

SCALE = """
import torch

class Scale(torch.nn.Module):
    def __init__(self, start):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(float(start)))

    def forward(self, x):
        return self.scale * x


def build(start=1.0):
    return Scale(start)
"""
Model = Callable[..., "CompletedProcess[str]"]


def _tensor(name: str, value: float) -> Tensor:
    return Tensor(name, "F32", (), (np.float32(value).tobytes(),))


def _weights(path: Path, value: float) -> Path:
    path.write_bytes(b"".join(bytes(block) for block in lay_out([_tensor("scale", value)]).blocks()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with three versions, in a folder with their code and held-out records that the third answers."""
    made = tmp_path_factory.mktemp("model")
    (made / "scale_model.py").write_text(SCALE)
    held = [{"input": {"x": k}, "correct": 3.0 * k, "slice": "odd" if k % 2 else "even"} for k in range(1, 9)]
    (made / "held.jsonl").write_text("".join(json.dumps(record) + "\n" for record in held))
    for value in (1, 2, 3):
        _weights(made / f"v{value}.safetensors", value)
        config = [] if value == 1 else ["--config", f"start={value}"]
        said = _model(made)("add", "scale", made / f"v{value}.safetensors", "--build", "scale_model:build", *config)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.startswith(f"scale: version {value} is registered (")
    return made


def _model(folder: Path) -> Model:
    """`tide model ...` within this process, which has imported torch; PYTHONPATH stands for the caller's folder."""
    return lambda *words: APool(folder / "home")("model", *words, PYTHONPATH=str(folder))


@pytest.fixture
def model(folder: Path) -> Model:
    return _model(folder)


def test_a_models_way_into_production_and_back(folder: Path, model: Model) -> None:
    said = tide("model", "promote", "scale", "1", home=folder / "home")
    assert (said.returncode, said.stdout) == (4, "")
    assert said.stderr == (
        "tide: version 1 of scale was not judged, and there is no gate data: give --data FILE, or a rule; "
        "--force promotes it all the same\n"
    )
    assert model("promote", "scale", "1", "--force").stdout == "scale: version 1 is production\n"
    said = model("promote", "scale", "3", "--data", folder / "held.jsonl")
    assert said.stdout == "scale: version 3 is production, version 1 is previous\n"
    said = model("promote", "scale", "2", "--data", folder / "held.jsonl")
    assert said.returncode == 4
    assert "did not pass the gate: accuracy is 0, worse than production's 1; --force" in said.stderr
    change = json.loads(model("rollback", "scale", "--json").stdout)
    assert (change["number"], change["before"], change["action"], change["servers"]) == (1, 3, "rollback", 0)
    said = model("archive", "scale", "1")
    assert said.returncode == 4 and "version 1 of scale is production; promote another one first" in said.stderr
    rows = json.loads(model("ls", "scale", "--json").stdout)
    assert [(row["number"], row["stage"]) for row in rows] == [(1, "production"), (2, "candidate"), (3, "previous")]
    (row,) = json.loads(model("--json").stdout)
    assert (row["name"], row["production"], row["previous"], row["versions"]) == ("scale", 1, 3, 3)
    page = json.loads(model("show", "scale", "3", "--json").stdout)
    assert [one["action"] for one in page["changes"]] == ["add", "promote", "rollback"]
    assert page["verdicts"][0]["candidate"]["slices"]["odd"] == {"metrics": {"accuracy": 1.0}, "count": 4}


def test_pages_fit_and_tell_all(model: Model) -> None:
    for words in (("ls",), ("ls", "scale"), ("show", "scale", "2"), ("diff", "scale", "2", "3")):
        said = model(*words)
        assert said.returncode == 0 and all(len(line) <= 100 for line in said.stdout.splitlines())
    assert "build   scale_model:build(start=2)" in model("show", "scale", "2").stdout
    said = model("diff", "scale", "2", "3").stdout
    assert said.splitlines()[0] == "config   start: 2 -> 3"
    assert "weights  1 of 1 tensors differ" in said and said.splitlines()[-1].split() == [
        "scale",
        "F32[]",
        "F32[]",
        "1",
    ]
    assert model("diff", "scale", "2", "2").stdout == "versions 2 and 2 of scale are equal\n"


def test_a_rule_is_kept_and_judges(folder: Path, model: Model) -> None:
    said = model(
        "gate", "scale", "--data", folder / "held.jsonl", "--least-count", "4", "--slice", "odd", "--bound", "0.5"
    )
    assert said.stdout == (
        "scale: accuracy (higher is better) not worse than production's, at least 0.5, also on odd, on at least 4 "
        f"records of {folder / 'held.jsonl'}\n"
    )
    rule = json.loads(model("gate", "scale", "--json").stdout)
    assert (rule["bound"], rule["slices"], rule["metric"]) == (0.5, ["odd"], "accuracy")
    said = model("gate", "scale", "2")
    assert said.returncode == 1
    assert said.stdout == "scale: version 2 does not pass: accuracy is 0, and the rule wants at least 0.5\n"
    assert model("gate", "scale", "--clear").stdout.startswith("scale: there is no rule")


@pytest.mark.slow
def test_a_checkpoint_and_a_runs_name_bring_their_lineage(folder: Path, model: Model) -> None:
    order = checkpoint.Order(fingerprint="f00d", seed=0, batch_size=4, microbatches=2)
    about = checkpoint.ManifestFields(name="count", run_id="r1", step=1200, order=order)
    checkpoint.write(folder / "home" / "runs" / "count" / "checkpoints", [_tensor("model.scale", 7.0)], about)
    said = model("add", "counted", "count", "--build", "scale_model:build", "--metrics", '{"loss": 0.25}')
    assert said.returncode == 0, said.stderr
    assert "counted: version 1 is registered" in said.stdout
    page = model("show", "counted").stdout
    assert "job     count, step 1,200, r1\ndata    f00d\n" in page and "metrics loss 0.25" in page
    again = model("add", "counted", folder / "home" / "runs" / "count", "--build", "scale_model:build")
    assert again.stdout == "counted: this is version 1 already, to the last byte (candidate)\n"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("safetensors", ()),
        ("torchscript", ()),
        pytest.param("onnx", ("--input", "x=float32[batch,3]"), marks=pytest.mark.slow),
    ],
)
def test_versions_are_written_for_other_programs(
    tmp_path: Path, model: Model, form: str, words: tuple[str, ...]
) -> None:
    import torch

    file = tmp_path / "file"
    said = model("export", "scale", "2", file, "--format", form, *words)
    assert (said.stderr, said.stdout) == ("", f"scale: version 2 is written to {file} as {form}\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]
    if form == "safetensors":
        from safetensors.torch import load_file

        assert load_file(file)["scale"].item() == 2.0
    elif form == "torchscript":
        assert torch.jit.load(file)(torch.ones(2)).tolist() == [2.0, 2.0]
    else:
        onnx = pytest.importorskip("onnx")
        loaded = onnx.load(file)
        assert [one.name for one in loaded.graph.input] == ["x"]
        assert loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("shw", "scale"), 'tide model has no command "shw"; did you mean "show"?'),
        (("ls", "sacle"), 'there is no model "sacle"; did you mean "scale"?'),
        (("show", "scale", "9"), 'scale has no version "9"; it has 1 to 3'),
        (("promote", "scale", "prodction"), 'scale has no version "prodction"'),
        (("add", "scale", "nothing", "--build", "scale_model:build"), "there is no nothing; name a .safetensors file"),
        (("add", "Bad Name", "v1.safetensors", "--build", "a:b"), "write bad-name"),
        (("add", "scale", "{folder}/v1.safetensors"), "--build is missing; write MODULE:FUNCTION"),
        (("add", "scale", "{folder}/v1.safetensors", "--build", "scale_modle:build"), 'did you mean "scale_model"?'),
        (("add", "scale", "{folder}/v1.safetensors", "--build", "scale_model:build", "--config", "start"),
         '--config: "start" says nothing; write KEY=VALUE'),
        (("add", "scale", "{folder}/v1.safetensors", "--build", "scale_model:build", "--config", "{{"),
         "--config: this is no JSON object"),
        (("add", "scale", "{folder}/v1.safetensors", "--build", "scale_model:build", "--metrics", "a=b"),
         '--metrics: a is "b", and no number'),
        (("add", "scale", "{folder}/v1.safetensors", "--build", "scale_model:build", "--config", "strat=1"),
         "does not take the config given (strat=1): got an unexpected keyword argument 'strat'"),
        (("gate", "scale", "--margin", "wide"), '--margin: "wide" is no number; write for example 0.01'),
        (("gate", "scale", "--data", "nowhere.jsonl"), "--data: there is no file nowhere.jsonl"),
        (("gate", "scale", "--better", "up"), 'better: "up" is no direction'),
        (("export", "scale", "1", "/nowhere/x"), "FILE: there is no folder /nowhere"),
        (("export", "scale", "1", "x", "--format", "onx"), '"onx"; did you mean "onnx"?'),
        (("export", "scale", "1", "x", "--format", "onnx"), "--input is missing: the inputs of version 1 of"),
        (("export", "scale", "1", "x", "--format", "onnx", "--input", "y=float32[1]"), 'no input "y"'),
        (("export", "scale", "1", "x", "--format", "onnx", "--input", "x=float31[1]"), 'no known type "float31"'),
        (("export", "scale", "1", "x", "--format", "onnx", "--input", "x"), '"x" is no input'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(folder: Path, model: Model, words: tuple[str, ...], sentence: str) -> None:
    said = model(*(word.format(folder=folder) for word in words))
    assert said.returncode == 2
    assert sentence in said.stderr and said.stderr.startswith("tide: ") and said.stderr.count("\n") == 1
    assert said.stdout == ""
