"""What is packed is what was there, sample by sample, and there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from springtide import data
from springtide.spec import UserError


def pictures(folder: Path, sizes: tuple[int, ...] = (6,) * 300) -> Any:
    (folder / "cat").mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.new("RGB", (8, size), (number % 256, 0, 9)).save(folder / "cat" / f"{number:03}.png")
    return data.images(folder)


def rows_of(folder: Path, *records: str) -> Any:
    (folder / "a.jsonl").write_text("".join(f"{record}\n" for record in records))
    return data.json_lines(folder / "a.jsonl", "y", sequence="x", dtype="int32", on_bad="skip")


def test_packed_samples_are_the_samples(tmp_path: Path) -> None:
    for name, dataset in {
        "pictures": pictures(tmp_path / "pets"),
        "rows": rows_of(tmp_path, *(f'{{"x": [{i}, 1], "y": {i / 2}}}' for i in range(600)), "bad"),
        "one place": np.random.default_rng(0).normal(size=(700, 3)),
        "numbers": [(np.float32(i), i) for i in range(10)],
    }.items():
        packed = data.pack(dataset, tmp_path / name)
        assert len(packed) == len(dataset)
        for number in range(len(dataset)):
            wanted, found = dataset[number], packed[number]
            pairs = zip(wanted, found, strict=True) if isinstance(wanted, tuple) else [(wanted, found)]
            assert all(np.array_equal(a, b) and np.asarray(a).dtype == b.dtype for a, b in pairs), (name, number)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["x.npy", "y.npy"]
    again = data.npy(tmp_path / "pictures" / "x.npy", tmp_path / "pictures" / "y.npy")
    assert data.fingerprint(again) == data.fingerprint(data.pack(data.images(tmp_path / "pets"), tmp_path / "twice"))


def test_what_cannot_be_packed_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    unequal = pictures(tmp_path / "pets", (6,) * 299 + (7,))
    (tmp_path / "t.jsonl").write_text('{"t": "words"}\n')
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    for dataset, target, said in [
        (unequal, "a", r"some of samples 256 to 299 differ from the others in shape or type; .* give size="),
        (data.json_lines(tmp_path / "t.jsonl", text="t"), "a", "samples that are texts or objects cannot be packed"),
        ([], "a", "the dataset is empty"),
        ([(1, 2, 3, 4)], "a", "samples of 4 places cannot be packed; up to 3 can"),
        ([1], "there", "there is there already; name a folder that is not"),
        ([1], "file/a", "file/a cannot be written: Not a directory"),
    ]:
        with pytest.raises(UserError, match=said):
            data.pack(dataset, tmp_path / target)
    with pytest.raises(UserError, match="packed into a folder of this machine"):
        data.pack([1], "webhdfs://a:1/b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pets", "t.jsonl", "there"]


def test_data_larger_than_the_free_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Endless:
        def __len__(self) -> int:
            return 1 << 50

        def __getitem__(self, index: int) -> Any:
            return np.zeros(100)

    with pytest.raises(UserError, match=r"the packed data takes .* TB, and .* are free on this disk"):
        data.pack(Endless(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_becomes_full_is_told(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from springtide import data; import numpy as np\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "data.pack(np.zeros((10_000, 10)), sys.argv[1])"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip().splitlines()[-1].endswith(f"{tmp_path}/a cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []
