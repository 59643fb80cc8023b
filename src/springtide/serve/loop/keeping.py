"""A circle as JSON, and back. Pure; `circle_home` writes it aside and renames it."""

from __future__ import annotations

import json

import msgspec

from springtide.serve.loop.circle import Circle
from springtide.spec.errors import SpringtideError

FORMAT = 1


def encode(circle: Circle) -> bytes:
    """The whole of it; infinities among it, which JSON's own writer keeps."""
    return json.dumps({"format": FORMAT, "circle": msgspec.to_builtins(circle, str_keys=True)}, indent=1).encode()


def decode(content: bytes, where: str) -> Circle:
    """SpringtideError: it is torn, or of another format."""
    try:
        said = json.loads(content)
        if said["format"] != FORMAT:
            raise SpringtideError(f"{where} has format {said['format']}; this Springtide reads format {FORMAT}")
        return msgspec.convert(said["circle"], Circle, strict=False)
    except (ValueError, KeyError, TypeError) as error:
        raise SpringtideError(f"{where} is no state of a loop: {error}") from None
