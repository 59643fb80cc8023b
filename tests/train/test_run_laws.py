"""The laws as one process shows them: order, randomness, buffers, microbatches, clipping, where one is."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.utils.data import Dataset, TensorDataset

from springtide import train
from springtide.spec import UserError
from springtide.train import randomness
from training import assert_same_state, cross_entropy, elastic, forget, mlp, plain, points


def numbered(count: int = 40) -> TensorDataset:
    """Samples that say which they are."""
    return TensorDataset(torch.arange(count), torch.randn(count, 4, generator=torch.Generator().manual_seed(1)))


def seen(dataset: Any, batch_size: int = 8, **given: Any) -> list[tuple[int, int, list[int]]]:
    """(step, microbatch, samples) as a loop sees them."""
    forget()
    model = nn.Linear(4, 1)
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), dataset, batch_size, **given)
    found = []
    for number, x in run:
        found.append((run.step, run.microbatch, number.tolist()))
        run.backward(model(x).mean())
    return found


# --- order


def test_the_loop_gets_the_samples_that_the_order_names() -> None:
    found = seen(numbered(), steps=7, microbatches=4)
    run = train.run.active()
    assert [(step, m) for step, m, _ in found] == [(step, m) for step in range(1, 8) for m in range(4)]
    assert all(samples == run.order.indices(step, m).tolist() for step, m, samples in found)


def test_every_epoch_holds_every_sample_once_and_a_tail_is_carried_on() -> None:
    found = seen(numbered(42), batch_size=8, epochs=4)
    stream = [sample for *_, samples in found for sample in samples]
    assert len(found) // 8 == 21  # 4 epochs of 42 samples in steps of 8
    for epoch in range(4):
        assert sorted(stream[epoch * 42 : (epoch + 1) * 42]) == list(range(42))
    assert stream[:42] != stream[42:84]


def test_samples_follow_the_seed_and_neither_microbatches_nor_loading() -> None:
    stream = lambda found: [sample for *_, samples in found for sample in samples]
    first = stream(seen(numbered(), steps=6, microbatches=4))
    assert stream(seen(numbered(), steps=6, microbatches=1)) == first
    assert stream(seen(numbered(), steps=6, exact=False)) == first
    assert stream(seen(numbered(), steps=6, loading="thread")) == first
    assert stream(seen(numbered(), steps=6, loading="process:1")) == first
    assert stream(seen(numbered(), steps=6, seed=1)) != first


def test_a_sample_of_the_data_is_fixed_and_spread_over_the_steps() -> None:
    found = seen(numbered(200), sample=0.1, epochs=3, batch_size=4)
    stream = [sample for *_, samples in found for sample in samples]
    assert len(found) == 15 * 4
    assert len(set(stream)) == 20
    assert sorted(stream[:20]) == sorted(stream[20:40])
    other = seen(numbered(200), sample=0.1, steps=5, batch_size=4, seed=7)
    assert {sample for *_, samples in other for sample in samples} == set(stream)


def test_where_one_is() -> None:
    forget()
    model = mlp()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(96), 24, epochs=2, microbatches=3)
    places: list[tuple[int, int, float]] = []
    ends: list[tuple[int, float]] = []
    run.on_step(lambda: ends.append((run.step, run.epoch)))
    assert (run.step, run.steps, run.epoch, run.microbatch, run.main) == (0, 8, 0.0, 0, True)
    for batch in run:
        places.append((run.step, run.microbatch, run.epoch))
        run.backward(cross_entropy(model, batch))
    assert places == [(step, m, (step - 1) / 4) for step in range(1, 9) for m in range(3)]
    assert [step for step, _ in ends] == list(range(1, 9))
    assert run.step == 8
    assert run.main
    assert run.finished


@pytest.mark.parametrize(("batch_size", "microbatches"), [(256, 8), (24, 8), (20, 4), (6, 2), (7, 1), (1, 1)])
def test_microbatches_by_default(batch_size: int, microbatches: int) -> None:
    assert len(seen(numbered(256), batch_size=batch_size, steps=1)) == microbatches


# --- randomness


class Noisy(Dataset[Any]):
    """Samples that draw from all three generators."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(1), torch.tensor([np.random.rand(), random.random()], dtype=torch.float32)
        return torch.tensor(index), torch.cat((*drawn, torch.ones(1)))


