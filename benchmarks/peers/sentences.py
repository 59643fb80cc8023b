"""Sequences of very different lengths, and the model that reads them, for all systems."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WORDS, CLASSES = 4000, 10
SAMPLES = 16384
BATCH_SIZE = 64


def sentences() -> tuple[list[Tensor], Tensor]:
    """Word numbers of each sentence and its class; lengths are log-normal, 4 to 200, about 30 in the middle."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.empty(SAMPLES).log_normal_(3.4, 0.6, generator=generator).round().clamp(4, 200).long()
    words = [torch.randint(1, WORDS, (int(length),), generator=generator) for length in lengths]
    return words, torch.randint(CLASSES, (SAMPLES,), generator=generator)


class Reader(nn.Module):
    """Two LSTM layers; the state at the last word decides."""

    def __init__(self, size: int = 192) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, size)
        self.lstm = nn.LSTM(size, size, num_layers=2, batch_first=True)
        self.head = nn.Linear(size, CLASSES)

    def forward(self, words: Tensor, lengths: Tensor, packed: bool = False) -> Tensor:
        """Scores (batch, CLASSES) of `words` (batch, longest), of which `lengths` (batch) are real in each row."""
        embedded = self.embedding(words)
        if packed:
            sequence = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.lstm(sequence)[1][0][-1])
        states = self.lstm(embedded)[0]
        return self.head(states[torch.arange(len(words)), lengths - 1])
