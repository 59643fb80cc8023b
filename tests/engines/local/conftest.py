"""A home for a local engine, in which nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import running
from engines.local.jobs import Seen, of_engine
from springtide.engines.local.engine import LocalEngine


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A TIDE_HOME. The test fails if a process or a control group of it outlives the test."""
    home = tmp_path / "tide"
    yield home
    living = of_engine(home)
    running.strike(list(living))
    running.wait_until(lambda: not of_engine(home), "what was left is dead")
    engine = LocalEngine(home)
    groups = engine._groups.names()
    engine.close()
    assert not living, f"left behind: {living}"
    assert not groups, f"control groups left behind: {groups}"


@pytest.fixture
def seen(place: Path) -> Iterator[Seen]:
    """An engine, and what it sees. At the end all its jobs are forgotten."""
    found = Seen(LocalEngine(place))
    yield found
    for job in list(found.engine._jobs):
        found.engine.forget(job)

    def nobody() -> bool:
        found.engine.wait(0.02)
        return not found.engine._jobs

    running.wait_until(nobody, "all jobs are gone")
    found.engine.close()