def drawn(**given: Any) -> dict[tuple[int, int], list[float]]:
    """What loop body and samples draw at each (step, microbatch)."""
    forget()
    model = nn.Linear(4, 1)
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), Noisy(), 8, steps=4, microbatches=2, **given)
    found = {}
    for _, x in run:
        body = [torch.rand(()).item(), float(np.random.rand()), random.random()]
        found[run.step, run.microbatch] = [*x.flatten().tolist(), *body]
        if run.step % 2:
            torch.rand(run.step * 7)  # how much is drawn in one microbatch does not reach the next
            random.random()
        run.backward(model(x).mean())
    return found


def test_random_numbers_are_those_of_seed_step_and_microbatch() -> None:
    first = drawn()
    torch.manual_seed(99)
    random.seed(4)
    assert drawn() == first
    assert len({tuple(numbers) for numbers in first.values()}) == 8
    assert len({number for numbers in first.values() for number in numbers}) == 8 * (4 * 3 + 3) + 1
    assert not set(first[1, 0][-3:]) & set(drawn(seed=1)[1, 0][-3:])


def test_samples_draw_the_same_wherever_they_are_fetched() -> None:
    assert drawn(loading="process:2") == drawn(loading="main")


def test_samples_that_draw_are_not_fetched_beside_the_model() -> None:
    with pytest.raises(UserError, match=r'draw random numbers.*loading="thread"'):
        drawn(loading="thread")


# --- buffers


