"""Equal fingerprints mean equal data, in whatever process they are taken."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset, random_split

from springtide.data import fingerprint
from springtide.spec import UserError


class Samples(Dataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def test_one_changed_number_changes_it() -> None:
    x = torch.arange(10_000.0)
    before = fingerprint(TensorDataset(x))
    assert before == fingerprint(TensorDataset(x.clone()))
    x[7777] += 1
    assert before != fingerprint(TensorDataset(x))


def test_types_and_shapes_belong_to_it() -> None:
    x = torch.zeros(4, 6)
    all_of_them = [x, x.reshape(6, 4), x.double(), x.int(), x.bfloat16(), x[:3]]
    assert len({fingerprint(TensorDataset(each)) for each in all_of_them}) == len(all_of_them)
    assert fingerprint(np.zeros(3)) != fingerprint(np.zeros(4))


def test_a_large_array_is_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[fingerprint.__module__]
    monkeypatch.setattr(module, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(module, "PART_BYTES", 16)
    x = np.arange(100_000)
    before = fingerprint(x)
    x[-1] += 1
    assert fingerprint(x) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), (1, 3)),
        ((1, 2), [(1, 2)]),
        (1, 1.0),
        ("1", 1),
        (b"ab", "ab"),
        ({"a": 1}, {"a": 2}),
        ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}),
        (("ab", "c"), ("a", "bc")),
        (None, False),
        (Image.new("L", (2, 2)), Image.new("L", (2, 2), 1)),
        (Image.new("L", (2, 2)), Image.new("L", (4, 1))),
    ],
)
def test_samples_of_any_kind_are_told_apart(one: Any, other: Any) -> None:
    assert fingerprint(Samples([one])) == fingerprint(Samples([one]))
    assert fingerprint(Samples([one])) != fingerprint(Samples([other]))


def test_a_sample_that_holds_itself_ends() -> None:
    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    assert fingerprint(Samples([node]))


def test_a_split_is_named_by_its_indices() -> None:
    data = TensorDataset(torch.zeros(100))
    one, other = (random_split(data, [50, 50], torch.Generator().manual_seed(seed))[0] for seed in (1, 2))
    assert fingerprint(one) != fingerprint(other)


def test_an_unseeded_split_differs_in_each_process_and_whole_data_does_not() -> None:
    script = (
        "import torch\nfrom torch.utils.data import TensorDataset, random_split\n"
        "from springtide.data import fingerprint\n"
        "torch.seed(); data = TensorDataset(torch.arange(1000))\n"
        "print(fingerprint(data), fingerprint(random_split(data, [900, 100])[0]))"
    )
    told = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split() for _ in "ab"]
    assert told[0][0] == told[1][0]
    assert told[0][1] != told[1][1]


def test_a_dataset_may_name_itself() -> None:
    class Named(Samples):
        fingerprint = "abc"

    class Told(Samples):
        def fingerprint(self) -> str:
            return "abd"

    assert (fingerprint(Named([1])), fingerprint(Told([1]))) == ("abc", "abd")


def test_a_dataset_without_a_length_is_told() -> None:
    with pytest.raises(UserError, match="a dataset of type generator has no length; give a map-style dataset"):
        fingerprint(x for x in "ab")
