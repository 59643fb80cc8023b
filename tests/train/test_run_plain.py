"""With one microbatch a step, a run does what a plain PyTorch loop does, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import TensorDataset

from training import Body, assert_same_state, cross_entropy, elastic, mlp, plain, points

Make = Callable[[], tuple[nn.Module, Optimizer]]


def assert_like_a_plain_loop(
    make: Make, dataset: TensorDataset, body: Body = cross_entropy, *, autocast: bool = False, **given: Any
) -> nn.Module:
    given = {"steps": 5, "microbatches": 1, **given}
    model, optimizer = make()
    run = elastic(model, optimizer, dataset, body, precision="bfloat16" if autocast else "float32", **given)
    their_model, their_optimizer = make()
    plain(their_model, their_optimizer, dataset, run, body, autocast=autocast)
    assert_same_state(model.state_dict(), their_model.state_dict(), "model")
    assert_same_state(optimizer.state_dict(), their_optimizer.state_dict(), "optimizer")
    return model


# --- optimizers

# 1,700 hidden units make a tensor that is cut in two pieces and chunks that hold several tensors.
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "sgd momentum dampening": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "sgd nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "sgd maximize": lambda p: optim.SGD(p, 0.001, momentum=0.9, maximize=True),
    "sgd foreach": lambda p: optim.SGD(p, 0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "adam": lambda p: optim.Adam(p, 0.01),
    "adam amsgrad": lambda p: optim.Adam(p, 0.01, amsgrad=True, weight_decay=0.1),
    "adam foreach": lambda p: optim.Adam(p, 0.01, foreach=True, maximize=True),
    "adam fused": lambda p: optim.Adam(p, 0.01, fused=True),
    "adamw": lambda p: optim.AdamW(p, 0.01),
    "adamw fused amsgrad": lambda p: optim.AdamW(p, 0.01, fused=True, amsgrad=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.05, lr_decay=0.1, initial_accumulator_value=0.2),
    "adagrad fused": lambda p: optim.Adagrad(p, 0.05, fused=True),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01),
    "rmsprop centered momentum": lambda p: optim.RMSprop(p, 0.01, centered=True, momentum=0.5, foreach=True),
    "adadelta": lambda p: optim.Adadelta(p, 1.0),
    "adadelta foreach": lambda p: optim.Adadelta(p, 1.0, foreach=True),
    "adamax": lambda p: optim.Adamax(p, 0.01),
    "nadam": lambda p: optim.NAdam(p, 0.01, decoupled_weight_decay=True, weight_decay=0.1),
    "nadam foreach": lambda p: optim.NAdam(p, 0.01, foreach=True),
    "radam": lambda p: optim.RAdam(p, 0.01),
    "asgd": lambda p: optim.ASGD(p, 0.05, t0=2),
    "asgd foreach": lambda p: optim.ASGD(p, 0.05, t0=2, foreach=True),
    "rprop": lambda p: optim.Rprop(p, 0.01),
    "rprop foreach": lambda p: optim.Rprop(p, 0.01, foreach=True),
    "adafactor": lambda p: optim.Adafactor(p, 0.01),
    "adafactor foreach": lambda p: optim.Adafactor(p, 0.01, foreach=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_as_in_a_plain_loop(name: str) -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700)
        return model, OPTIMIZERS[name](model.parameters())

    assert_like_a_plain_loop(make, points())


@pytest.mark.skipif(not hasattr(optim, "Muon"), reason="this torch has no Muon")
def test_muon_gets_whole_matrices() -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700, bias=False)
        return model, optim.Muon(model.parameters(), 0.01)

    assert_like_a_plain_loop(make, points())


def test_groups_keep_their_own_settings() -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700)
        first, last = model[0].parameters(), model[2].parameters()
        return model, optim.AdamW([{"params": last, "lr": 0.1}, {"params": first, "weight_decay": 0.5}], lr=0.01)

    assert_like_a_plain_loop(make, points())


def test_groups_are_updated_by_any_torch_optimizer_of_a_users_own() -> None:
    class Signs(Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"pace": 0.01})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        state = self.state[p]
                        state["seen"] = state.get("seen", 0) + 1
                        state["mean"] = state.get("mean", 0.0) + p.grad.mean().item()
                        p -= group["pace"] * p.grad.sign() / state["seen"]

    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700)
        return model, Signs(model.parameters())

    assert_like_a_plain_loop(make, points())


def test_an_optimizer_goes_on_from_the_state_that_it_has() -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700)
        optimizer = optim.Adam(model.parameters(), 0.01, amsgrad=True)
        for _ in range(3):
            model(torch.ones(4, 20)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    assert_like_a_plain_loop(make, points())


def test_a_state_that_was_loaded_is_gone_on_from_even_with_holes() -> None:
    first = mlp()
    trained = optim.SGD(first.parameters(), 0.1, momentum=0.9)
    first[2].bias.requires_grad_(False)
    first(torch.ones(4, 20)).square().sum().backward()
    trained.step()
    document = trained.state_dict()
    document["state"][3] = {"momentum_buffer": None}  # as older versions of torch wrote it

    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp()
        optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
        optimizer.load_state_dict(deepcopy(document))
        return model, optimizer

    assert_like_a_plain_loop(make, points())


class Rebinding(Optimizer):
    """Momentum as many write it: the state is bound anew, not written in place."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                state["mean"] = 0.9 * state.get("mean", torch.zeros_like(p)) + p.grad
                p -= group["lr"] * state["mean"]


