"""What scripts do by mistake, or out of habit: it does what one expects, or gets one sentence."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from springtide import train
from springtide.spec import UserError
from training import assert_same_state, cross_entropy, elastic, forget, mlp, points


def script(**given: Any) -> tuple[nn.Module, optim.Optimizer, train.Run]:
    forget()
    model = mlp()
    optimizer = optim.Adam(model.parameters(), 0.01)
    return model, optimizer, train.Run(model, optimizer, points(), 24, **{"steps": 4, "microbatches": 2} | given)


def learnt(body: Callable[[nn.Module, optim.Optimizer, train.Run, Any], object], **given: Any) -> nn.Module:
    model, optimizer, run = script(**given)
    for batch in run:
        body(model, optimizer, run, batch)
    return model


def ordinary(model: nn.Module, optimizer: optim.Optimizer, run: train.Run, batch: Any) -> None:
    run.backward(cross_entropy(model, batch))


# --- wrong arguments


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(torch.zeros(20))

    def __len__(self) -> int:
        return 100


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(3))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no module": ({"model": lambda x: x}, r"model is function; give a torch\.nn\.Module"),
    "a class": ({"model": nn.Linear}, r"model is the class Linear"),
    "lazy": ({"model": lazy()}, r"'0\.weight' of the model has no shape yet"),
    "meta": ({"model": nn.Linear(2, 2, device="meta")}, r"parameter 'weight' is on meta"),
    "no optimizer": ({"optimizer": 0.1}, r"optimizer is float; give a torch\.optim optimizer"),
    "no data": ({"dataset": 5}, r"dataset is int; give a map-style Dataset"),
    "loader": ({"dataset": DataLoader(points())}, r"dataset is a DataLoader; give the Dataset itself"),
    "iterable": ({"dataset": Endless()}, r"dataset is Endless; give a map-style Dataset"),
    "path": ({"dataset": "train.csv"}, r"dataset is str; give a map-style Dataset"),
    "empty": ({"dataset": TensorDataset(torch.empty(0, 20))}, r"the dataset is empty"),
    "too short": ({"batch_size": 97}, r"96 samples, fewer than one batch of 97; give batch_size=96 or less"),
    "batch of none": ({"batch_size": 0}, r"batch_size=0; give a whole number above 0"),
    "batch of a fraction": ({"batch_size": 24.0}, r"batch_size=24\.0; give a whole number"),
    "batch of a flag": ({"batch_size": True}, r"batch_size=True; give a whole number"),
    "microbatches that do not divide": (
        {"microbatches": 5}, r"batch_size=24 cannot be cut into 5 equal microbatches; 4 would do"
    ),
    "microbatches of none": ({"microbatches": 0}, r"microbatches=0; give a whole number above 0"),
    "microbatches in words": ({"microbatches": "2"}, r"microbatches='2'; give a whole number above 0"),
    "no end": ({"steps": None}, r"give either epochs= or steps="),
    "two ends": ({"epochs": 2}, r"give either epochs= or steps="),
    "no step": ({"steps": 0}, r"steps=0; give a whole number above 0"),
    "half a step": ({"steps": 1.5}, r"steps=1\.5; give a whole number above 0"),
    "no epoch": ({"steps": None, "epochs": 0}, r"epochs=0; give a number above 0"),
    "endless epochs": ({"steps": None, "epochs": float("inf")}, r"epochs=inf; give a number above 0"),
    "epochs in words": ({"steps": None, "epochs": "3"}, r"epochs='3'; give a number above 0"),
    "seed": ({"seed": 0.5}, r"seed=0\.5; give a whole number$"),
    "no seed": ({"seed": None}, r"seed=None; give a whole number$"),
    "exact": ({"exact": "no"}, r"exact='no'; write True or False"),
    "skipping": ({"skip_nonfinite": 1}, r"skip_nonfinite=1; write True or False"),
    "clipping to nothing": ({"clip_norm": 0}, r"clip_norm=0; give a number above 0"),
    "clipping in words": ({"clip_norm": "1"}, r"clip_norm='1'; give a number above 0"),
    "clipping to nan": ({"clip_norm": float("nan")}, r"clip_norm=nan; give a number above 0"),
    "precision": ({"precision": "float16"}, r"precision='float16'; write 'float32' or 'bfloat16'"),
    "precision as dtype": ({"precision": torch.bfloat16}, r"precision=torch\.bfloat16; write"),
    "evaluate": ({"evaluate": len}, r"evaluate is builtin_function_or_method; give train\.Evaluate"),
    "collate": ({"collate": 3}, r"collate is int; give a function"),
    "sample of nothing": ({"sample": 0}, r"sample=0; give a fraction of the data"),
    "sample of percents": ({"sample": "1%"}, r"sample='1%'; give a fraction of the data"),
    "sample of too much": ({"sample": 1.5}, r"sample=1\.5; give a fraction of the data"),
    "sample below a batch": ({"sample": 0.1}, r"10 of the dataset's 96 samples, fewer than one batch of 24"),
    "loading": ({"loading": 2}, r"loading=2; write 'auto'"),
    "loading unknown": ({"loading": "processes"}, r'loading="processes" is not a way to load'),
    "device": ({"device": "tpu"}, r"device='tpu'; write 'cpu', 'cuda' or 'cuda:0'"),
    "threads": ({"threads": 0}, r"threads=0; give a whole number above 0"),
    "threads in words": ({"threads": "2"}, r"threads='2'; give a whole number above 0"),
    "hang timeout": ({"hang_timeout_seconds": -1}, r"hang_timeout_seconds=-1; give a number above 0"),
    "schedule": ({"schedule": 0.1}, r"schedule is float; give a function of the step"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_argument_gets_one_sentence(name: str) -> None:
    change, sentence = WRONG[name]
    model = mlp()
    given: dict[str, Any] = {"model": model, "dataset": points(), "batch_size": 24, "steps": 2} | change
    held = [*given["model"].parameters()] if isinstance(given["model"], nn.Module) else [*model.parameters()]
    given.setdefault("optimizer", optim.SGD(held, 0.1))
    with pytest.raises(UserError, match=sentence) as told:
        train.Run(**given)
    assert "\n" not in str(told.value)
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=1)  # what failed is not there
    assert run.steps == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="device='cuda:0', but torch sees no GPU here; write device='cpu'"):
        script(device=torch.device("cuda:0"))


def test_numbers_of_numpy_and_devices_of_torch_are_taken() -> None:
    import numpy as np

    model = mlp()
    run = train.Run(
        model, optim.SGD(model.parameters(), 0.1), points(), np.int64(24), steps=np.int32(2), clip_norm=np.float32(1.0),
        seed=np.int64(3), device=torch.device("cpu"), sample=np.float64(0.5),
    )  # fmt: skip
    for batch in run:
        run.backward(cross_entropy(model, batch))
    assert run.steps == 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: optim.LBFGS(p), r"optimizer LBFGS cannot train elastically: .*; use AdamW or SGD"),
        (lambda p: optim.SparseAdam(p), r"optimizer SparseAdam cannot train elastically: .*; use Adam"),
        (lambda p: optim.SGD([torch.nn.Parameter(torch.zeros(2))], 0.1), r"holds none of the model's parameters"),
        (lambda p: Closed(p), r"optimizer Closed cannot be run one parameter at a time"),
        (lambda p: Counted(p), r"optimizer Counted keeps 'k' of its own in the parameter groups"),
        (lambda p: Listed(p), r"optimizer state 'history' is a list; only tensors and numbers can be kept"),
        (lambda p: Growing(p), r"optimizer Growing keeps other state than its first step showed"),
    ],
)
def test_optimizers_that_cannot_be_cut_get_a_sentence(make: Callable[[Any], optim.Optimizer], sentence: str) -> None:
    model = mlp()
    with pytest.raises(UserError, match=sentence):
        elastic(model, make(list(model.parameters())), points(), steps=4)


class Closed(optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return closure()


class Counted(Closed):
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1


class Listed(Closed):
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["history"] = [p.grad]


class Growing(Closed):
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "first" in state:
                    state["second"] = torch.zeros_like(p)
                state["first"] = torch.zeros_like(p)


# --- habits of the loop


HABITS: dict[str, Callable[[nn.Module, optim.Optimizer, train.Run, Any], object]] = {
    "loss.backward()": lambda model, optimizer, run, batch: cross_entropy(model, batch).backward(),
    "zero_grad before": lambda model, optimizer, run, batch: (
        optimizer.zero_grad(), ordinary(model, optimizer, run, batch)
    ),
    "zero_grad after": lambda model, optimizer, run, batch: (
        ordinary(model, optimizer, run, batch), optimizer.zero_grad()
    ),
    "zero_grad of zeros": lambda model, optimizer, run, batch: (
        ordinary(model, optimizer, run, batch), optimizer.zero_grad(set_to_none=False)
    ),
    "model.zero_grad": lambda model, optimizer, run, batch: (model.zero_grad(), ordinary(model, optimizer, run, batch)),
    "model.train": lambda model, optimizer, run, batch: (model.train(), ordinary(model, optimizer, run, batch)),
    "saving": lambda model, optimizer, run, batch: (
        ordinary(model, optimizer, run, batch), model.state_dict(), optimizer.state_dict()
    ),
    "looking at the loss": lambda model, optimizer, run, batch: run.backward(
        (loss := cross_entropy(model, batch)) + 0 * loss.item()
    ),
    "a shape of one": lambda model, optimizer, run, batch: run.backward(cross_entropy(model, batch).reshape(1)),
}  # fmt: skip


@pytest.mark.parametrize("habit", HABITS)
def test_habits_of_the_loop_change_nothing(habit: str) -> None:
    assert_same_state(learnt(HABITS[habit]).state_dict(), learnt(ordinary).state_dict())


def test_continue_leaves_a_microbatch_out_of_the_gradient_but_counts_it(capsys: pytest.CaptureFixture[str]) -> None:
    model, _, run = script()
    for batch in run:
        if run.microbatch == 1:
            continue
        run.backward(cross_entropy(model, batch))
    assert run._worker.arena.position(run._worker.reached[1])["samples"] == 96  # type: ignore[union-attr]
    half = learnt(lambda model, _, run, batch: run.backward(cross_entropy(model, batch) * (run.microbatch == 0)))
    for mine, other in zip(model.parameters(), half.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert capsys.readouterr().err.count("called no backward") == 1


def test_a_loop_that_never_calls_backward_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = learnt(lambda *_: None)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("tide: the loop body called no backward")
    assert_same_state(model.state_dict(), mlp().state_dict())


def wrapped(source: Iterable[Any]) -> Iterator[Any]:
    """As a progress bar does."""
    try:
        yield from ([one][0] for one in source)
    finally:
        pass


WAYS: dict[str, Callable[[train.Run], Iterable[Any]]] = {
    "plain": lambda run: run,
    "enumerate": lambda run: (batch for _, batch in enumerate(run)),
    "progress bar": wrapped,
    "two of them": lambda run: wrapped(wrapped(run)),
    "zip": lambda run: (batch for _, batch in zip(range(5), run, strict=False)),
    "islice": lambda run: itertools.islice(run, 5),
}


@pytest.mark.parametrize("way", WAYS)
def test_break_ends_the_run_with_the_last_committed_step(way: str) -> None:
    model, optimizer, run = script(steps=9)
    for batch in WAYS[way](run):
        run.backward(cross_entropy(model, batch))
        if run.step == 3:
            break
    assert run.finished
    assert_same_state(model.state_dict(), learnt(ordinary, steps=2).state_dict())
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


@pytest.mark.parametrize("way", ["plain", "progress bar", "two of them"])
def test_an_exception_does_not_end_the_run_for_others(way: str) -> None:
    model, _, run = script()
    with pytest.raises(ZeroDivisionError):
        for batch in WAYS[way](run):
            run.backward(cross_entropy(model, batch))
            if run.step == 3:
                1 / 0  # noqa: B018
    assert not run.finished
    assert not run._worker.drained  # type: ignore[union-attr]
    assert run.where()["step"] == 3
    assert run.where()["samples"] == run.order.indices(3, 0).tolist()


def test_return_out_of_a_function_is_a_break() -> None:
    def body() -> train.Run:
        model, _, run = script()
        for batch in run:
            run.backward(cross_entropy(model, batch))
            if run.step == 2:
                return run
        raise AssertionError

    assert body().finished


SENTENCES: dict[str, tuple[Callable[[nn.Module, optim.Optimizer, train.Run, Any], object], str]] = {
    "own step": (
        lambda model, optimizer, run, batch: optimizer.step(),
        r"test_run_misuse\.py:\d+: the run calls optimizer\.step\(\) itself",
    ),
    "add_param_group": (
        lambda model, optimizer, run, batch: optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]}),
        r"test_run_misuse\.py:\d+: add_param_group while the run goes on",
    ),
    "load_state_dict": (
        lambda model, optimizer, run, batch: optimizer.load_state_dict(optimizer.state_dict()),
        r"test_run_misuse\.py:\d+: optimizer\.load_state_dict while the run goes on",
    ),
    "second iteration": (lambda model, optimizer, run, batch: next(iter(run)), r"this Run was iterated already"),
    "second run": (
        lambda model, optimizer, run, batch: train.Run(model, optimizer, points(), 24, steps=1),
        r"this script makes a second Run",
    ),
    "no scalar": (
        lambda model, optimizer, run, batch: run.backward(model(batch[0])),
        r"run\.backward got a tensor of shape \(12, 3\); give the microbatch's mean loss",
    ),
    "no tensor": (lambda model, optimizer, run, batch: run.backward(0.5), r"run\.backward got float; give"),
    "detached": (
        lambda model, optimizer, run, batch: run.backward(cross_entropy(model, batch).detach()),
        r"run\.backward got a loss without a gradient",
    ),
    "no weight": (
        lambda model, optimizer, run, batch: run.backward(cross_entropy(model, batch), weight=0),
        r"run\.backward\(weight=0\): a weight is the count",
    ),
    "weight in words": (
        lambda model, optimizer, run, batch: run.backward(cross_entropy(model, batch), weight="many"),
        r"run\.backward\(weight='many'\): a weight is the count",
    ),
    "two weights": (
        lambda model, optimizer, run, batch: [run.backward(cross_entropy(model, batch), weight=w) for w in (2, 3)],
        r"backward\(weight=3\) after weight=2\.0 in one microbatch",
    ),
    "writing a parameter": (
        lambda model, optimizer, run, batch: nn.init.zeros_(model[0].weight),
        r"parameter '0\.weight' was written in the loop body or a hook",
    ),
    "best in the loop": (
        lambda model, optimizer, run, batch: run.load_best(), r"run\.load_best\(\) belongs after the loop"
    ),
    "own decay": (
        lambda model, optimizer, run, batch: optimizer.param_groups[0].update(weight_decay=0.5),
        r"the optimizer's weight_decay was changed in the loop",
    ),
    "own rate": (
        lambda model, optimizer, run, batch: optimizer.param_groups[0].update(lr=0.5),
        r"the learning rate was changed in the loop.*schedule=",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_meant_gets_one_sentence(name: str) -> None:
    body, sentence = SENTENCES[name]
    with pytest.raises(UserError, match=sentence) as told:
        learnt(body)
    assert "\n" not in str(told.value)


def test_a_scheduler_of_the_loops_own_is_refused() -> None:
    forget()
    model = mlp()
    optimizer = optim.SGD(model.parameters(), 0.1)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    run = train.Run(model, optimizer, points(), 24, steps=4)
    with pytest.raises(UserError, match=r"the learning rate was changed in the loop.*or the scheduler"):
        for batch in run:
            run.backward(cross_entropy(model, batch))
            scheduler.step()


def test_embeddings_that_write_their_weights_are_refused_by_name() -> None:
    words = torch.randint(0, 11, (96, 7))
    model = nn.Sequential(nn.Embedding(11, 6, max_norm=0.1), nn.Flatten(), nn.Linear(42, 11))
    with pytest.raises(UserError, match=r"parameter '0\.weight' was written in .* \(Embedding\(max_norm=\.\.\.\) does"):
        elastic(model, optim.SGD(model.parameters(), 0.1), TensorDataset(words, words[:, 0]), steps=1)


def test_backward_belongs_into_the_loop() -> None:
    model, _, run = script()
    with pytest.raises(UserError, match=r"run\.backward\(loss\) belongs into the loop"):
        run.backward(cross_entropy(model, points()[:24]))
    for batch in run:
        run.backward(cross_entropy(model, batch))
    with pytest.raises(UserError, match=r"run\.backward\(loss\) belongs into the loop"):
        run.backward(cross_entropy(model, points()[:24]))


def test_an_optimizer_is_the_users_own_again_after_the_loop() -> None:
    model, optimizer, run = script()
    for batch in run:
        run.backward(cross_entropy(model, batch))
    cross_entropy(model, points()[:24]).backward()
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)
    optimizer.zero_grad()
    assert model[0].weight.grad is None
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})


def test_the_optimizers_state_can_be_saved_in_the_loop() -> None:
    model, optimizer, run = script()
    found: list[Any] = []
    for batch in run:
        if run.step == 3 and run.microbatch == 1:
            found.append((model.state_dict(), optimizer.state_dict()))
            found[0] = ({k: v.clone() for k, v in found[0][0].items()}, found[0][1])
        run.backward(cross_entropy(model, batch))
    two, of_two, run = script(steps=2)
    for batch in run:
        run.backward(cross_entropy(two, batch))
    assert_same_state(found[0][0], two.state_dict())
    assert_same_state(found[0][1], of_two.state_dict())


def test_an_error_in_a_script_alone_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(
        "from springtide import train\n\n\n"  # no optimizer: the first one takes seconds to import what it needs
        "train.Run(len, None, [], 3, steps=1)\n"
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert done.stderr == "bad.py:4: model is builtin_function_or_method; give a torch.nn.Module\n"
    assert done.returncode == 2


def test_an_error_of_the_scripts_own_keeps_its_traceback(tmp_path: Path) -> None:
    path = tmp_path / "worse.py"
    path.write_text("from springtide import train\nprint(train.__name__)\n1 / 0\n")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1
