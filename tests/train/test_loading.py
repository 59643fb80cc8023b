"""A batch is the same bits however it was fetched."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from springtide.data.order import Order
from springtide.spec import UserError
from springtide.train import loading
from springtide.train.ahead import Item
from springtide.train.fetching import Fetched
from springtide.train.loading import Loader

MODES = ["main", "thread", "process:2", "auto"]


def seed(step: int, microbatch: int) -> None:
    number = step * 100 + microbatch
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


class Noisy(Dataset[Any]):
    """Samples that draw from all three generators."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, float]]:
        return torch.randn(3) + index, {"numpy": float(np.random.rand()), "random": random.random()}


class Plain(Dataset[Any]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 13:
            raise ValueError("unlucky")
        return np.full(4, index, dtype=np.float32), index


class Dying(Plain):
    """Kills the loader process that fetches sample 7 for the first time."""

    def __init__(self, mark: Any) -> None:
        self.mark, self.home = mark, os.getpid()

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 7 and os.getpid() != self.home and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full(4, index, dtype=np.float32), index


def an_order(count: int = 100, seed: int = 0) -> Order:
    return Order("data", seed, count, 24, 3)


def tensors() -> TensorDataset:
    return TensorDataset(torch.randn(100, 5), torch.arange(100))


ITEMS: list[Item] = [(step, microbatch) for step in range(1, 6) for microbatch in range(3)]


@pytest.fixture
def loaders() -> Iterator[list[Loader]]:
    made: list[Loader] = []
    yield made
    for loader in made:
        loader.close()


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return type(one) is type(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))


def batches(loader: Loader, items: list[Item] = ITEMS) -> list[Fetched]:
    fetched = []
    for position, item in enumerate(items):
        loader.expect(items[position : position + 3])
        fetched.append(loader.get(*item))
    return fetched


@pytest.mark.parametrize("mode", ["main", "process:1", "process:2", "auto"])
def test_samples_that_draw_random_numbers_are_the_same_in_each_mode(mode: str, loaders: list[Loader]) -> None:
    loader = Loader(Noisy(), an_order(), mode=mode, seed=seed)
    loaders.append(loader)
    for (step, microbatch), found in zip(ITEMS, batches(loader), strict=True):
        seed(step, microbatch)
        expected = default_collate([Noisy()[i] for i in found.indices.tolist()])
        assert equal(found.batch, expected)


def test_a_thread_refuses_samples_that_draw_random_numbers(loaders: list[Loader]) -> None:
    loader = Loader(Noisy(), an_order(), mode="thread", seed=seed)
    loaders.append(loader)
    with pytest.raises(UserError, match='use loading="main" or loading="process:2"'):
        loader.get(1, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "dataset",
    [
        tensors(),
        Subset(tensors(), list(range(99, -1, -1))),
        TensorDataset(torch.randn(100, 3, 4, 4).to(memory_format=torch.channels_last)),
        TensorDataset(torch.randn(100, 3).t().contiguous().t(), torch.randn(100).bfloat16()),
        np.random.default_rng(0).normal(size=(100, 3)),
        np.arange(100),
    ],
    ids=["tensors", "subset", "channels_last", "strided", "array", "numbers"],
)
def test_a_batch_is_what_the_default_collate_gives(mode: str, dataset: Any, loaders: list[Loader]) -> None:
    loader = Loader(dataset, an_order(), mode=mode, seed=seed)
    loaders.append(loader)
    for item, found in zip(ITEMS, batches(loader), strict=True):
        assert np.array_equal(found.indices, an_order().indices(*item))
        assert equal(found.batch, default_collate([dataset[i] for i in found.indices.tolist()]))
        assert found.skipped == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_is_asked_may_differ_from_what_was_expected(mode: str, loaders: list[Loader]) -> None:
    loader = Loader(tensors(), an_order(), mode=mode, ahead=2, seed=seed)
    loaders.append(loader)
    loader.expect([(1, 0), (1, 1)])
    asked = [(1, 0), (1, 2), (5, 1), (1, 1), (1, 1), (9, 0), (2, 0), (2, 1)]
    for position, item in enumerate(asked):
        assert np.array_equal(loader.get(*item).indices, an_order().indices(*item))
        if position == 3:
            loader.expect([(7, 0), (2, 0)])
        if position == 6:
            loader.expect([])


@pytest.mark.parametrize("mode", ["main", "process:2", "auto"])
def test_a_fused_batch_holds_the_microbatches_in_the_given_order(mode: str, loaders: list[Loader]) -> None:
    loader, single = (Loader(Noisy(), an_order(), mode=each, seed=seed) for each in (mode, "main"))
    loaders.append(loader)
    for step in range(1, 5):
        group = [(step, 2), (step, 0)]
        loader.expect(group, fused=True)
        found, parts = loader.get_many(group), [single.get(*item) for item in group]
        assert np.array_equal(found.indices, np.concatenate([part.indices for part in parts]))
        assert torch.equal(found.batch[0], torch.cat([part.batch[0] for part in parts]))


def test_a_collate_of_the_user_or_of_the_dataset_is_used() -> None:
    class Summed(Plain):
        def collate(self, samples: list[Any]) -> int:
            return sum(index for _, index in samples)

    order = Order("data", 0, 10, 5, 1)
    assert Loader(Summed(), order, seed=seed).get(1, 0).batch == int(order.indices(1, 0).sum())
    assert Loader(Summed(), order, collate=len, seed=seed).get(1, 0).batch == 5


