"""What a checkpoint says about itself: one JSON file, written last, that guards itself and the state beside it.

The last line is a hash of all lines before it, so a torn or flipped manifest is known without believing a word of it.
"""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from springtide.spec import SpringtideError
from springtide.train.tensors import hasher

STATE = "state.safetensors"
MANIFEST = "manifest.json"
FORMAT = 1
_CHECK = re.compile(rb',\n  "check": "([0-9a-f]{32})"\n}\n\Z')


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The software that wrote a checkpoint."""

    springtide: str
    torch: str
    python: str

    @classmethod
    def here(cls) -> Versions:
        """Those of this environment, without importing torch."""
        return cls(springtide=_version("springtide"), torch=_version("torch"), python=platform.python_version())


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What decides which samples form microbatch m of step s (Order law)."""

    fingerprint: str
    seed: int
    batch_size: int
    microbatches: int
    sample: float | None = None  # fraction of the data
    count: int = 0  # samples in the data


class ManifestFields(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime says about a state; `config` and `position` are free JSON (nan and infinities are kept)."""

    name: str
    run_id: str
    step: int
    order: Order
    finished: bool = False
    versions: Versions = msgspec.field(default_factory=Versions.here)
    config: dict[str, Any] = {}
    position: dict[str, Any] = {}


class FileCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Size and hash (blake2b of 16 bytes, in hex) of one file."""

    bytes: int
    blake2b: str


class Manifest(ManifestFields, frozen=True, kw_only=True):
    """A checkpoint's manifest; `bytes` is the size of its files without the manifest, `time` unix seconds."""

    format: int = FORMAT
    digest: str
    bytes: int
    files: dict[str, FileCheck]
    time: float

    @classmethod
    def of(cls, about: ManifestFields, digest: str, size_bytes: int, time: float) -> Manifest:
        """The manifest of a state that was written as one file; its digest is the file's hash."""
        fields = {name: getattr(about, name) for name in ManifestFields.__struct_fields__}
        files = {STATE: FileCheck(bytes=size_bytes, blake2b=digest)}
        return cls(**fields, digest=digest, bytes=size_bytes, files=files, time=time)


def encode(manifest: Manifest) -> bytes:
    """The manifest file: JSON, two spaces deep, ending in the hash of what precedes."""
    # The standard library's JSON, since a diverged run's nan must survive and an integer may have any size.
    text = json.dumps({"format": manifest.format, **msgspec.to_builtins(manifest)}, indent=2, ensure_ascii=False)
    body = text.encode().removesuffix(b"\n}")
    return body + b',\n  "check": "' + _hash(body).encode() + b'"\n}\n'


def decode(content: bytes, where: str) -> Manifest:
    """The manifest in a file's content. SpringtideError: torn, changed, of another format, or not a manifest."""
    found = _CHECK.search(content)
    if found is None:
        raise SpringtideError(f"{where} is torn: it does not end in its check")
    if _hash(content[: found.start()]) != found[1].decode():
        raise SpringtideError(f"{where} was changed: its content and its check disagree")
    try:
        fields = json.loads(content)
        if fields.get("format") != FORMAT:
            raise SpringtideError(f"{where} has format {fields.get('format')}; this Springtide reads format {FORMAT}")
        manifest = msgspec.convert(fields, Manifest)
        if STATE not in manifest.files or any("/" in name for name in manifest.files):
            raise ValueError(f"its files must be names beside it, {STATE} among them")
    except (ValueError, AttributeError, RecursionError) as error:
        raise SpringtideError(f"{where} is not a checkpoint's manifest: {error}") from None
    return manifest


def _hash(body: bytes) -> str:
    total = hasher()
    total.update(body)
    return str(total.hexdigest())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
