"""Batches of similar length: little padding, each sample once per epoch, a pure function of the data and the seed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from springtide import data
from springtide.data.length import ByLength, LengthOrder, Padded
from springtide.data.order import checksum
from springtide.spec import UserError
from springtide.train.loading import Loader


def of_lengths(lengths: Any, **options: Any) -> ByLength:
    return data.by_length(np.zeros(len(lengths)), np.asarray(lengths), **options)


def seen(order: LengthOrder, steps: int) -> np.ndarray:
    parts = [order.indices(step, m) for step in range(1, steps + 1) for m in range(order.microbatches)]
    return np.concatenate(parts)


def seed(step: int, microbatch: int) -> None:
    torch.manual_seed(step * 100 + microbatch)


ORDERS = st.builds(
    lambda extra, size, microbatches, number, window: of_lengths(
        np.random.default_rng(number).integers(1, 50, size * microbatches + extra), window=window
    ).order(number, size * microbatches, microbatches),
    st.integers(0, 400),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 100),
    st.one_of(st.none(), st.integers(1, 200)),
)


@settings(deadline=None)
@given(ORDERS, st.integers(1, 4))
def test_each_sample_comes_once_per_epoch_across_the_carried_tail(order: LengthOrder, epochs: int) -> None:
    found = seen(order, order.steps(epochs))
    for epoch in range(epochs):
        part = found[epoch * order.count : (epoch + 1) * order.count]
        assert sorted(part.tolist()) == list(range(order.count))


@settings(deadline=None)
@given(ORDERS, st.integers(0, 40))
def test_expected_counts_and_sums_what_the_steps_hand_out(order: LengthOrder, steps: int) -> None:
    found = seen(order, steps) if steps else np.empty(0, np.int64)
    assert order.expected(steps) == (found.size, checksum(found))
    parts = [order.expected_of(step) for step in range(1, steps + 1)]
    assert (sum(count for count, _ in parts), sum(part for _, part in parts) % 2**64) == order.expected(steps)


@settings(deadline=None)
@given(ORDERS, st.lists(st.integers(1, 200), max_size=6), st.integers(1, 200))
def test_indices_do_not_depend_on_what_was_asked_before(order: LengthOrder, asked: list[int], step: int) -> None:
    for other in asked:
        order.indices(other, 0)
    fresh = LengthOrder(order.base, order.lengths, order.window)
    assert np.array_equal(order.indices(step, 0), fresh.indices(step, 0))


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("spread", [0.5, 0.7, 1.0])
def test_padding_of_a_log_normal_is_below_five_percent(size: int, spread: float) -> None:
    lengths = np.ceil(np.random.default_rng(1).lognormal(3, spread, 50_000)).astype(int)
    assert of_lengths(lengths).order(0, size * 8, 8).padding(2) < 0.05


def test_padding_of_real_text_is_below_five_percent() -> None:
    words = []
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                words.append(len(text.split()))
    assert len(words) > 3000
    order = of_lengths(words, longest=256).order(0, 256, 8)
    assert order.padding(3) < 0.05
    shuffled = order.base.stream(0, len(words) // 32 * 32).reshape(-1, 32)
    lengths = order.lengths[shuffled]
    assert 1 - lengths.sum() / (32 * lengths.max(axis=1).sum()) > 0.5  # what a plain order would waste


def test_lengths_are_mixed_from_step_to_step() -> None:
    order = of_lengths(np.arange(1, 4097)).order(0, 64, 4)
    means = [order.lengths[order.indices(step, 0)].mean() for step in range(1, 65)]
    assert abs(np.corrcoef(means, np.arange(64))[0, 1]) < 0.5


def test_a_sample_of_the_data_is_the_plain_order_s_sample() -> None:
    order = of_lengths(np.arange(1, 1001)).order(5, 10, 2, sample=0.05)
    assert order.count == 50
    assert set(seen(order, 5).tolist()) == set(order.base.stream(0, 50).tolist())


class Sentences(Dataset[Any]):
    def __init__(self, tensors: bool) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        tokens = np.full(1 + index * 7 % 13, index)
        vectors = np.ones((len(tokens), 2), np.float32) * index
        return (torch.from_numpy(tokens) if self.tensors else tokens.tolist()), vectors, index


@pytest.mark.parametrize("mode", ["main", "process:1"])
@pytest.mark.parametrize("tensors", [True, False])
def test_a_batch_carries_its_mask(mode: str, tensors: bool) -> None:
    dataset = data.by_length(Sentences(tensors), pad=(-1, 0.5), sequences=(0, 1))
    loader = Loader(dataset, dataset.order(0, 20, 4), mode=mode, seed=seed)
    for step in range(1, 6):
        found = loader.get(step, 1)
        (tokens, mask), vectors, label = found.batch
        assert isinstance(vectors, Padded)
        assert (tokens.dtype, mask.dtype, vectors.values.dtype) == (torch.int64, torch.bool, torch.float32)
        assert label.tolist() == found.indices.tolist()
        for row, index in enumerate(found.indices.tolist()):
            length = 1 + index * 7 % 13
            assert mask[row].tolist() == [True] * length + [False] * (mask.shape[1] - length)
            assert tokens[row, :length].tolist() == [index] * length
            assert (tokens[row, length:] == -1).all()
            assert (vectors.values[row, length:] == 0.5).all()
        assert mask.any(dim=0).all()
    loader.close()


def test_sequences_alone_are_padded_too() -> None:
    sequences = [np.arange(n, dtype=np.float32) for n in (3, 1, 2, 5)]
    dataset = data.by_length(sequences, longest=4)
    assert dataset.lengths.tolist() == [3, 1, 2, 4]
    found = Loader(dataset, dataset.order(0, 4, 1), seed=seed).get(1, 0)
    assert found.batch.values.shape == (4, 4)
    assert found.batch.mask.sum().item() == 10
    for samples in ([[], [1, 2], [3]], [np.array([]), np.array([1, 2]), np.array([3])]):
        batch = data.by_length(samples).collate(samples)
        assert batch.values.tolist() == [[0, 0], [1, 2], [3, 0]]
        assert batch.values.dtype == np.int64
        assert batch.mask.sum(axis=1).tolist() == [0, 2, 1]


def test_lengths_belong_to_the_fingerprint() -> None:
    assert of_lengths([1, 2]).fingerprint == of_lengths([1, 2]).fingerprint
    assert len({each.fingerprint for each in (of_lengths([1, 2]), of_lengths([1, 3]), of_lengths([1, 2], pad=1))}) == 3


def test_files_are_batched_by_length_and_bad_records_still_counted(tmp_path: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"s": {list(range(1 + i % 9))}}}\n' if i % 4 else "oops\n" for i in range(40)))
    dataset = data.by_length(data.json_lines(path, sequence="s", on_bad="skip"))
    loader = Loader(dataset, dataset.order(0, 10, 2), seed=seed)
    assert dataset.pure
    found = [loader.get(step, m) for step in range(1, 5) for m in range(2)]
    assert sum(each.skipped for each in found) == 10


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(UserError, match="there are 2 lengths for 3 samples; give one for each"):
        data.by_length([1, 2, 3], [1, 2])
    with pytest.raises(UserError, match=r"sample 0 has no length .*; give length="):
        data.by_length([1.5, 2])
    with pytest.raises(UserError, match="window=0 is not a number of samples"):
        data.by_length([[1]], window=0)
    with pytest.raises(UserError, match="longest=0 is not a length"):
        data.by_length([[1]], longest=0)
    with pytest.raises(UserError, match="pad has 2 values for 1 sequences"):
        data.by_length([[1]], pad=(0, 0))
    with pytest.raises(UserError, match="2 samples, fewer than one batch of 4"):
        of_lengths([1, 2]).order(0, 4, 1)
