"""The room in which one speaks: what is reflected, and what else is heard there."""

from __future__ import annotations

import numpy as np
from sound import RATE

NOISES = ("white", "pink", "hum", "babble")


def heard(clean: np.ndarray, noise_db: float, seed: int, speech: np.ndarray) -> np.ndarray:
    """What a microphone somewhere in a room hears of `clean`, which is `noise_db` louder than the noise of the room.

    The seed names the room, the noise and the silence before and after. Babble is made of `speech`.
    """
    chance = np.random.default_rng(seed)
    before, after = (int(chance.uniform(0.05, 0.3) * RATE) for _ in range(2))
    found = np.pad(clean, (before, after))
    if chance.random() < 0.7:
        answer = echo(chance, fades_s=chance.uniform(0.1, 0.5), distance=chance.uniform(0.2, 0.8))
        found = in_room(found, answer)
    power = np.mean(found[before : before + clean.size] ** 2)
    kind = NOISES[int(chance.integers(len(NOISES)))]
    disturbing = noise(kind, found.size, chance, speech) * np.sqrt(power / 10 ** (noise_db / 10))
    found = found + disturbing
    return (found / np.abs(found).max() * chance.uniform(0.1, 0.9)).astype(np.float32)


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
