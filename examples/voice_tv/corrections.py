"""What a user said and meant, as a record of a stream: `learnable` makes it of a corrected request."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import torch
from features import BANDS, log_mel
from sound import from_wav
from words import LONGEST, numbers, spelt


def record(bands: np.ndarray, text: str) -> dict[str, str]:
    """Bands (frames, BANDS) and what was said, as JSON can hold them."""
    return {"bands": base64.b64encode(bands.astype("<f2").tobytes()).decode(), "text": text}


def bands_of(found: dict[str, Any]) -> np.ndarray:
    """The bands of a record, float32."""
    return np.frombuffer(base64.b64decode(found["bands"]), "<f2").reshape(-1, BANDS).astype(np.float32)


def sample(value: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A record as training takes it: bands, and numbers of letters."""
    found = json.loads(value)
    return bands_of(found), np.array(numbers(found["text"]))


def learnable(pair: dict[str, Any]) -> dict[str, str] | None:
    """The loop's `prepare`: a request and its correction in, the record out; None where nothing can be learnt of it."""
    text = spelt(pair["correct"]) if isinstance(pair["correct"], str) else ""
    if not 0 < len(text) <= LONGEST:
        return None
    asked = pair["input"]
    sound = from_wav(base64.b64decode(asked.get("base64") or asked["wav"]))
    return record(log_mel(torch.from_numpy(sound)).numpy(), text)
