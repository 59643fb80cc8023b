"""What the gate judges by: recordings of the voices that nobody trains on. `python check.py` writes check.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import corpus
from corrections import record

ONE_IN = 3  # of the recordings


def write(path: Path) -> None:
    """One record a line, each with its language as its `slice`."""
    heard = corpus.checking()
    with path.open("w") as file:
        for number in range(0, len(heard), ONE_IN):
            language = "german" if heard.voices[number].startswith("de") else "english"
            found = record(heard.bands(number), heard.texts[number]) | {"slice": language}
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    write(Path("check.jsonl"))