@pytest.mark.parametrize("mode", ["main", "thread", "process:1"])
def test_an_error_says_which_samples_it_is_about(mode: str, loaders: list[Loader]) -> None:
    order = Order("data", 0, 100, 100, 4)
    bad = next(m for m in range(4) if 13 in order.indices(1, m))
    good = (bad + 1) % 4
    loader = Loader(Plain(), order, mode=mode, seed=seed)
    loaders.append(loader)
    loader.get(1, good)
    loader.expect([(1, bad), (1, good)])
    for _ in range(2):
        with pytest.raises(ValueError, match="unlucky") as told:
            loader.get(1, bad)
        assert str(told.value) == "unlucky"
        assert told.value.samples == order.indices(1, bad).tolist()  # type: ignore[attr-defined]
        assert told.value.sample == 13  # type: ignore[attr-defined]
        assert f"(microbatch {bad} of step 1)" in told.value.__notes__[0]
    assert len(loader.get(1, good).indices) == 25


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_started_before_the_first_get(mode: str, loaders: list[Loader]) -> None:
    before = alive()
    loader = Loader(Plain(), an_order(), mode=mode, seed=seed)
    loaders.append(loader)
    loader.expect(ITEMS)
    assert alive() <= before


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_after_close(mode: str) -> None:
    before = alive()
    loader = Loader(tensors(), an_order(), mode=mode, seed=seed)
    batches(loader)
    loader.close()
    for ending in alive() - before:
        if isinstance(ending, threading.Thread):  # of a queue of torch's, told to end
            ending.join(5)
    assert alive() <= before


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:  # noqa: PTH123
        return set(listed.read().split())


def alive() -> set[object]:
    return {*threading.enumerate(), *children()}


def test_the_model_s_generators_are_left_alone_by_processes(loaders: list[Loader]) -> None:
    loader = Loader(Noisy(), an_order(), mode="process:1", seed=seed)
    loaders.append(loader)
    seed(0, 0)
    expected = torch.rand(1), np.random.rand(), random.random()
    seed(0, 0)
    loader.get(1, 0)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_a_killed_loader_process_is_replaced(tmp_path: Any, loaders: list[Loader]) -> None:
    loader = Loader(Dying(tmp_path / "died"), an_order(), mode="process:2", seed=seed)
    loaders.append(loader)
    found = batches(loader)
    assert (tmp_path / "died").exists()
    for item, each in zip(ITEMS, found, strict=True):
        assert each.batch[1].tolist() == an_order().indices(*item).tolist()


class Will(Plain):
    """Samples are the signal that this process gets when its parent dies."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        number = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)  # PR_GET_PDEATHSIG
        return np.zeros(1), number.value


def test_the_kernel_ends_loader_processes_with_their_worker(loaders: list[Loader]) -> None:
    loader = Loader(Will(), an_order(), mode="process:1", seed=seed)
    loaders.append(loader)
    assert set(loader.get(1, 0).batch[1].tolist()) == {signal.SIGKILL}


def test_loader_processes_die_with_their_worker() -> None:
    read, write = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(read)
        loader = Loader(Plain(), Order("data", 0, 10, 2, 1), mode="process:2", seed=seed)
        loader.get(1, 0)
        os.write(write, " ".join(children()).encode())
        signal.pause()
    os.close(write)
    pids = [int(pid) for pid in os.read(read, 1000).split()]
    handles = [os.pidfd_open(pid) for pid in pids]
    assert len(pids) == 2
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    # The pipe's other end is held by the worker and its loader processes: it closes when all of them are gone.
    assert os.read(read, 1) == b""
    for handle in [read, *handles]:
        os.close(handle)


@pytest.mark.parametrize("mode", ["processes", "process:", "process:0", "threads", "process:-1"])
def test_an_unknown_mode_is_told(mode: str) -> None:
    with pytest.raises(UserError, match='is not a way to load; write "auto", "main", "thread" or "process:2"'):
        Loader(Plain(), an_order(), mode=mode, seed=seed)


class Reader(Plain):
    """Says that it draws no random numbers; its samples tell who fetched them."""

    pure = True

    def __init__(self) -> None:
        self.read_elsewhere = threading.Event()

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if threading.current_thread() is not threading.main_thread():
            self.read_elsewhere.set()
        return np.full(4, index, dtype=np.float32), threading.get_ident()


@pytest.mark.parametrize("slow", [True, False])
def test_auto_reads_slow_data_in_a_thread_and_other_data_in_place(
    slow: bool, loaders: list[Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is slow is set here, because the machine that runs this test may be busy.
    monkeypatch.setattr(loading, "THREAD_PAYS_SECONDS", 0 if slow else 1e9)
    reader = Reader()
    loader = Loader(reader, an_order(), seed=seed)
    loaders.append(loader)
    batches(loader)
    assert reader.read_elsewhere.wait(60 if slow else 0) == slow


def test_a_dataset_that_may_draw_is_never_read_in_a_thread_unasked(
    loaders: list[Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "THREAD_PAYS_SECONDS", 0)

    class Unknown(Reader):
        pure = False

    loader = Loader(Unknown(), an_order(), seed=seed)
    loaders.append(loader)
    assert {each.batch[1][0].item() for each in batches(loader)} == {threading.get_ident()}
