"""Speech by espeak-ng: its library, which the package espeakng-loader carries, called by ctypes.

espeak keeps one state for its whole process: it is not thread-safe, and how a word sounds depends a little on what was
said before. Who wants the same sounds again says the same words in the same order in a new process.
"""

from __future__ import annotations

import ctypes
from functools import cache

import espeakng_loader
import numpy as np

from springtide.spec.errors import SpringtideError

RATE = 22_050  # samples a second that it gives
_SYNCHRONOUS, _UTF8 = 2, 1
_SPEED, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Mouth:
    """The one speaker of this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        if rate != RATE:
            raise SpringtideError(f"espeak-ng gives {rate} samples a second; {RATE} were expected")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._parts: list[np.ndarray] = []
        self._callback = _Callback(self._hear)  # kept: the library holds no reference to it
        self._library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 32_768)
        return 0

    def say(self, text: str, voice: str, *, speed: int, pitch: int, lilt: int = 50) -> np.ndarray:
        """What `voice` ("en-us+f3") sounds like: float32 in -1..1 at RATE. `speed` in words a minute, others 0..100."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise SpringtideError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_SPEED, speed), (_PITCH, pitch), (_RANGE, lilt)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._parts.clear()
        spoken = text.encode()
        if self._library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, _UTF8, None, None):
            raise SpringtideError(f"espeak-ng did not say {text!r}")
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)


mouth = cache(Mouth)