def test_an_optimizer_may_bind_its_state_anew() -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700)
        return model, Rebinding(model.parameters())

    assert_like_a_plain_loop(make, points(), steps=9)


# --- schedules


def factor(step: int) -> float:
    return 0.9**step if step < 3 else 0.5


def test_a_schedule_function_does_what_lambda_lr_does() -> None:
    model, optimizer = (made := mlp(hidden=1700)), optim.SGD(made.parameters(), 0.1, momentum=0.9)
    run = elastic(model, optimizer, points(), steps=6, microbatches=1, schedule=factor)
    theirs = mlp(hidden=1700)
    their_optimizer = optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    schedule = lr_scheduler.LambdaLR(their_optimizer, factor)
    plain(theirs, their_optimizer, points(), run, after=lambda step: schedule.step())
    assert_same_state(model.state_dict(), theirs.state_dict())
    assert_same_state(optimizer.state_dict()["state"], their_optimizer.state_dict()["state"])


SCHEDULERS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, factor),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.3, total_iters=2),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=4),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 7, power=2),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 5)], [3]
    ),
    "sequential of steps": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.MultiStepLR(o, [1, 3])], [2]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.3, 2), lr_scheduler.ExponentialLR(o, 0.8)], optimizer=o
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_torch_scheduler_sets_the_same_rates(name: str) -> None:
    def make() -> tuple[nn.Module, Optimizer, lr_scheduler.LRScheduler]:
        model = mlp()
        optimizer = optim.SGD(
            [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.03}], 0.1, 0.9
        )
        return model, optimizer, SCHEDULERS[name](optimizer)

    model, optimizer, schedule = make()
    run = elastic(model, optimizer, points(), steps=7, microbatches=1, schedule=schedule)
    theirs, their_optimizer, their_schedule = make()
    plain(theirs, their_optimizer, points(), run, after=lambda step: their_schedule.step())
    assert_same_state(model.state_dict(), theirs.state_dict())
    assert_same_state(optimizer.state_dict(), their_optimizer.state_dict())
    assert schedule.get_last_lr() == their_schedule.get_last_lr()
    schedule.step()
    their_schedule.step()
    assert schedule.get_last_lr() == their_schedule.get_last_lr()


# --- models


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x).mean(1))


