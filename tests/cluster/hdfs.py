"""A real HDFS of one name node and one data node, for the time of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.cluster.jars import Missing, fetched

HERE = Path(__file__).parent
USER = "tide"


@dataclass(frozen=True)
class Hdfs:
    """A cluster that runs: `url` is its root, files are put and removed through `system`."""

    port: int
    process: subprocess.Popen[str]
    system: Any

    @property
    def url(self) -> str:
        return f"webhdfs://{USER}@localhost:{self.port}"

    def put(self, source: Path, target: str) -> None:
        """A file, or all files of a folder and those below it."""
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file():
                at = f"{target}/{path.relative_to(source)}" if source.is_dir() else target
                self.system.makedirs(at.rpartition("/")[0], exist_ok=True)
                with self.system.open(at, "wb") as out:
                    out.write(path.read_bytes())

    def stop(self) -> None:
        """Nobody answers any more, until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def libraries() -> Path:
    """The jars; skips the test where Java or Maven are missing."""
    try:
        return fetched("hdfs", "HDFS")
    except Missing as missing:
        pytest.skip(str(missing))


@contextmanager
def running_hdfs(folder: Path) -> Iterator[Hdfs]:
    """A cluster below `folder`; it ends with whoever started it, however that ends."""
    jars = libraries()
    words = [
        "java", "-Xmx512m", "-XX:+UseSerialGC", "--add-opens", "java.base/java.lang=ALL-UNNAMED",
        f"-Dhadoop.tmp.dir={folder}", "-cp", f"{jars}/*", str(HERE / "hdfs_cluster.java"), str(folder / "dfs"),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
            env=os.environ | {"HADOOP_USER_NAME": USER},
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            pytest.fail(f"HDFS did not start:\n{(folder / 'log').read_text()[-3000:]}")
        system = fsspec.filesystem("webhdfs", host="localhost", port=int(line), user=USER)
        yield Hdfs(int(line), process, system)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """A cluster of its own for this session."""
    folder = tmp_path_factory.mktemp("hdfs")
    with running_hdfs(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)
