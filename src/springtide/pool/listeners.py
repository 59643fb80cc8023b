"""The sockets on which the pool answers: its own Unix socket, and a TCP port if that was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from springtide.pool.api.gate import Peer
from springtide.spec.errors import Refused, UserError
from springtide.train import control

_CREDENTIALS = struct.Struct("3i")
_LEAVE_S = 2  # for which answers that are under way may go on when the server ends
_BACKLOG = 1024
_HEAD_S = 30.0  # within which the first request has begun
_IDLE_S = 60  # between two requests


class WithPeer(H11Protocol):
    """Says in each request of a Unix socket who is at its other end, where no header can reach."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        peer = None
        if connection is not None and connection.family == socket.AF_UNIX:
            pid, uid, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            peer = Peer(uid, pid)
        self.app_state = {**self.app_state, "peer": peer}
        self.loop.call_later(_HEAD_S, self._still_nothing)

    def _still_nothing(self) -> None:
        """Who opens a connection and never asks is let go."""
        if self.cycle is None:
            self.transport.close()


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP address, and what TLS needs there."""

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None

    @property
    def address(self) -> str:
        return f"{'https' if self.cert else 'http'}://{_bracketed(self.host)}:{self.port}"


def listen_at(text: str, cert: Path | None = None, key: Path | None = None, where: str = "--listen") -> Listen:
    """`127.0.0.1:7070`. UserError: no address; a public one without TLS; TLS that cannot be used."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(f'{where}: "{text}" is no address; write 127.0.0.1:7070')
    if (cert is None) != (key is None):
        raise UserError(f"{where}: TLS wants both --tls-cert and --tls-key")
    if cert is None and not _is_loopback(host):
        raise UserError(
            f"{where}: {host} can be reached from other machines, where tokens would travel readable; give --tls-cert "
            f"and --tls-key, or listen on 127.0.0.1:{port}"
        )
    if cert is not None and key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"--tls-cert: {cert} and {key} cannot be used: {error}") from None
    return Listen(host, int(port), cert, key)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def unix(path: Path) -> socket.socket:
    """A socket that every user of the machine may open who can reach its folder."""
    listening = control.listen(path)
    listening.set_inheritable(False)
    path.chmod(0o666)
    listening.listen(_BACKLOG)
    return listening


def tcp(listen: Listen) -> socket.socket:
    """Refused: the port is taken. UserError: this machine has no such address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise UserError(f'--listen: no address is called "{listen.host}"') from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno in (98, 13):
            why = "another process listens there" if error.errno == 98 else "this user may not"
            raise Refused(f"{listen.address} cannot be listened on: {why}; choose another port") from None
        raise UserError(f"--listen: {listen.host} is no address of this machine") from None
    return listening


class Listener(uvicorn.Server):
    """One of the servers of a process; signals are the process's own matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listener(app: ASGIApp, listen: Listen | None = None, **options: Any) -> Listener:
    """For the sockets that its `serve` is given."""
    # Of proxies' headers none is believed, and what is logged is the application's matter.
    return Listener(
        uvicorn.Config(
            app, http=WithPeer, ws="none", loop="asyncio", proxy_headers=False, server_header=False, log_config=None,
            access_log=False, timeout_graceful_shutdown=_LEAVE_S, backlog=_BACKLOG, timeout_keep_alive=_IDLE_S,
            ssl_certfile=str(listen.cert) if listen and listen.cert else None,
            ssl_keyfile=str(listen.key) if listen and listen.key else None, **options,
        )
    )  # fmt: skip
