"""Kafka does what every stream does."""

from __future__ import annotations

import secrets

import pytest
from kafka_broker import Broker

from springtide.data.streams import open_stream
from stream_contract import *  # noqa: F403
from stream_contract import MakesStreams

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("kafka")]


@pytest.fixture
def a_stream(kafka: Broker) -> MakesStreams:
    def make(partitions: int = 1) -> str:
        url = kafka.topic(f"contract-{secrets.token_hex(4)}")
        open_stream(url, create=True, partitions=partitions).close()
        return url

    return make
