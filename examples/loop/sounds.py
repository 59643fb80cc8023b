"""Words as a microphone might give them: sixteen numbers each, and noise. `python sounds.py` writes the files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = ("up", "down", "left", "right", "mute")
KNOWN = WORDS[:4]  # what is in the files
SIZE, NOISE = 16, 0.45


def sound(word: str, draw: random.Random) -> list[float]:
    """One utterance of a word."""
    shape = random.Random(f"voice of {word}")
    return [round(shape.gauss(0.0, 1.0) + draw.gauss(0.0, NOISE), 3) for _ in range(SIZE)]


def record(pair: dict[str, Any]) -> dict[str, Any] | None:
    """What training sees of a request and its correction: the `prepare` function of the loop."""
    if pair["correct"] not in WORDS:
        return None
    return {"x": pair["input"]["sound"], "y": WORDS.index(pair["correct"])}


def write(folder: Path, bulk: int = 2000, held_out: int = 200) -> None:
    """bulk.jsonl for training, held_out.jsonl for the gate: both of the four known words."""
    draw = random.Random(1)
    with (folder / "bulk.jsonl").open("w") as file:
        for _ in range(bulk):
            word = draw.choice(KNOWN)
            file.write(json.dumps({"x": sound(word, draw), "y": WORDS.index(word)}) + "\n")
    with (folder / "held_out.jsonl").open("w") as file:
        for number in range(held_out):
            word = KNOWN[number % len(KNOWN)]
            file.write(json.dumps({"input": {"sound": sound(word, draw)}, "correct": word, "slice": word}) + "\n")


if __name__ == "__main__":
    write(Path(__file__).parent)
