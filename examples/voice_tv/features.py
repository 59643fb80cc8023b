"""What the network hears: how loud each of 40 bands of pitch is, a hundred times a second."""

from __future__ import annotations

import math
from functools import cache

import torch
from sound import RATE
from torch import Tensor

BANDS, HOP, WINDOW, FFT = 40, 160, 400, 512  # samples: 10 ms, 25 ms
FRAMES_PER_SECOND = RATE // HOP
PIECE = 32  # sounds are padded to whole multiples of that many frames, so that many share a shape
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7_600.0
_SPREAD = 3.0


def mel(frequency_hz: float) -> float:
    """O'Shaughnessy (1987): equal steps of it sound equally far apart."""
    return 2595 * math.log10(1 + frequency_hz / 700)


@cache
def filters() -> Tensor:
    """How much each frequency counts in each band: (FFT // 2 + 1, BANDS), triangles that overlap by half."""
    places = torch.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), BANDS + 2)
    corners = 700 * (10 ** (places / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, FFT // 2 + 1)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(sound: Tensor) -> Tensor:
    """(samples) at RATE -> (frames, BANDS), each band about its mean; frames are a multiple of PIECE, filled with 0."""
    if sound.numel() < FFT:
        sound = torch.nn.functional.pad(sound, (0, FFT - sound.numel()))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(sound, FFT, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True)
    bands = (spectrum.abs().square().T @ filters()).add(1e-6).log()
    bands = (bands - bands.mean(0)) / _SPREAD
    return torch.nn.functional.pad(bands, (0, 0, 0, -len(bands) % PIECE))
