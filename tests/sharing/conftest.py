"""A pool for each test, of which nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sharing.world import World, a_world


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    with a_world(home) as found:
        yield found