class Counting(nn.Module):
    """Buffers of every kind, changed in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 3)
        self.register_buffer("mean", torch.zeros(20))
        self.register_buffer("replaced", torch.zeros(20, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("odd", torch.tensor(False))
        self.register_buffer("passing", torch.zeros(20), persistent=False)
        self.register_buffer("untouched", torch.arange(3.0))
        self.register_buffer("at_times", torch.zeros(()))
        self.register_buffer("nothing", None)
        self.register_buffer("same", self.mean)  # one tensor under two names

    def forward(self, x: Tensor) -> Tensor:
        self.mean += x.mean(0)
        self.replaced = self.replaced + x.mean(0).double()
        self.passing.copy_(x.mean(0))
        self.steps += 1
        self.odd.logical_not_()
        if x[0, 0] > 0:
            self.at_times.fill_(float(x[0, 0]))
        return self.layer(x)


def test_float_buffers_take_the_mean_over_microbatches_and_the_others_agree() -> None:
    model = Counting()
    data = points()
    run = elastic(model, optim.SGD(model.parameters(), 0.1), data, steps=3, microbatches=2)
    mean, replaced = torch.zeros(20), torch.zeros(20, dtype=torch.float64)
    at_times = torch.zeros(())
    for step in (1, 2, 3):
        parts = [data.tensors[0][torch.from_numpy(run.order.indices(step, m))] for m in (0, 1)]
        means = [part.mean(0) for part in parts]
        mean = ((mean + means[0]) + (mean + means[1])) / 2
        replaced = ((replaced + means[0].double()) + (replaced + means[1].double())) / 2
        passing = (means[0] + means[1]) / 2
        changed = [part[0, 0] for part in parts if part[0, 0] > 0]
        at_times = sum(changed, torch.zeros(())) / len(changed) if changed else at_times
    assert torch.equal(model.mean, mean)
    assert torch.equal(model.replaced, replaced)
    assert torch.equal(model.passing, passing)
    assert torch.equal(model.untouched, torch.arange(3.0))
    assert torch.equal(model.at_times, at_times)
    assert (int(model.steps), bool(model.odd)) == (3, True)
    assert model.same is model.mean
    assert list(model.state_dict()) == list(Counting().state_dict())


def test_every_microbatch_begins_with_the_buffers_of_the_step_before() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = nn.Linear(20, 3), []
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(float(self.count))
            self.count += 1
            return self.layer(x)

    model = Watched()
    elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=3, microbatches=4)
    assert model.seen == [0.0] * 4 + [1.0] * 4 + [2.0] * 4


def test_statistics_of_batch_norm_are_the_mean_of_the_microbatches() -> None:
    model = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 3))
    data = points()
    run = elastic(model, optim.SGD(model.parameters(), 0.1), data, steps=1, microbatches=4)
    parts = [data.tensors[0][torch.from_numpy(run.order.indices(1, m))] for m in range(4)]
    torch.testing.assert_close(model[0].running_mean, 0.1 * torch.stack([p.mean(0) for p in parts]).mean(0))
    torch.testing.assert_close(model[0].running_var, 0.9 + 0.1 * torch.stack([p.var(0) for p in parts]).mean(0))
    assert int(model[0].num_batches_tracked) == 1


def test_a_whole_number_that_depends_on_the_samples_is_refused_by_name() -> None:
    class Sampled(Counting):
        def forward(self, x: Tensor) -> Tensor:
            self.steps += int(x[0, 0].abs() * 1000)
            return self.layer(x)

    model = Sampled()
    with pytest.raises(UserError, match=r"buffer 'steps' of torch\.int64 differs"):
        elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=3, microbatches=2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda model: setattr(model, "mean", None), r"buffer 'mean' was set to None"),
        (
            lambda model: setattr(model, "mean", torch.zeros(7)),
            r"buffer 'mean' changed its shape from \(20,\) to \(7,\)",
        ),
    ],
)
def test_buffers_keep_their_shape(change: Any, sentence: str) -> None:
    model = Counting()

    def body(model: Any, batch: Any) -> Tensor:
        change(model)
        return cross_entropy(model.layer, batch)

    with pytest.raises(UserError, match=sentence):
        elastic(model, optim.SGD(model.parameters(), 0.1), points(), body, steps=1)


# --- microbatches


def test_gradient_accumulation_is_a_matter_of_microbatches() -> None:
    """A plain loop that divides by the count sums in another order: near, not equal."""
    model, theirs = mlp(hidden=64), mlp(hidden=64)
    run = elastic(model, optim.Adam(model.parameters(), 0.01), points(), steps=6, microbatches=6)
    plain(theirs, optim.Adam(theirs.parameters(), 0.01), points(), run)
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_two_losses_of_one_microbatch_add_up() -> None:
    model, theirs = mlp(), mlp()
    elastic(theirs, optim.SGD(theirs.parameters(), 0.1), points(),
            lambda m, b: 2 * cross_entropy(m, b) + m(b[0]).square().mean(), steps=2)  # fmt: skip
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=2)
    for batch in run:
        run.backward(cross_entropy(model, batch), weight=3.0)
        run.backward(cross_entropy(model, batch), weight=3.0)
        run.backward(model(batch[0]).square().mean(), weight=3.0)
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_weights_make_the_mean_over_tokens() -> None:
    """Microbatches of unequal counts: the gradient is that of the mean over all tokens of the step."""
    data = points(96)
    masks = torch.rand(96, generator=torch.Generator().manual_seed(8)) < 0.4
    data = TensorDataset(*data.tensors, masks)
    model, theirs = mlp().double(), mlp().double()
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 1.0), data, 24, steps=1, microbatches=4)
    losses: list[float] = []
    run.on_step(lambda: losses.extend(r.loss for r in run._worker.arena.steps_after(0, 1)))  # type: ignore[union-attr]
    for x, y, mask in run:
        each = F.cross_entropy(model(x.double()), y, reduction="none")
        run.backward(each[mask].mean(), weight=float(mask.sum()))
    index = torch.cat([torch.from_numpy(run.order.indices(1, m)) for m in range(4)])
    x, y, mask = (tensor[index] for tensor in data.tensors)
    loss = F.cross_entropy(theirs(x.double()), y, reduction="none")[mask].mean()
    loss.backward()
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other - other.grad, rtol=1e-12, atol=1e-14)
    assert losses == pytest.approx([float(loss.detach())], rel=1e-12)


@pytest.mark.parametrize("own", [False, True], ids=["run.backward", "loss.backward"])
@pytest.mark.parametrize("exact", [False, True], ids=["fused", "exact"])
def test_both_ways_backward_are_the_same(own: bool, exact: bool) -> None:
    model, theirs = mlp().double(), mlp().double()
    data = TensorDataset(points().tensors[0].double(), points().tensors[1])
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), data, 24, steps=3, microbatches=4, exact=exact)
    for batch in run:
        assert len(batch[0]) == (6 if exact else 24)
        loss = F.cross_entropy(model(batch[0]), batch[1])
        if own:
            loss.backward()
        else:
            run.backward(loss)
    plain(theirs, optim.SGD(theirs.parameters(), 0.1), data, run, lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_a_fused_pass_counts_its_samples_and_its_buffers() -> None:
    model = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 3))
    data = points()
    run = elastic(model, optim.SGD(model.parameters(), 0.1), data, steps=4, microbatches=4, exact=False)
    assert int(model[0].num_batches_tracked) == 4
    position = run._worker.arena.position(run._worker.reached[1])  # type: ignore[union-attr]
    assert (position["samples"], position["checksum"]) == run.order.expected(4)


def test_a_gradient_of_before_the_loop_does_not_reach_it() -> None:
    make = lambda: (model := mlp(), optim.SGD(model.parameters(), 0.1))
    model, optimizer = make()
    model(torch.ones(1, 20)).sum().backward()
    elastic(model, optimizer, points(), steps=2)
    theirs, their_optimizer = make()
    elastic(theirs, their_optimizer, points(), steps=2)
    assert_same_state(model.state_dict(), theirs.state_dict())


def test_blocks_of_several_microbatches_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory makes larger blocks."""

    def trained(share: float) -> tuple[int, dict[str, Tensor]]:
        from springtide.train import assembly

        monkeypatch.setattr(assembly, "_SLOTS_SHARE", share)
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 3)).bfloat16()
        body = lambda m, b: F.cross_entropy(m(b[0].bfloat16()).float(), b[1])
        run = elastic(model, optim.AdamW(model.parameters()), points(), body, steps=3, microbatches=6, clip_norm=0.5)
        return run._assembly.recipe.block_size, model.state_dict()

    from springtide.train import hardware

    size, first = trained(0.25)
    assert size == 1
    monkeypatch.setattr(hardware, "free_memory_bytes", lambda: 1 << 20)
    found = {}
    for share in (0.08, 0.04, 1e-9):
        size, state = trained(share)
        found[size] = state
    assert set(found) >= {8} and len(found) >= 2
    for state in found.values():
        assert_same_state(state, first)


