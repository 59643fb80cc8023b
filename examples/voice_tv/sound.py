"""Sound as numbers: WAV files in and out, and another rate."""

from __future__ import annotations

import io
import math
import wave

import numpy as np

from springtide.spec.errors import UserError

RATE = 16_000  # samples a second, everywhere behind this module
LONGEST_S = 5.0
_RATES = (8_000, 48_000)


def from_wav(body: bytes) -> np.ndarray:
    """The samples of a WAV file (PCM, 16 bits, mono), float32 in -1..1 at RATE. UserError: one sentence."""
    try:
        with wave.open(io.BytesIO(body)) as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise UserError(f"this is no WAV file that can be read ({error}); send PCM, 16 bits, one channel") from None
    if channels != 1:
        raise UserError(f"the WAV has {channels} channels; send one (mono)")
    if width != 2:
        raise UserError(f"the WAV has {8 * width} bits a sample; send 16")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(f"the WAV has {rate} samples a second; send {_RATES[0]} to {_RATES[1]}")
    sound = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32_768
    seconds = sound.size / rate
    if seconds > LONGEST_S:
        raise UserError(f"the WAV lasts {seconds:.1f} s; a command is at most {LONGEST_S:g} s long")
    if not sound.any():
        raise UserError("the WAV is empty or silent; send a spoken command")
    return resampled(sound, rate, RATE)


def to_wav(sound: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV file: PCM, 16 bits, mono."""
    body = io.BytesIO()
    with wave.open(body, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32_767).astype("<i2").tobytes())
    return body.getvalue()


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """The same sound with `wanted` samples a second: its spectrum, cut off or extended."""
    if rate == wanted:
        return sound
    part, its = (of // math.gcd(rate, wanted) for of in (rate, wanted))
    sound = np.pad(sound, (0, -sound.size % part))  # to lengths that a Fourier transform likes
    count = sound.size // part * its
    spectrum = np.fft.rfft(sound)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (wanted / rate)).astype(np.float32)
