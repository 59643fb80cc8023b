"""A small web shop: checks a password for each request, and counts its requests for the pool.

The pool hands over the listening socket as file descriptor 3, which all replicas share, and file descriptor 4 for the
questions of the pool itself: /health and /metrics.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROUNDS = 6_000  # of a password's hash: some milliseconds
MAIN, ADMIN = 3, 4


class Counter:
    """How many requests were answered by this replica."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.total += 1


served = Counter()


class Handler(BaseHTTPRequestHandler):
    """What every answer has in common."""

    timeout = 10.0

    def answer(self, body: str) -> None:
        content = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """A line for each request would be most of the work."""


class Shop(Handler):
    def do_GET(self) -> None:
        served.add()
        digest = hashlib.pbkdf2_hmac("sha256", self.path.encode(), b"salt", ROUNDS)
        self.answer(f"{os.getpid()} {digest.hex()[:8]}\n")


class Admin(Handler):
    def do_GET(self) -> None:
        self.answer(f"tide_requests_total {served.total}\n" if self.path == "/metrics" else "well\n")


class Server(ThreadingHTTPServer):
    """On a socket that listens already. Whoever is being answered is answered before it ends."""

    daemon_threads = False

    def __init__(self, descriptor: int, handler: type[Handler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)  # another replica may have been faster


def main() -> None:
    shop, admin = Server(MAIN, Shop), Server(ADMIN, Admin)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    for server in (shop, admin):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    ended.wait()
    for server in (shop, admin):
        server.shutdown()
        server.server_close()


main()
