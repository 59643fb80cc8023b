"""Who asks, whether he may ask here, and how often: what every request must pass."""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from springtide.pool.access import EVERYWHERE, NOBODY, Identity, Scope
from springtide.pool.refusals import Malformed, TooMany, Unauthenticated
from springtide.pool.tokens import Tokens
from springtide.spec.sharing import DEFAULT_TEAM

RATE_PER_S, BURST = 100.0, 200.0
_MOST_BUCKETS = 10_000
_LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]"))


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a Unix socket, as the kernel tells of it."""

    uid: int
    pid: int


def identity_of(peer: Peer) -> Identity:
    """The machine's own users: who runs the pool and root rule it, all others are members of the default team."""
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        name = f"user {peer.uid}"
    if peer.uid in (0, os.getuid()):
        return Identity(name, {EVERYWHERE: Scope.ADMIN}, trusted=True)
    return Identity(name, {DEFAULT_TEAM: Scope.MEMBER})


@dataclass(frozen=True, slots=True)
class Gate:
    """`hosts`: names by which the TCP listener may be called, with its port; None: any, since TLS proves the name."""

    tokens: Tokens
    rates: Rates
    hosts: frozenset[str] | None = frozenset()

    def identify(self, scope: Mapping[str, Any]) -> Identity:
        """Who asks; a token goes before the user of the socket. Unauthenticated: a token that is not good."""
        header = _header(scope, b"authorization")
        if header is not None:
            kind, _, token = header.partition(" ")
            if kind.lower() != "bearer" or not token.strip():
                raise Unauthenticated("the Authorization header is not understood; write Authorization: Bearer TOKEN")
            return self.tokens.identify(token.strip())
        peer = peer_of(scope)
        return NOBODY if peer is None else identity_of(peer)

    def check_host(self, scope: Mapping[str, Any]) -> None:
        """Malformed: a page of another site may not ask in the name of its reader (DNS rebinding)."""
        if self.hosts is None or peer_of(scope) is not None:
            return
        host = (_header(scope, b"host") or "").lower()
        if host not in self.hosts:
            raise Malformed(
                f'this pool is not called "{host[:80]}"; call it by {" or ".join(sorted(self.hosts)) or "its socket"}'
            )


def hosts(host: str, port: int) -> frozenset[str]:
    """What may stand in a Host header for a listener at that address of this machine alone."""
    names = _LOCAL_HOSTS | {f"[{host}]" if ":" in host else host.lower()}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == 80 else frozenset())


def peer_of(scope: Mapping[str, Any]) -> Peer | None:
    """Put there by the listener of the Unix socket, never by a header; None: the request came by TCP."""
    peer = scope.get("state", {}).get("peer")
    return peer if isinstance(peer, Peer) else None


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


class Rates:
    """A bucket of tokens for each asker: so many requests at once, so many per second for long."""

    def __init__(
        self, per_s: float = RATE_PER_S, burst: float = BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, who: Identity) -> None:
        """TooMany: the bucket is empty."""
        if who.trusted:
            return
        now_s = self._clock()
        with self._lock:
            left, at_s = self._buckets.get(who.name, (self._burst, now_s))
            left = min(self._burst, left + (now_s - at_s) * self._per_s)
            if left < 1.0:
                raise TooMany(
                    f"{who.name} asks more than {self._per_s:g} times a second; wait a moment",
                    (1.0 - left) / self._per_s,
                )
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.clear()
            self._buckets[who.name] = left - 1.0, now_s
