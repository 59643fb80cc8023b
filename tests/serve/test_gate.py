"""The gate as a whole: versions are scored in processes of their own, on files and streams, and judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from a_registry import SCALE, scale, unchecked, weights, write

from springtide.serve import gate, scoring
from springtide.serve.judging import GateRule, Scores, Slice
from springtide.serve.registry import Registry
from springtide.spec.errors import SpringtideError, UserError

EVALUATES = SCALE.replace(
    "def forward",
    """def evaluate(self, records):
        print("noise on stdout")
        return {{"metrics": {{"error": sum(abs(self(r["x"]) - r["y"]) for r in records) / len(records)}}{more}}}

    def forward""",
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "models")


def _held(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def _answers(folder: Path, factor: float, count: int = 10) -> str:
    """Held-out records that a model with that factor answers right."""
    return _held(
        folder / "held.jsonl",
        *({"input": {"x": float(k)}, "correct": factor * k, "slice": ["all", "odd" if k % 2 else "even"]}
          for k in range(1, count + 1)),
    )  # fmt: skip


def test_candidate_and_production_are_scored_and_the_verdict_is_kept(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        scale(registry, tmp_path, 2.0)
        better = scale(registry, tmp_path, 3.0)
    registry.promote("scale", 1, by="ada", force=True)
    registry.set_rule("scale", GateRule(data=_answers(tmp_path, 3.0), slices=("*",)))
    verdict = gate.decide(registry, better)
    assert verdict.passed and verdict.against == 1
    assert verdict.sentence == "accuracy is 1 on 10 records, production's is 0, and 3 slices do not fall"
    assert verdict.candidate.slices["odd"] == Slice({"accuracy": 1.0}, 5)
    assert [one for _, one in registry.verdicts("scale", 2)] == [verdict]
    assert registry.promote("scale", 2, by="ada").why == verdict.sentence


@pytest.mark.slow
def test_a_modules_own_evaluate_goes_before_right_answers_and_a_scorer_before_that(
    registry: Registry, tmp_path: Path
) -> None:
    write(tmp_path, scale_model=EVALUATES.format(more=', "count": 2, "slices": {}'))
    with unchecked():
        made = registry.add(
            "scale", weights(tmp_path / "w.safetensors", scale=2.0), build="scale_model:build", code_from=tmp_path
        )
    data = _held(tmp_path / "held.jsonl", {"x": 1.0, "y": 2.0}, {"x": 2.0, "y": 6.0})
    assert gate.evaluate(made, GateRule(data=data)) == Scores({"error": 1.0}, 2)
    write(tmp_path, mine="def score(module, records):\n    return {'factor': module(1.0), 'n': len(records)}\n")
    scored = gate.evaluate(made, GateRule(data=data, scorer="mine:score"), code_from=tmp_path)
    assert scored == Scores({"factor": 2.0, "n": 2.0}, 2)


def test_the_process_prints_scores_for_whoever_calls_it(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        made = scale(registry, tmp_path, 3.0)
    command = [sys.executable, "-m", "springtide.serve.gate"]
    environment = os.environ | {"TIDE_HOME": str(tmp_path)}
    words = ["scale", "1", "--data", _answers(tmp_path, 3.0)]
    said = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["metrics"] == {"accuracy": 1.0}
    words = ["--folder", str(made.path), "--data", str(tmp_path / "none.jsonl")]
    said = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and said.stdout == ""
    assert said.stderr.startswith("gate: the gate data ") and said.stderr.endswith(
        "cannot be read: no such file or directory\n"
    )


@pytest.mark.parametrize(
    ("evaluates", "records", "error", "sentence"),
    [
        ("{'metrics': {}}", [], UserError, "holds no records, so there is nothing to judge by"),
        ("1 / 0", [{}], UserError, r"version 1 of scale cannot be evaluated: scale_model\.py:\d+: ZeroDivisionError"),
        ("os.kill(os.getpid(), 9)", [{}], SpringtideError, "version 1 of scale was killed by SIGKILL"),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence(
    registry: Registry, tmp_path: Path, evaluates: str, records: list[Any], error: type[SpringtideError], sentence: str
) -> None:
    write(tmp_path, scale_model=SCALE + f"\nimport os\nScale.evaluate = lambda self, records: {evaluates}\n")
    file = weights(tmp_path / "w.safetensors", scale=1.0)
    with unchecked():
        made = registry.add("scale", file, build="scale_model:build", code_from=tmp_path)
    with pytest.raises(error, match=sentence):
        gate.evaluate(made, GateRule(data=_held(tmp_path / "held.jsonl", *records)))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (3, "returned int; return a dict of metrics"),
        ({"a": "b"}, "metrics that are no numbers"),
        ({"metrics": [1]}, "metrics that are no numbers"),
        ({"metrics": {}, "count": -1}, "returned -1 as its count"),
        ({"metrics": {}, "count": 1.5}, r"returned 1\.5 as its count"),
        ({"metrics": {}, "slices": ["de"]}, "slices is list; return a dict"),
        ({"metrics": {}, "slices": {"de": {"metrics": {}}}}, "the slice 'de' needs metrics and count"),
    ],
)
def test_scores_that_are_none_are_a_sentence(said: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=f"mine:score.*{sentence}"):
        scoring.read(said, 1, "mine:score")


def test_records_that_are_none_are_named_by_their_line(tmp_path: Path) -> None:
    for content, sentence in (("3\n", ":1 is no JSON object"), ('{"a": 1}\n\n{"a"\n', ":3 is no JSON")):
        (tmp_path / "held.jsonl").write_text(content)
        with pytest.raises(UserError, match=rf"held\.jsonl{sentence}"):
            gate.records_of(str(tmp_path / "held.jsonl"))
    with pytest.raises(UserError, match="no record has both input and correct"):
        scoring.right_answers(torch.nn.Identity(), [{"a": 1}])


def test_an_evaluation_that_does_not_end_is_given_up(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, scale_model=SCALE + "\nimport time\nScale.evaluate = lambda self, records: time.sleep(600)\n")
    file = weights(tmp_path / "w.safetensors", scale=1.0)
    with unchecked():
        made = registry.add("scale", file, build="scale_model:build", code_from=tmp_path)
    with pytest.raises(UserError, match=r"took more than 0\.2 s"):
        gate.evaluate(made, GateRule(data=_answers(tmp_path, 1.0)), evaluation_s=0.2)


def test_a_gate_without_data_is_a_sentence(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        made = scale(registry, tmp_path, 3.0)
    with pytest.raises(UserError, match="there is no gate data for scale: give --data FILE, or a rule that names it"):
        gate.decide(registry, made)


def test_held_out_records_come_from_a_stream_too(tmp_path: Path) -> None:
    from springtide.data.streams import open_stream

    url = f"log://{tmp_path}/held"
    stream = open_stream(url, create=True, partitions=2)
    records = [{"input": k, "correct": k} for k in range(2500)]
    for partition in range(2):
        stream.append([json.dumps(record).encode() for record in records[partition::2]], partition=partition)
    stream.close()
    assert sorted(gate.records_of(url), key=lambda record: record["input"]) == records


def test_the_plain_answer_goes_through_the_models_own_words() -> None:
    class Words(torch.nn.Module):
        def preprocess(self, body: str) -> dict[str, torch.Tensor]:
            return {"x": torch.tensor([float(ord(letter)) for letter in body])}

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            assert x.shape[0] == 1
            return {"y": x + 1}

        def postprocess(self, output: dict[str, torch.Tensor]) -> str:
            return "".join(chr(int(value)) for value in output["y"])

    records = [{"input": "HAL", "correct": "IBM"}, {"input": "a", "correct": "c", "slice": "short"}, {"input": "no"}]
    assert scoring.scores(Words(), records, None, "it") == Scores(
        {"accuracy": 0.5}, 2, {"short": Slice({"accuracy": 0.0}, 1)}
    )
