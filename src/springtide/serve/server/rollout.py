"""Which version answers a request while another is tried out: a share of them (canary), or unseen (shadow).

Kept beside the registry's versions, in one small file for each model; a request's key decides, so the same key meets
the same version as long as nothing is changed.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from springtide.serve import promotion
from springtide.serve.registry import Registry, Stage
from springtide.spec.errors import SpringtideError, UserError
from springtide.train import durable

_WHOLE = 1 << 64
FILE = "rollout.json"


@dataclass(frozen=True, slots=True)
class Rollout:
    """`canary` answers `share` (0 to 1) of the requests; `shadow` computes all, and its answers are only compared."""

    canary: int | None = None
    share: float = 0.0
    shadow: int | None = None


def falls(key: str, share: float) -> bool:
    """Whether a request of this key is one of the share. Growing the share keeps those that were in it."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") < share * _WHOLE


def path(root: Path, name: str) -> Path:
    """Of the file, in the model's folder."""
    return root / name / FILE


def read(root: Path, name: str) -> Rollout:
    """SpringtideError: the file is damaged."""
    at = path(root, name)
    try:
        return msgspec.json.decode(at.read_bytes(), type=Rollout)
    except FileNotFoundError:
        return Rollout()
    except msgspec.MsgspecError as error:
        raise SpringtideError(f"{at}: cannot be read ({error}); write it anew with `tide model canary`") from None


def write(root: Path, name: str, rollout: Rollout) -> None:
    """On the disk when it returns."""
    at = path(root, name)
    aside = at.with_name(f".{FILE}-{secrets.token_hex(4)}")
    durable.write_file(aside, [msgspec.json.encode(rollout)])
    aside.replace(at)
    durable.sync(at.parent)


def tell(registry: Registry, name: str) -> int:
    """Have every server of the model look again; how many do. SpringtideError: one cannot follow, and says why."""
    try:
        number = registry.version(name, Stage.PRODUCTION).number
    except UserError:  # nothing is in production: whoever is promoted first looks by itself
        return 0
    servers = registry.servers(name)
    for one in servers:
        if why := promotion.refresh(one, number):
            raise SpringtideError(f"{name}: {why}")
    return len(servers)