# --- clipping and skipping


def test_clipping_comes_close_to_torchs() -> None:
    model, theirs = mlp(hidden=1700), mlp(hidden=1700)
    optimizer = optim.SGD(model.parameters(), 0.5, momentum=0.9)
    run = elastic(model, optimizer, points(), steps=6, microbatches=1, clip_norm=0.1)
    their_optimizer = optim.SGD(theirs.parameters(), 0.5, momentum=0.9)
    step = their_optimizer.step
    norms = []
    their_optimizer.step = lambda: (norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)), step())  # type: ignore
    plain(theirs, their_optimizer, points(), run)
    assert max(norms) > 0.2
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_what_is_below_the_limit_is_left_as_it_is() -> None:
    model, theirs = mlp(), mlp()
    elastic(model, optim.SGD(model.parameters(), 0.1), points(), steps=4, clip_norm=1e6)
    elastic(theirs, optim.SGD(theirs.parameters(), 0.1), points(), steps=4)
    assert_same_state(model.state_dict(), theirs.state_dict())


def test_the_norm_counts_only_what_got_a_gradient_in_this_step() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))

    model = Once()
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 1.0), points(), 24, steps=3, microbatches=1, clip_norm=1.0)
    steps = []
    run.on_step(lambda: steps.append(model.a.detach().clone()))
    for _ in run:
        run.backward(model.a.sum() + (1000 * model.b.sum() if run.step == 1 else 0))
    assert model.b.tolist()[0] == pytest.approx(-0.5, rel=1e-3)
    assert model.a.tolist()[0] == pytest.approx(-1.0 - 0.0005, rel=1e-4)  # two steps of 0.5 each after the first


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_that_are_not_finite_are_left_out(clip: float | None) -> None:
    model = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 3))
    forget()
    run = train.Run(
        model, optim.Adam(model.parameters(), 0.1), points(), 24, steps=4, microbatches=2, skip_nonfinite=True,
        clip_norm=clip,
    )  # fmt: skip
    after: list[dict[str, Tensor]] = []
    for batch in run:
        if run.microbatch == 0:
            after.append({name: value.clone() for name, value in model.state_dict().items()})
        factor = {2: float("inf"), 3: float("nan")}.get(run.step, 1.0) if run.microbatch == 1 else 1.0
        run.backward(cross_entropy(model, batch) * factor)
    assert_same_state(after[2], after[1])
    assert_same_state(after[3], after[1])
    final = model.state_dict()
    assert not torch.equal(final["1.weight"], after[1]["1.weight"])
    assert all(value.isfinite().all() for value in final.values())
    records = list(run._worker.arena.steps_after(0, 4))  # type: ignore[union-attr]
    assert [record.skipped for record in records] == [False, True, True, False]


def test_without_skipping_they_are_not() -> None:
    model = mlp()
    elastic(
        model, optim.SGD(model.parameters(), 0.1), points(), lambda m, b: cross_entropy(m, b) * float("nan"), steps=1
    )
    assert model[0].weight.isnan().all()


# --- hooks, losses


def test_the_loss_of_a_step_is_the_mean_of_its_microbatches() -> None:
    model = mlp()
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=2, microbatches=4)
    losses: list[float] = []
    for batch in run:
        loss = cross_entropy(model, batch)
        losses.append(loss.item())
        run.backward(loss)
    records = list(run._worker.arena.steps_after(0, 2))  # type: ignore[union-attr]
    assert [record.loss for record in records] == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 4], rel=1e-12)
    assert [record.samples for record in records] == [24, 24]


def test_the_module_reads_the_state_of_the_step_before_all_through_a_step() -> None:
    model = mlp()
    forget()
    run = train.Run(model, optim.SGD(model.parameters(), 0.1), points(), 24, steps=3, microbatches=4)
    found: dict[int, list[Tensor]] = {}
    for batch in run:
        found.setdefault(run.step, []).append(model[0].weight.detach().clone())
        run.backward(cross_entropy(model, batch))
        found[run.step].append(model[0].weight.detach().clone())
    for values in found.values():
        assert all(torch.equal(value, values[0]) for value in values)
    assert not torch.equal(found[1][0], found[2][0])


def test_generators_of_purposes_are_apart() -> None:
    keys = {
        randomness.key(seed, purpose, step, m)
        for seed in (0, 1, -1, 1 << 40)
        for purpose in (randomness.COMPUTE, randomness.FETCH, randomness.HELD_OUT)
        for step in range(1, 50)
        for m in range(8)
    }
    assert len(keys) == 4 * 3 * 49 * 8
    assert all(0 <= key < 1 << 64 for key in keys)
