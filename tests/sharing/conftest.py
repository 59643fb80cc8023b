"""A pool for each test, of which nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sharing.world import World


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    """The pool is not started yet: the test says with which nodes and rules."""
    found = World(home)
    yield found
    found.end()
