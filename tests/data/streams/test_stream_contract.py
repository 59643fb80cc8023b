"""The embedded log does what every stream does."""

from __future__ import annotations

from pathlib import Path

import pytest

from springtide.data.streams import open_stream
from stream_contract import *  # noqa: F403
from stream_contract import MakesStreams


@pytest.fixture
def a_stream(tmp_path: Path) -> MakesStreams:
    def make(partitions: int = 1) -> str:
        url = f"log://{tmp_path / 'log'}"
        open_stream(url, create=True, partitions=partitions).close()
        return url

    return make
