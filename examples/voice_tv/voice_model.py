"""The model: a recording in, the command and the new state of the television out.

Two convolutions make 25 frames a second of a hundred, a recurrent layer reads them both ways, and each frame says a
letter or nothing (CTC, Graves 2006). What it spelt is compared with the phrases that are known: the nearest is meant.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import tv as television
from corrections import bands_of
from features import BANDS, log_mel
from sound import from_wav
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from words import LETTERS, LONGEST, PHRASES

from springtide.spec.errors import UserError

SHORTER = 4  # times fewer frames of letters than of sound
SLOTS = 997  # places for phrases that were learnt; two phrases in one make both unreadable, and are left out
HEARD = 2.0  # from which a new phrase counts as known: eight corrections, where a step has four microbatches
FAR = 0.4  # share of its letters that may be wrong before a phrase counts as not understood


class Heard(NamedTuple):
    """What was understood. `command` and `phrase` are None where nothing known is near; confidence 0..1."""

    command: str | None
    phrase: str | None
    text: str
    confidence: float


class Voice(nn.Module):
    """Bands of sound (batch, frames, BANDS) -> letters (batch, frames / 4, LETTERS)."""

    def __init__(self, width: int = 96, phrases: dict[str, str] | None = None) -> None:
        super().__init__()
        self.phrases = phrases or PHRASES
        self.first = nn.Conv1d(BANDS, width, 5, stride=2, padding=2)
        self.second = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.even = nn.LayerNorm(width)
        self.reading = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.1)
        self.letters = nn.Linear(2 * width, len(LETTERS))
        # Phrases that users taught: how often, and the sum of their letters' numbers. Sums, since what a step's
        # microbatches add is averaged: so every correction counts once, with any number of workers.
        self.register_buffer("taught", torch.zeros(SLOTS, 1 + LONGEST))
        self.taught: Tensor

    def spell(self, bands: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities of letters. With `mask` (batch, frames), what only fills up changes nothing."""
        frames = bands.transpose(1, 2)
        for layer in (self.first, self.second):
            frames = F.relu(layer(frames))
            if mask is not None:
                mask = mask[:, ::2]
                frames = frames * mask[:, None]
        frames = self._read(self.even(frames.transpose(1, 2)), mask)
        return self.letters(self.drop(frames)).log_softmax(-1)

    def _read(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None or bool(mask.all()):
            return self.reading(frames)[0]
        packed = pack_padded_sequence(frames, mask.sum(1), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.reading(packed)[0], batch_first=True)[0]

    def forward(self, bands: Tensor, tv: Tensor) -> dict[str, Tensor]:
        """The television's state goes through, so that whichever replica answers needs no memory."""
        return {"letters": self.spell(bands), "tv": tv}

    def learn(self, phrases: Iterable[Sequence[int]]) -> None:
        """Remembers phrases that were not known from the start, given as numbers of letters; 0 fills."""
        for filled in phrases:
            numbers = [number for number in filled if number]
            text = "".join(LETTERS[number] for number in numbers)
            if text not in self.phrases:
                row = self.taught[_slot(text)]
                row[0] += 1
                row[1 : 1 + len(numbers)] += torch.tensor(numbers, dtype=row.dtype)

    def vocabulary(self) -> dict[str, str]:
        """Known phrases and what they command; one that was taught commands what it says."""
        rows = self.taught[self.taught[:, 0] >= HEARD]
        means = rows[:, 1:] / rows[:, :1]
        clear = (means - means.round()).abs().amax(1) < 0.01 if len(means) else []
        taught = ("".join(LETTERS[int(n)] for n in row if n) for row in means[clear].round())
        return self.phrases | {text: text for text in taught}

    def understand(self, letters: Tensor) -> Heard:
        """What one recording's letters (frames, LETTERS) mean."""
        chances, best = letters.exp().max(-1)
        text = collapsed(best.tolist())
        known = self.vocabulary()
        phrase = nearest(text, tuple(known))
        wrong = distance(text, phrase) / max(len(text), len(phrase))
        confidence = round(float(chances.mean()) * (1 - wrong), 3)
        if wrong > FAR:
            return Heard(None, None, text, confidence)
        return Heard(known[phrase], phrase, text, confidence)

    def preprocess(self, body: bytes | dict[str, Any]) -> dict[str, Tensor]:
        """A WAV file, or {"wav": base64, "tv": state}; without a state the TV is one that was just switched on."""
        state = television.TV(on=True)
        if isinstance(body, dict):
            state = television.from_json(body["tv"]) if "tv" in body else state
            try:
                body = base64.b64decode(body["wav"], validate=True)
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise UserError('a JSON request has "wav", a WAV file in base64, and may have "tv"') from None
        bands = log_mel(torch.from_numpy(from_wav(body)))
        return {"bands": bands, "tv": torch.tensor(television.numbers(state), dtype=torch.float32)}

    def postprocess(self, outputs: dict[str, Tensor]) -> dict[str, Any]:
        """{"command", "phrase", "text", "confidence", "tv"}."""
        heard = self.understand(outputs["letters"])
        before = television.from_numbers(outputs["tv"].tolist())
        return heard._asdict() | {"tv": asdict(television.press(before, heard.command))}

    def evaluate(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """The share of recordings whose command is understood: of all, and of each `slice` that records name."""
        right: dict[str, list[bool]] = {"": []}
        heard = [torch.from_numpy(bands_of(found)) for found in records]
        for found, letters in zip(records, self._spelt(heard), strict=True):
            good = self.understand(letters).command == PHRASES.get(found["text"], found["text"])
            for name in {"", found.get("slice", "")}:
                right.setdefault(name, []).append(good)
        parts = {name: {"metrics": {"accuracy": sum(g) / len(g)}, "count": len(g)} for name, g in right.items() if g}
        return {**parts.pop(""), "slices": parts}

    def _spelt(self, heard: Sequence[Tensor]) -> list[Tensor]:
        """The letters of each, those of one length at a time."""
        found: dict[int, Tensor] = {}
        for frames in {len(one) for one in heard}:
            places = [place for place, one in enumerate(heard) if len(one) == frames]
            letters = self.spell(torch.stack([heard[place] for place in places]))
            found |= dict(zip(places, letters, strict=True))
        return [found[place] for place in range(len(heard))]


def build(width: int = 96) -> Voice:
    return Voice(width)


def collapsed(best: Sequence[int]) -> str:
    """Greedy CTC: repeated letters are one, blanks are none."""
    return "".join(LETTERS[n] for n, last in zip(best, [0, *best], strict=False) if n not in (0, last)).strip()


@lru_cache(maxsize=4096)
def nearest(text: str, phrases: tuple[str, ...]) -> str:
    """The phrase of the smallest distance for its length."""
    return min(phrases, key=lambda phrase: distance(text, phrase) / max(len(text), len(phrase)))


def distance(one: str, other: str) -> int:
    """How many letters must be put in, left out or changed (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        before, row[0] = row[0], place
        for column, wanted in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (letter != wanted))
    return row[-1]


def _slot(text: str) -> int:
    found = 0
    for letter in text:
        found = (found * 31 + LETTERS.index(letter)) % SLOTS
    return found
