"""A user of the words service: says words, hears what was understood, and corrects what was not.

`python use.py mute 100` says "mute" a hundred times and tells the right word each time; without a number it only says
how often it was understood.
"""

from __future__ import annotations

import json
import random
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

from sounds import sound

PORT = 18090


def post(path: str, body: dict[str, Any], port: int = PORT) -> dict[str, Any]:
    """The answer of the model server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def say(word: str, draw: random.Random, port: int = PORT) -> dict[str, Any]:
    """One utterance: `id`, `version` and `output` of the answer."""
    return post("/models/words", {"sound": sound(word, draw)}, port)


def correct(answer: dict[str, Any], word: str, port: int = PORT) -> None:
    """That the word was this one."""
    post("/feedback", {"id": answer["id"], "correct": word}, port)


def understood(words: Sequence[str], draw: random.Random, port: int = PORT, many: int = 50) -> float:
    """The share of utterances that were understood."""
    said = [words[number % len(words)] for number in range(many)]
    return sum(say(word, draw, port)["output"] == word for word in said) / many


def main() -> None:
    """Says a word, or says and corrects it so many times."""
    word, many = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    draw = random.Random()
    for _ in range(many):
        correct(say(word, draw), word)
    answer = say(word, draw)
    print(f'"{word}" is understood {understood([word], draw):.0%} of the time, by version {answer["version"]}')


if __name__ == "__main__":
    main()
