"""What tests against real systems share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from kafka_broker import Broker, Missing


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for this session; a test that kills it starts it again. Skips where Java or Maven are missing."""
    folder = tmp_path_factory.mktemp("kafka")
    try:
        broker = Broker(folder)
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        yield broker.start()
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)
