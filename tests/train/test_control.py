"""The control socket: messages arrive whole, however they were cut, and only their user may send any."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from springtide.train import control
from springtide.train.control import Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the raw other end of it."""
    mine, theirs = socket.socketpair()
    yield Channel(mine), theirs
    mine.close()
    theirs.close()


def test_a_message_in_pieces_arrives_once_it_is_whole(pair: tuple[Channel, socket.socket]) -> None:
    channel, raw = pair
    raw.sendall(b'{"do": "st')
    assert channel.ready() == []
    raw.sendall(b'op"}\n{"do": "resize"}\n{"x')
    assert channel.ready() == [{"do": "stop"}, {"do": "resize"}]
    raw.sendall(b'": 1}\n')
    assert channel.receive() == {"x": 1}


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b"\xff\n", b"\n"])
def test_what_is_no_message_becomes_one_that_nobody_answers_to(
    line: bytes, pair: tuple[Channel, socket.socket]
) -> None:
    channel, raw = pair
    raw.sendall(line)
    assert channel.receive() == {"do": "nonsense"}


def test_the_end_of_a_conversation_is_told(pair: tuple[Channel, socket.socket]) -> None:
    channel, raw = pair
    raw.sendall(b'{"half": ')
    raw.close()
    assert channel.receive() is None
    assert channel.ready() is None


def test_a_call_is_answered_over_a_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 20) / ("er" * 20) / "control.sock"
    path.parent.mkdir(parents=True)
    assert len(str(path)) > 108
    with control.listen(path) as server:
        caller = control.connect(path, 5)
        called = Channel(server.accept()[0])
        caller.send({"do": "stop"})
        assert called.receive() == {"do": "stop"}
        called.send({"ok": True})
        assert caller.receive() == {"ok": True}
        caller.close()
        called.close()


def test_only_its_user_may_open_the_socket_and_one_without_an_owner_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control.listen(path).close()
    assert path.exists(), "as a killed run leaves it"
    with control.listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        control.connect(path, 5).close()
