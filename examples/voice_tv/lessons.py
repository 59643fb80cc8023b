"""What the network learns from: recordings of like length together, and how wrong it is about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from corpus import Corpus
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from voice_model import SHORTER, Voice
from words import LETTERS, PHRASES, numbers

from springtide import data


class Recordings:
    """(bands, numbers of letters) of each recording."""

    pure = True  # draws no random numbers

    def __init__(self, recorded: Corpus) -> None:
        self.recorded, self.fingerprint = recorded, recorded.fingerprint

    def __len__(self) -> int:
        return len(self.recorded)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self.recorded.bands(number), np.array(numbers(self.recorded.texts[number]))


def sequences(recorded: Corpus):
    """Recordings of like length together, bands and letters filled with 0."""
    return data.by_length(Recordings(recorded), np.diff(recorded.starts), sequences=(0, 1))


def together(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[data.Padded, data.Padded]:
    """A batch of recordings, as `sequences` makes it, for those that come as a stream."""
    bands, texts = ([torch.as_tensor(one) for one in column] for column in zip(*samples, strict=True))
    return _filled(bands), _filled(texts)


def _filled(some: list[Tensor]) -> data.Padded:
    mask = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in some], batch_first=True)
    return data.Padded(pad_sequence(some, batch_first=True), mask)


def thinned(bands: Tensor) -> Tensor:
    """With some bands and some moments left out (SpecAugment, Park 2019), drawn anew for each microbatch."""
    bands = bands.clone()
    for one in bands:
        for part, most in ((one, 10), (one.T, 6)):
            width = int(torch.randint(most + 1, ()))
            start = int(torch.randint(len(part) - width, ()))
            part[start : start + width] = 0
    return bands


def loss_of(model: Voice, heard: data.Padded, text: data.Padded) -> Tensor:
    """CTC: the chance of all ways to say the text, for each letter of it."""
    letters = model.spell(thinned(heard.values), heard.mask)
    lengths = heard.mask.sum(1) // SHORTER, text.mask.sum(1)
    return F.ctc_loss(letters.transpose(0, 1), text.values, *lengths, zero_infinity=True)


def judge(model: Voice, heard: data.Padded, text: data.Padded) -> dict[str, Tensor]:
    """Whether the command was understood."""
    said = ["".join(LETTERS[n] for n in row if n) for row in text.values.tolist()]
    frames = (heard.mask.sum(1) // SHORTER).tolist()
    spelt = (letters[:many] for letters, many in zip(model.spell(heard.values, heard.mask), frames, strict=True))
    right = [model.understand(letters).command == PHRASES[phrase] for letters, phrase in zip(spelt, said, strict=True)]
    return {"accuracy": torch.tensor(right, dtype=torch.float32).mean()}
