"""What a replica of a `stream` job tells of its work: GET /health and /metrics, on the socket that the pool hands it.

The socket is passed as systemd does: a descriptor from 3 on, which `LISTEN_FDNAMES` calls `admin`. There is one page
for all calls of `process` in a process, and it is answered to the end of that, so that none who falls silent is taken
for hung because his work is done.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

_FIRST, _NAME = 3, "admin"
_PATIENCE_S = 5.0  # with a caller that says nothing


@dataclass(slots=True)
class Figures:
    """Of one processor, as of the beginning of its last batch."""

    lag: int = 0  # records that wait in the partitions that are held here
    processed: int = 0
    busy_s: float = 0.0  # for which there was something to do
    arrived: int = 0  # records that the source has ever held, all partitions
    partitions: int = 0  # of the source


class Page:
    """The page of this process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Figures] = {}

    def figures(self, source: str, name: str) -> Figures:
        """Those of a processor; it goes on counting where it is begun again."""
        return self._known.setdefault((source, name), Figures())

    def text(self) -> str:
        """The metrics, all processors together; empty before one has looked at its source."""
        known = [one for one in list(self._known.values()) if one.partitions]
        lines = (
            ("lag_records", "gauge", "Records that wait for this replica", sum(one.lag for one in known)),
            ("processed_total", "counter", "Records processed", sum(one.processed for one in known)),
            ("busy_seconds_total", "counter", "Time in which there were records", sum(one.busy_s for one in known)),
            ("arrived_total", "counter", "Records that the source has held", sum(one.arrived for one in known)),
            ("partitions", "gauge", "Partitions of the source", sum(one.partitions for one in known)),
        )
        return (
            ""
            if not known
            else "".join(
                f"# HELP tide_stream_{name} {said}.\n# TYPE tide_stream_{name} {kind}\ntide_stream_{name} {value}\n"
                for name, kind, said, value in lines
            )
        )


@functools.cache
def page() -> Page:
    """The one page; where a socket was handed to this process, a thread answers there from now on."""
    made = Page()
    if (descriptor := _handed()) is not None:
        server = _Server(descriptor, made)
        threading.Thread(target=server.answer, name="page", daemon=True).start()
    return made


def _handed() -> int | None:
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return _FIRST + names.index(_NAME) if mine and _NAME in names else None


class _Server(UnixStreamServer):
    """On a socket that listens already."""

    def __init__(self, descriptor: int, told: Page) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.told = socket.socket(fileno=descriptor), told

    def answer(self) -> None:
        while True:
            self.handle_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked went away; he asks again."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        pages = {"/health": "ok\n", "/metrics": self.server.told.text()}
        body = pages.get(self.path, "there are /health and /metrics\n").encode()
        self.send_response(200 if self.path in pages else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:
        pass
