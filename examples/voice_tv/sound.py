"""Sound as numbers: WAV in and out, another rate, the noise and the echo of a room."""

from __future__ import annotations

import io
import math
import wave

import numpy as np

from springtide.spec.errors import UserError

RATE = 16_000  # samples a second, everywhere behind this module
LONGEST_S = 5.0
_RATES = (8_000, 48_000)
NOISES = ("white", "pink", "hum", "babble")


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


def noise(kind: str, count: int, chance: np.random.Generator, speech: np.ndarray) -> np.ndarray:
    """`count` samples of a kind of NOISES with power 1. Babble is made of `speech`."""
    match kind:
        case "white":
            found = chance.standard_normal(count)
        case "pink":
            waves = np.fft.rfft(chance.standard_normal(_likes(count)))
            found = np.fft.irfft(waves / np.sqrt(np.arange(waves.size) + 1.0))[:count]
        case "hum":
            time_s = np.arange(count) / RATE
            found = sum(np.sin(2 * np.pi * (50 * k * time_s + chance.random())) / k for k in range(1, 12))
            found = found + 0.3 * chance.standard_normal(count)
        case "babble":
            places = chance.integers(0, speech.size - 1, 6)
            found = sum(np.take(speech, np.arange(start, start + count), mode="wrap") for start in places)
            found = found + 1e-3 * chance.standard_normal(count)
        case _:
            raise ValueError(kind)
    return (found / np.sqrt(np.mean(found**2) + 1e-12)).astype(np.float32)


def echo(chance: np.random.Generator, *, fades_s: float, distance: float) -> np.ndarray:
    """A room's answer to a click: a few early reflections, then noise that fades by 60 dB in `fades_s`.

    `distance` is how strong what is reflected is beside the direct sound. As in Polack's model of late reverberation.
    """
    count = max(2, int(fades_s * RATE))
    tail = chance.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: int(0.005 * RATE)] = 0
    for place in chance.integers(int(0.003 * RATE), min(count, int(0.03 * RATE)), 5):
        tail[place] += chance.choice([-1.0, 1.0]) * chance.uniform(1, 4)
    answer = distance * tail / np.sqrt(np.sum(tail**2))
    answer[0] = 1.0
    return answer.astype(np.float32)


def in_room(sound: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """`sound` as it is heard in the room: as long as before."""
    count = _likes(sound.size + answer.size)
    return np.fft.irfft(np.fft.rfft(sound, count) * np.fft.rfft(answer, count), count)[: sound.size].astype(np.float32)


def _likes(count: int) -> int:
    """The next length from `count` on that a Fourier transform likes."""
    return 1 << (count - 1).bit_length()
