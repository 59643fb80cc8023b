"""Control groups of a pool of the test's own, which are gone afterwards with all that ran in them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from springtide.engines.local.cgroups import Groups, find, reachable

_reach = reachable()
needs_groups = pytest.mark.skipif(
    not {"cpu", "memory", "pids"} <= _reach.offered,
    reason=f"control groups cannot be made here: {dict(_reach.why_not)}",
)


@contextlib.contextmanager
def a_pool(home: Path | None = None) -> Iterator[Groups]:
    groups = find(f"test-{os.getpid()}-{time.monotonic_ns()}", home)
    try:
        yield groups
    finally:
        groups.group().kill()
        deadline = time.monotonic() + 20
        while not groups.group().remove() and time.monotonic() < deadline:
            time.sleep(0.01)
        groups.sweep()
        assert not groups.group().gauge().identity(), "a group is left behind"
