"""Asks an HTTP server over many connections at once, each with one request under way, and says how long answers took.

`python -m benchmarks.asking PORT PATH BODY_FILE CONNECTIONS SECONDS` prints a JSON object. One thread and raw sockets:
about 15 microseconds of a core for a request, so that it is not itself what is measured.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from pathlib import Path

_BLOCK = 1 << 18


class Connection:
    """One caller: sends, waits for the whole answer, sends again."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request, self._found, self._length = port, request, b"", -1
        self.over = False  # the server says that it closes this connection
        self.connect()
        self.sent_s = 0.0

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.over = False

    def send(self) -> None:
        self._found, self._length = b"", -1
        self.sent_s = time.perf_counter()
        self.socket.sendall(self._request)

    def read(self) -> int | None:
        """The status once all is there; None: more is to come. OSError: the connection ended."""
        block = self.socket.recv(_BLOCK)
        if not block:
            raise ConnectionResetError
        self._found += block
        if self._length < 0:
            head, found, _ = self._found.partition(b"\r\n\r\n")
            if not found:
                return None
            lower = head.lower()
            self.over = b"connection: close" in lower
            at = lower.index(b"content-length:") + 15
            self._length = len(head) + 4 + int(lower[at : at + 20].split(b"\r\n")[0])
        return int(self._found[9:12]) if len(self._found) >= self._length else None


def ask(port: int, path: str, body: bytes, connections: int, seconds: float, warm_s: float = 1.0) -> dict[str, object]:
    """Latencies in seconds of what was answered after the warm-up, sorted; and what failed."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        one = Connection(port, head.encode() + body)
        selector.register(one.socket, selectors.EVENT_READ, one)
        one.send()
    begun = time.perf_counter()
    delays: list[float] = []
    failed = 0
    cpu_s, before = 0.0, 0
    counting = False
    while (now := time.perf_counter()) < begun + warm_s + seconds:
        if not counting and now >= begun + warm_s:
            counting, cpu_s, began_s = True, time.process_time(), now
        for key, _ in selector.select(1.0):
            one = key.data
            status = one.read()
            if status is None:
                continue
            if counting:
                delays.append(time.perf_counter() - one.sent_s)
                failed += status != 200
            before += not counting
            if one.over:
                selector.unregister(one.socket)
                one.socket.close()
                one.connect()
                selector.register(one.socket, selectors.EVENT_READ, one)
            one.send()
    took_s = time.perf_counter() - began_s
    delays.sort()
    return {
        "count": len(delays), "before": before, "failed": failed, "rate": len(delays) / took_s,
        "p50_s": delays[len(delays) // 2], "p99_s": delays[len(delays) * 99 // 100], "longest_s": delays[-1],
        "own_share": (time.process_time() - cpu_s) / took_s,
    }  # fmt: skip


if __name__ == "__main__":
    port, path, file, connections, seconds = sys.argv[1:]
    print(json.dumps(ask(int(port), path, Path(file).read_bytes(), int(connections), float(seconds))))
