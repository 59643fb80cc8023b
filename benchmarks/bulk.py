"""Bulk data: samples a second in the order of a run, as files are and packed, here and on a real HDFS.

`npy` is what `data.pack` writes: samples decoded once. `blob` is the rival format that was left out: the encoded
records one after another in a single file, found by an index of offsets. HDFS is measured where Java and Maven are.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import table
from benchmarks.table import Row
from springtide import data
from springtide.data.cache import LIMIT
from springtide.data.order import Order

BATCH_SIZE = 256
SIDE = 96


class Blob:
    """Encoded records in one file, and what decodes one."""

    pure = True

    def __init__(self, path: Path, ends: np.ndarray[Any, Any], decode: Callable[[bytes], Any]) -> None:
        self._descriptor, self._ends, self._decode = os.open(path, os.O_RDONLY), ends, decode

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Any:
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        return self._decode(os.pread(self._descriptor, end - start, start))


def jpegs(folder: Path, count: int) -> None:
    """Pictures of noise with some structure, so that they are as large as photographs of that size."""
    drawn = np.random.default_rng(0)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        small = drawn.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / str(number % 10) / f"{number:06}.jpg", quality=85)


def blob_of_jpegs(folder: Path, target: Path) -> Blob:
    paths = sorted(folder.glob("*/*.jpg"))
    labels = {path.read_bytes(): np.int64(path.parent.name) for path in paths}
    ends = np.cumsum([0, *(path.stat().st_size for path in paths)])
    with target.open("wb") as out:
        for path in paths:
            out.write(path.read_bytes())

    def decode(content: bytes) -> Any:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(np.asarray(image.convert("RGB")).transpose(2, 0, 1), order="C"), labels[content]

    return Blob(target, ends, decode)


def token_lines(path: Path, count: int) -> None:
    drawn = np.random.default_rng(0)
    with path.open("w") as out:
        for number in range(count):
            out.write(json.dumps({"tokens": drawn.integers(0, 30_000, 64).tolist(), "label": number % 10}) + "\n")


def blob_of_lines(source: Any, target: Path) -> Blob:
    ends = np.arange(len(source) + 1) * (64 * 4 + 8)
    with target.open("wb") as out:
        for tokens, label in (source[number] for number in range(len(source))):
            out.write(tokens.tobytes() + label.tobytes())

    def decode(content: bytes) -> Any:
        return np.frombuffer(content, np.int32, 64).copy(), np.frombuffer(content, np.int64, 1, 256)[0]

    return Blob(target, ends, decode)


def samples_per_second(dataset: Any, most_s: float, most: int | None = None) -> float:
    """In the order of a run, in batches as the model gets them."""
    from springtide.train.loading import Loader

    order = Order("bulk", 0, len(dataset), BATCH_SIZE, 1)
    loader = Loader(dataset, order, mode="main", seed=lambda step, microbatch: None)
    begun, step = time.perf_counter(), 0
    while time.perf_counter() - begun < most_s and (most is None or step * BATCH_SIZE < most):
        step += 1
        loader.get(step, 0)
    return step * BATCH_SIZE / (time.perf_counter() - begun)


def here(folder: Path, quick: bool) -> Iterator[Row]:
    count, lines, most_s = (2_000, 10_000, 1.0) if quick else (20_000, 200_000, 5.0)
    table.progress(f"{count} JPEGs of {SIDE} x {SIDE}")
    jpegs(folder / "pictures", count)
    pictures = data.images(folder / "pictures")
    begun = time.perf_counter()
    packed = data.pack(pictures, folder / "pictures.packed")
    yield Row("JPEG folder", "npy", 0, "packing", time.perf_counter() - begun, "s")
    kinds = (("files", pictures), ("blob", blob_of_jpegs(folder / "pictures", folder / "blob")), ("npy", packed))
    for system, dataset in kinds:
        yield Row("JPEG folder", system, 0, "samples a second", samples_per_second(dataset, most_s), "/s")
    table.progress(f"{lines} lines of 64 tokens")
    token_lines(folder / "a.jsonl", lines)
    records = data.json_lines(folder / "a.jsonl", "label", sequence="tokens", dtype="int32")
    begun = time.perf_counter()
    packed = data.pack(records, folder / "lines.packed")
    yield Row("JSON lines", "npy", 0, "packing", time.perf_counter() - begun, "s")
    for system, dataset in (("files", records), ("blob", blob_of_lines(records, folder / "blob2")), ("npy", packed)):
        yield Row("JSON lines", system, 0, "samples a second", samples_per_second(dataset, most_s), "/s")


@contextmanager
def a_cluster() -> Iterator[Any]:
    """A real HDFS, or None with a sentence where there cannot be one."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        table.progress("no HDFS: Java or Maven is not on this machine")
        yield None
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
    from hdfs import running_hdfs

    with tempfile.TemporaryDirectory() as folder, running_hdfs(Path(folder)) as found:
        yield found


def far(folder: Path, quick: bool) -> Iterator[Row]:
    """The first pass fetches, the second finds all in the cache of this machine."""
    count, lines = (512, 2_048) if quick else (1_024, 20_480)
    with a_cluster() as cluster:
        if cluster is None:
            return
        table.progress("HDFS")
        jpegs(folder / "few", count)
        data.pack(data.images(folder / "few"), folder / "few.packed")
        token_lines(folder / "few.jsonl", lines)
        for name in ("few", "few.packed", "few.jsonl"):
            cluster.put(folder / name, f"/{name}")
        at = cluster.url

        def opened(system: str) -> Any:
            match system:
                case "files":
                    return data.images(f"{at}/few")
                case "npy":
                    return data.npy(f"{at}/few.packed/x.npy", f"{at}/few.packed/y.npy")
            return data.json_lines(f"{at}/few.jsonl", "label", sequence="tokens", dtype="int32")

        for work, system, most in (("JPEG folder", "files", count), ("JPEG folder", "npy", count),
                                   ("JSON lines", "lines", lines)):  # fmt: skip
            shutil.rmtree(Path(os.environ["TIDE_HOME"]) / "cache", ignore_errors=True)
            data.files._cache.cache_clear()
            for epoch in ("first epoch from HDFS", "second epoch from HDFS"):
                speed = samples_per_second(opened(system), 60.0, most)
                yield Row(work, "npy" if system == "npy" else "files", 0, epoch, speed, "/s")
        os.environ[LIMIT] = "0"
        speed = samples_per_second(opened("lines"), 5.0, lines)
        yield Row("JSON lines", "files", 0, "from HDFS without a cache", speed, "/s")
        del os.environ[LIMIT]


def main() -> None:
    arguments = table.parse("bulk", __doc__, rounds=1)
    rows: list[Row] = []
    for _ in range(1 if arguments.quick else arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TIDE_HOME"] = folder + "/home"
            rows += here(Path(folder), arguments.quick)
            rows += far(Path(folder), arguments.quick)
    rows = table.median_rows(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        table.show(metric.capitalize(), rows, metric, "files")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
