"""Evaluations: exact means over held-out samples, the best model kept, early stopping, hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.utils.data import TensorDataset

from springtide import train
from springtide.spec import UserError
from springtide.train import evaluation
from training import assert_same_state, cross_entropy, elastic, forget, mlp, points


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    out = model(x)
    return {"loss": F.cross_entropy(out, y), "accuracy": (out.argmax(1) == y).double().mean()}


def held_out(count: int = 70) -> TensorDataset:
    return points(count, seed=77)


def script(plan: train.Evaluate, model: nn.Module | None = None, **given: Any) -> tuple[nn.Module, train.Run]:
    forget()
    model = model or mlp()
    given = {"steps": 8, "microbatches": 2, "evaluate": plan} | given
    run = train.Run(model, optim.Adam(model.parameters(), 0.05), points(), 24, **given)
    return model, run


def loop(model: nn.Module, run: train.Run) -> None:
    for batch in run:
        run.backward(cross_entropy(model, batch))


def whole(model: nn.Module, data: TensorDataset) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        found = {name: float(value) for name, value in accuracy(model, *data.tensors).items()}
    model.train()
    return found


@pytest.mark.parametrize("batch_size", [None, 1, 7, 70, 1000])
def test_metrics_are_means_over_all_held_out_samples(batch_size: int | None) -> None:
    """70 samples do not divide into batches of 24: the short one counts for what it holds."""
    data = held_out()
    model, run = script(train.Evaluate(data, accuracy, every=4, batch_size=batch_size))
    loop(model, run)
    assert run.metrics == pytest.approx(whole(model, data), rel=1e-6)
    assert run.metrics["accuracy"] * 70 == pytest.approx(round(run.metrics["accuracy"] * 70), abs=1e-9)


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [("epoch", 10, [4, 8, 10]), (3, 8, [3, 6, 8]), ("end", 5, [5]), (1, 3, [1, 2, 3]), (100, 3, [3])],
)
def test_when_evaluations_are_made(every: Any, steps: int, expected: list[int]) -> None:
    model, run = script(train.Evaluate(held_out(), accuracy, every=every), steps=steps)
    seen: list[int] = []
    run.on_evaluate(lambda metrics: seen.append(run.step))
    loop(model, run)
    assert seen == expected


def test_hooks_are_called_once_and_see_the_model_as_the_step_left_it() -> None:
    model, run = script(train.Evaluate(held_out(), accuracy, every=2), steps=4)
    told: list[tuple[str, int, Any]] = []
    states = {}

    def on_step() -> None:
        states[run.step] = {name: value.clone() for name, value in model.state_dict().items()}
        told.append(("step", run.step, model.training))

    def on_evaluate(metrics: dict[str, float]) -> None:
        told.append(("evaluate", run.step, metrics == pytest.approx(whole(model, held_out()), rel=1e-6)))
        model.eval()  # what a hook leaves behind does not reach the loop

    run.on_step(on_step)
    run.on_evaluate(on_evaluate)
    for batch in run:
        assert model.training
        run.backward(cross_entropy(model, batch))
    assert told == [
        ("step", 1, True), ("step", 2, True), ("evaluate", 2, True), ("step", 3, True), ("step", 4, True),
        ("evaluate", 4, True),
    ]  # fmt: skip
    for steps in (1, 2, 3):
        other, run = script(train.Evaluate(held_out(), accuracy, every=2), steps=steps)
        loop(other, run)
        assert_same_state(states[steps], other.state_dict())


def test_a_hook_leaves_no_gradients_behind_and_must_not_write_parameters() -> None:
    model, run = script(train.Evaluate(held_out(), accuracy), steps=4)
    run.on_step(lambda: model(points().tensors[0]).sum().backward())
    loop(model, run)
    undisturbed, run = script(train.Evaluate(held_out(), accuracy), steps=4)
    loop(undisturbed, run)
    assert_same_state(model.state_dict(), undisturbed.state_dict())
    model, run = script(train.Evaluate(held_out(), accuracy), steps=4)

    def clamp() -> None:
        with torch.no_grad():
            model[0].weight.clamp_(-0.1, 0.1)

    run.on_step(clamp)
    with pytest.raises(UserError, match=r"parameter '0\.weight' was written in the loop body or a hook"):
        loop(model, run)


def test_an_evaluation_changes_nothing() -> None:
    """Dropout, batch normalisation and random numbers in it stay apart from training."""

    def noisy(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
        assert not model.training
        assert not torch.is_grad_enabled()
        model.train()
        model(x + torch.rand(1))
        model.eval()
        return accuracy(model, x, y)

    def trained(plan: train.Evaluate | None) -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))
        elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=6, evaluate=plan)
        return model.state_dict()

    assert_same_state(trained(train.Evaluate(held_out(), noisy, every=1)), trained(None))


def test_one_parameter_of_a_batch_and_dictionaries_reach_the_function_as_the_loop_gets_them() -> None:
    seen = []

    def look(model: nn.Module, batch: Any) -> dict[str, float]:
        seen.append(batch)
        return {"mean": 1.0}

    forget()
    model = nn.Linear(4, 1)
    data = [{"x": torch.ones(4) * k} for k in range(10)]
    run = train.Run(
        model, optim.SGD(model.parameters(), 0.1), data, 5, steps=1, evaluate=train.Evaluate(data, look, every="end")
    )
    for batch in run:
        run.backward(model(batch["x"]).mean())
    assert [list(batch) for batch in seen] == [["x"], ["x"]]


# --- the best, and the end


class Scripted(nn.Module):
    """Its score after step s is scores[s]; its weight counts the steps."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores, self.weight = scores, nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return -self.weight


def scripted(scores: list[float], **plan: Any) -> tuple[Scripted, train.Run]:
    forget()
    model = Scripted([0.0, *scores])

    def score(model: Scripted, x: Tensor, y: Tensor) -> dict[str, float]:
        return {"score": model.scores[round(float(model.weight))], "other": 1.0}

    run = train.Run(
        model, optim.SGD([model.weight], 1.0), points(), 24, steps=len(scores), microbatches=2,
        evaluate=train.Evaluate(held_out(), score, every=1, best="score", **plan),
    )  # fmt: skip
    for x, _ in run:
        run.backward(model(x))
    return model, run


def test_the_best_model_is_kept_and_loaded() -> None:
    model, run = scripted([0.1, 0.7, 0.9, 0.4, 0.9])
    assert model.weight.item() == 5.0
    run.load_best()
    assert model.weight.item() == 3.0  # the first of equals
    assert int(model.steps) == 3
    assert model.frozen.tolist() == [1.0] * 3


def test_lower_may_be_better() -> None:
    model, run = scripted([0.5, 0.2, 0.3, float("nan")], highest=False)
    run.load_best()
    assert model.weight.item() == 2.0


@pytest.mark.parametrize(("patience", "ends"), [(1, 4), (2, 5), (3, 8), (9, 8)])
def test_patience_ends_the_run(patience: int, ends: int) -> None:
    model, run = scripted([0.1, 0.2, 0.8, 0.4, 0.3, 0.9, 0.2, 0.1], patience=patience)
    assert model.weight.item() == ends
    assert run.finished
    run.load_best()
    assert model.weight.item() == (6.0 if ends == 8 else 3.0)


def test_without_a_best_there_is_nothing_to_load() -> None:
    model, run = script(train.Evaluate(held_out(), accuracy))
    loop(model, run)
    with pytest.raises(UserError, match=r"run\.load_best\(\) needs evaluate=train\.Evaluate\(\.\.\., best="):
        run.load_best()
    model, run = scripted([float("nan")] * 2)
    with pytest.raises(UserError, match=r"run\.load_best\(\) found no evaluation"):
        run.load_best()
    assert model.weight.item() == 2.0


# --- bad input

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"function": 3}, r"Evaluate\(function=\.\.\.\) must be callable"),
    ({"dataset": []}, r"Evaluate\(dataset=\.\.\.\) is empty or has no length"),
    ({"dataset": iter([1])}, r"Evaluate\(dataset=\.\.\.\) is empty or has no length"),
    ({"every": 0}, r"Evaluate\(every=0\): give 'epoch', 'end' or a number of steps"),
    ({"every": "day"}, r"Evaluate\(every='day'\): give"),
    ({"every": 2.5}, r"Evaluate\(every=2\.5\): give"),
    ({"every": True}, r"Evaluate\(every=True\): give"),
    ({"patience": 2}, r"Evaluate\(patience=2\) needs best="),
    ({"patience": 0, "best": "loss"}, r"Evaluate\(patience=0\) needs best="),
    ({"patience": "2", "best": "loss"}, r"Evaluate\(patience='2'\) needs best="),
    ({"batch_size": 0}, r"Evaluate\(batch_size=0\): give a whole number above 0"),
    ({"batch_size": "8"}, r"Evaluate\(batch_size='8'\): give a whole number above 0"),
    ({"best": 3}, r"Evaluate\(best=3\): give the name of a metric"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_wrong_plans_get_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        train.Evaluate(**{"dataset": held_out(), "function": accuracy} | change)


RESULTS: list[tuple[Any, str]] = [
    (lambda n: None, r"Evaluate's function returned NoneType; return a dict"),
    (lambda n: {}, r"Evaluate's function returned dict; return a dict"),
    (lambda n: {"a": torch.ones(3)}, r"metric 'a' is Tensor; return one number"),
    (lambda n: {"a": "good"}, r"metric 'a' is str; return one number"),
    (lambda n: {"a" if n == 24 else "b": 1.0}, r"Evaluate's function returned b for one batch and a for another"),
    (lambda n: {f"metric {k}": k / 7 for k in range(100)}, r"Evaluate's function returned 100 metrics"),
]


@pytest.mark.parametrize(("result", "sentence"), RESULTS)
def test_wrong_results_get_one_sentence(result: Any, sentence: str) -> None:
    model, run = script(train.Evaluate(held_out(), lambda model, x, y: result(len(x)), every=1))
    with pytest.raises(UserError, match=sentence):
        loop(model, run)


def test_a_best_that_is_no_metric_names_those_that_are() -> None:
    model, run = script(train.Evaluate(held_out(), accuracy, every=1, best="f1"))
    with pytest.raises(UserError, match=r"Evaluate\(best='f1'\): the function returned loss, accuracy"):
        loop(model, run)


def test_twenty_metrics_fit_however_many_evaluations_there_are() -> None:
    names = [f"recall of class {k}" for k in range(20)]
    model, run = script(train.Evaluate(held_out(), lambda m, x, y: dict.fromkeys(names, 1 / 3), every=1), steps=20)
    loop(model, run)
    assert list(run.metrics) == names


def test_a_judgement_is_a_function_of_the_record_before_it() -> None:
    plan = train.Evaluate(held_out(), accuracy, best="loss", highest=False, patience=2)
    record: dict[str, Any] = {}
    for step, loss in enumerate([0.5, 0.4, 0.6, 0.4], start=1):
        record = evaluation.judge(record, plan, {"loss": loss}, step)
    assert record["best"] == {"step": 2, "value": 0.4, "metrics": {"loss": 0.4}}
    assert (record["since"], record["stop"]) == (2, True)
    assert [(entry["step"], entry["best"]) for entry in record["recent"]] == [
        (1, True),
        (2, True),
        (3, False),
        (4, False),
    ]