class Sometimes(nn.Module):
    """Its second layer gets a gradient in some steps only."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.now_and_then, self.never = nn.Linear(20, 3), nn.Linear(20, 3), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.nothing = nn.Parameter(torch.empty(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (self.always(x) + (self.now_and_then(x) if x[0, 0] > 0 else 0))


class Reader(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.read, self.out = kind(5, 8, num_layers=2, batch_first=True, dropout=0.2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.read(x.view(-1, 4, 5))[0][:, -1])


class Former(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.TransformerEncoderLayer(5, 1, 16, 0.1, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.view(-1, 4, 5)).mean(1))


def spectral() -> nn.Module:
    model = mlp()
    nn.utils.parametrizations.spectral_norm(model[0])
    nn.utils.parametrizations.weight_norm(model[2])
    return model


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def partly_frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def shared_layer() -> nn.Module:
    layer = nn.Linear(20, 20)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(20, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)),
    "batch norm without average": lambda: nn.Sequential(nn.BatchNorm1d(20, momentum=None), nn.Linear(20, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(20, 16), nn.Dropout(0.5), nn.Linear(16, 3)),
    "lstm": lambda: Reader(nn.LSTM),
    "gru": lambda: Reader(nn.GRU),
    "transformer": Former,
    "parametrizations": spectral,
    "convolution": convolution,
    "sometimes without gradient": Sometimes,
    "frozen": partly_frozen,
    "shared layer": shared_layer,
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 5)),
        nn.InstanceNorm1d(4, track_running_stats=True, affine=True),
        nn.Flatten(),
        nn.Linear(20, 3),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_learns_the_same(name: str) -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        model = MODELS[name]()
        return model, optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)

    model = assert_like_a_plain_loop(make, points())
    assert model.training


def test_frozen_parameters_may_be_given_to_the_optimizer_too() -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = partly_frozen()
        return model, optim.SGD(model.parameters(), 0.1, momentum=0.9)

    assert_like_a_plain_loop(make, points())


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.Adagrad, optim.ASGD, optim.Rprop, optim.Adafactor])
def test_parameters_of_no_dimension_and_of_no_element(kind: Callable[..., Optimizer]) -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        model = Sometimes()
        return model, kind(model.parameters(), lr=0.01)

    assert_like_a_plain_loop(make, points())


def test_tied_embeddings() -> None:
    drawn = torch.Generator().manual_seed(2)
    words = torch.randint(0, 11, (96, 7), generator=drawn)

    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        return (model := Tied()), optim.Adam(model.parameters(), 0.01)

    model = assert_like_a_plain_loop(make, TensorDataset(words, words[:, 0]))
    assert model.out.weight is model.embed.weight


def test_sparse_embeddings_are_made_dense() -> None:
    words = torch.randint(0, 11, (96, 7), generator=torch.Generator().manual_seed(2))

    def make(sparse: bool) -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Embedding(11, 6, sparse=sparse), nn.Flatten(), nn.Linear(42, 11))
        return model, optim.AdamW(model.parameters(), 0.01)

    model, optimizer = make(sparse=True)
    run = elastic(model, optimizer, TensorDataset(words, words[:, 0]), steps=5, microbatches=1)
    theirs, their_optimizer = make(sparse=False)
    plain(theirs, their_optimizer, TensorDataset(words, words[:, 0]), run)
    assert_same_state(model.state_dict(), theirs.state_dict())


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (torch.float64, optim.AdamW),
        (torch.bfloat16, optim.AdamW),
        (torch.bfloat16, optim.SGD),
        (torch.float16, optim.SGD),
    ],
)
def test_models_of_other_precision(dtype: torch.dtype, kind: Callable[..., Optimizer]) -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        model = mlp(hidden=1700).to(dtype)
        return model, kind(model.parameters(), lr=0.01)

    def body(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0].to(dtype)).float(), batch[1])

    assert_like_a_plain_loop(make, points(), body)


def test_a_model_of_mixed_precision() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Linear(20, 8), nn.Linear(8, 8).bfloat16(), nn.Linear(8, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x).bfloat16()).double())

    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        return (model := Mixed()), optim.Adam(model.parameters(), 0.01)

    assert_like_a_plain_loop(make, points())


def test_bfloat16_runs_the_loop_body_under_autocast() -> None:
    seen = set()

    def body(model: nn.Module, batch: Any) -> Tensor:
        out = model(batch[0])
        seen.add(out.dtype)
        return F.cross_entropy(out.float(), batch[1])

    def make() -> tuple[nn.Module, Optimizer]:
        return (model := mlp()), optim.SGD(model.parameters(), 0.1)

    assert_like_a_plain_loop(make, points(), body, autocast=True)
    assert seen == {torch.bfloat16}


def test_a_model_in_channels_last_learns_the_same_but_for_rounding() -> None:
    """The arena holds every tensor row by row, so kernels may take another path."""

    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(3)
        model = convolution().to(memory_format=torch.channels_last)
        return model, optim.SGD(model.parameters(), 0.1, momentum=0.9)

    model, optimizer = make()
    run = elastic(model, optimizer, points(), steps=5, microbatches=1)
    theirs, their_optimizer = make()
    plain(theirs, their_optimizer, points(), run)
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


# --- more microbatches


def gradients_of_a_full_batch(dtype: torch.dtype, microbatches: int, **given: Any) -> float:
    """The largest relative error over parameters, norm-wise, of a run's first gradient."""
    torch.set_default_dtype(dtype)
    try:
        data = points()
        data = TensorDataset(data.tensors[0].to(dtype), data.tensors[1])
        model = mlp(hidden=64)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        body = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
        run = elastic(
            model, optim.SGD(model.parameters(), 1.0), data, body, steps=1, microbatches=microbatches, **given
        )
        full = mlp(hidden=64)
        index = torch.cat([torch.from_numpy(run.order.indices(1, m)) for m in range(microbatches)])
        body(full, [tensor[index] for tensor in data.tensors]).backward()
        # The weights are near 1e-1 and the gradients not much smaller, so their difference keeps most digits.
        return max(
            float(((before[name] - model.get_parameter(name) - p.grad).norm() / p.grad.norm()).detach())
            for name, p in full.named_parameters()
        )
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("microbatches", [2, 3, 8, 24])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gradients_of_microbatches_sum_to_a_full_batchs(
    microbatches: int, dtype: torch.dtype, within: float
) -> None:
    assert gradients_of_a_full_batch(dtype, microbatches) < within


def test_a_fused_pass_comes_near_too() -> None:
    assert gradients_of_a_full_batch(torch.float64, 8, exact=False) < 1e-12
