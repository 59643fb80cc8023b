"""Which records are never trained on: every tenth id, by hash. Pure."""

from __future__ import annotations

import hashlib

ONE_IN = 10


def held_out(id: str) -> bool:
    """Whether the request of this id is for judging. The same for ever, and everywhere: it depends on the id alone."""
    digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % ONE_IN == 0
