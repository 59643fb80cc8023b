"""Folders that nobody needs any more: out of the way at once, removed by and by, in a thread of its own."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

GONE = ".gone"  # beside the folders of jobs
KEPT_LOGS = 100  # of jobs that are over
KEPT_RESULTS = 3  # of jobs of one name that are over


class Broom:
    """See the module. What an earlier pool threw away and did not remove is removed too."""

    def __init__(self, jobs: Path, logs: Path, results: Path) -> None:
        self._gone, self._logs, self._results = jobs / GONE, logs, results
        self._thread: threading.Thread | None = None
        self._again = False
        self._keep: frozenset[str] = frozenset()

    def throw(self, folder: Path) -> None:
        """It is not there any more, as far as anybody can tell."""
        self._gone.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            folder.rename(self._gone / f"{folder.name}-{time.monotonic_ns()}")

    def sweep(self, keep: Iterable[str]) -> None:
        """Remove what was thrown away, and logs and results of jobs but `keep` and the newest that are over."""
        self._keep, self._again = frozenset(keep), True
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="broom", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """The thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._again:
            self._again = False
            self._remove()

    def _remove(self) -> None:
        for path in self._gone.iterdir() if self._gone.exists() else ():
            with contextlib.suppress(OSError):
                (path / "secrets").chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
        for path in self._over(self._logs)[:-KEPT_LOGS]:
            shutil.rmtree(path, ignore_errors=True)
        by_name: dict[str, list[Path]] = {}
        for path in self._over(self._results):
            if any(path.iterdir()):
                by_name.setdefault(path.name.rpartition("-")[0], []).append(path)
            else:
                path.rmdir()
        for paths in by_name.values():
            for path in paths[:-KEPT_RESULTS]:
                shutil.rmtree(path, ignore_errors=True)

    def _over(self, folder: Path) -> list[Path]:
        """What lies there of jobs that are over, the oldest first."""
        kept = list(folder.iterdir()) if folder.exists() else []
        return sorted((path for path in kept if path.name not in self._keep), key=lambda path: path.stat().st_mtime)
