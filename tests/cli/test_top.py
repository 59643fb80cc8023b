"""`tide top` on a real pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest
from a_pool import APool

import running


class Terminal:
    """`tide top` on a terminal of this size; `screen` is what somebody would see."""

    def __init__(self, home: Path, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.heard = b""
        environment = running.environment(home, TERM="xterm-256color")
        for said in ("COLUMNS", "LINES"):  # the terminal itself is to be asked
            environment.pop(said, None)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.read(0, 1)  # until the size is set
            os.execve(str(running.TIDE), ["tide", "top"], environment)
        self.resize(columns, rows)
        attributes = termios.tcgetattr(self._terminal)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self._terminal, termios.TCSANOW, attributes)
        os.write(self._terminal, b"\n")

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def until(self, text: str) -> list[str]:
        """The lines of the screen once one of them holds the text."""
        limit = time.monotonic() + running.HANGS_SECONDS
        while not any(text in line for line in self.screen.display):
            assert time.monotonic() < limit, "\n".join(self.screen.display)
            self.hear(0.1)
        return list(self.screen.display)

    def hear(self, wait_s: float) -> bool:
        if not select.select([self._terminal], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:
            return False
        self.heard += data
        self._stream.feed(data)
        return bool(data)

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def end(self) -> int:
        while self.hear(running.HANGS_SECONDS):
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def on_terminal(pool: APool, columns: int, rows: int) -> Iterator[Terminal]:
    terminal = Terminal(pool.home, columns, rows)
    try:
        yield terminal
    finally:
        running.strike(terminal.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(terminal.pid, 0)


@pytest.fixture(scope="module")
def busy(pool: APool) -> APool:
    """A pool in which something runs and something waits."""
    for name in ("runs-0", "runs-1", "runs-2", "waits"):
        pool.sleeper(name, "--cpu", "800m", *(("--replicas", "2") if name == "waits" else ()))
    pool.until("runs-2", state="running", replicas=1)
    pool.until("waits", state="waiting")
    return pool


def test_nodes_jobs_and_the_queue_are_on_the_screen_and_q_quits(busy: APool) -> None:
    with on_terminal(busy, 80, 24) as terminal:
        lines = terminal.until("waits")
        assert lines[0].startswith("springtide ")
        assert sum(line.startswith("node-") for line in lines) == 4
        assert any("0.8 of 1 cores" in line and "▒" in line for line in lines)
        assert any(line.startswith("runs-0") and "running" in line for line in lines)
        assert any(line.startswith("waits") and "waiting" in line for line in lines)
        terminal.type(b"q")
        assert terminal.end() == 0
        # The alternate screen: what stood on the terminal before is there again.
        assert b"\x1b[?1049h" in terminal.heard and b"\x1b[?1049l" in terminal.heard


@pytest.mark.parametrize(("columns", "rows"), [(40, 10), (200, 50)])
def test_it_fits_terminals_of_any_size(busy: APool, columns: int, rows: int) -> None:
    with on_terminal(busy, columns, rows) as terminal:
        terminal.until("node-0")
        assert terminal.screen.display[0].startswith("springtide ")
        terminal.type(b"q")
        assert terminal.end() == 0


def test_it_follows_a_terminal_that_grows(busy: APool) -> None:
    with on_terminal(busy, 60, 8) as terminal:
        terminal.until("more nodes")
        terminal.resize(100, 40)
        terminal.until("node-3")
        terminal.type(b"q")
        assert terminal.end() == 0
