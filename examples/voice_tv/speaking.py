"""Processes that speak. `python speaking.py FOLDER KIND` reads who says what from its input, one voice a line.

espeak keeps what it said in mind, so each voice speaks in a fork of its own. This process has one thread and has not
spoken itself, which is what makes it safe to fork; whoever asks may have any number of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import espeak
import numpy as np
import room
import torch
from features import log_mel
from sound import RATE, resampled

from springtide.spec.errors import SpringtideError

BANDS, SOUND = "bands", "sound"  # kinds: what the network hears of a recording, or its samples


@dataclass(frozen=True, slots=True)
class Take:
    """One phrase to be said. Speed in words a minute, pitch and lilt 0..100; `seed` names the room and the noise."""

    text: str
    speed: int
    pitch: int
    lilt: int
    noise_db: float
    seed: int


Said = tuple[str, list[Take]]  # a voice, and all that it says


def recorded(voice: str, takes: Sequence[Take]) -> list[np.ndarray]:
    """How the microphone hears them: float32 at RATE. Call it in a process in which nobody has spoken yet."""
    mouth = espeak.mouth()
    clean = []
    for take in takes:
        spoken = mouth.say(take.text, voice, speed=take.speed, pitch=take.pitch, lilt=take.lilt)
        clean.append(resampled(spoken, espeak.RATE, RATE))
    speech = np.concatenate(clean)
    return [room.heard(one, take.noise_db, take.seed, speech) for one, take in zip(clean, takes, strict=True)]


def spoken(said: Sequence[Said], kind: str, processes: int = 2) -> Iterator[list[np.ndarray]]:
    """All that each voice says, voice by voice, as KIND. SpringtideError: espeak failed."""
    with tempfile.TemporaryDirectory(prefix="speaking-") as folder:
        asked = [list(enumerate(said))[part::processes] for part in range(processes)]
        running = [_started(Path(folder), kind, part) for part in asked if part]
        try:
            for one in running:
                if one.wait():
                    raise SpringtideError(f"a process that speaks ended with exit code {one.returncode}")
        finally:
            for one in running:
                one.kill()
                one.wait()
        for number in range(len(said)):
            with np.load(Path(folder) / f"{number}.npz") as made:
                yield np.split(made["all"], made["ends"][:-1])


def _started(folder: Path, kind: str, part: list[tuple[int, Said]]) -> subprocess.Popen[str]:
    lines = folder / f"{part[0][0]}.jsonl"
    told = ((number, voice, [asdict(take) for take in takes]) for number, (voice, takes) in part)
    lines.write_text("".join(json.dumps(one) + "\n" for one in told))
    with lines.open() as asked:
        return subprocess.Popen([sys.executable, __file__, str(folder), kind], stdin=asked, text=True)


def main() -> int:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    for line in sys.stdin.read().splitlines():
        number, voice, takes = json.loads(line)
        child = os.fork()
        if not child:
            _speak(folder / f"{number}.npz", kind, voice, [Take(**take) for take in takes])
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            return 1
    return 0


def _speak(path: Path, kind: str, voice: str, takes: list[Take]) -> None:
    torch.set_num_threads(1)
    heard = recorded(voice, takes)
    if kind == BANDS:
        heard = [log_mel(torch.from_numpy(one)).numpy().astype(np.float16) for one in heard]
    np.savez(path, all=np.concatenate(heard), ends=np.cumsum([len(one) for one in heard]))


if __name__ == "__main__":
    raise SystemExit(main())
