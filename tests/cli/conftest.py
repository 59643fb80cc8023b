"""A real pool for the tests of the commands that speak to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from a_pool import NODES, APool, end


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[APool]:
    """One pool for the tests of a module: four nodes of a core."""
    pool = APool(tmp_path_factory.mktemp("pool"))
    try:
        pool.done("up", "-d", "--virtual", NODES)
        yield pool
    finally:
        end(pool)


@pytest.fixture
def own_pool(tmp_path: Path) -> Iterator[APool]:
    """The commands of a pool that the test starts and ends itself."""
    pool = APool(tmp_path / "home")
    yield pool
    end(pool)
