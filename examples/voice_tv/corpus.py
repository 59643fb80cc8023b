"""The corpus: voices of espeak-ng say the commands in noisy rooms; it is made once, and kept.

`python corpus.py` makes it, the same everywhere. Some voices are held out: only the check hears them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import speaking
from features import FRAMES_PER_SECOND
from speaking import Said, Take
from words import commands, spelt

ACCENTS = {"en": ("en-us", "en-gb-x-rp", "en-gb-scotland", "en", "en-029", "en-gb-x-gbclan"), "de": ("de",)}
VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m8", "f1", "f2", "f3", "f5", "Alex", "Alicia", "Andrea", "Andy", "Diogo"),
    *("Gene", "Henrique", "Hugo", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Reed", "RicishayMax", "adam"),
    *("anika", "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "gustave", "grandpa"),
    *("ian", "iven", "john", "kaukovalta", "marcelo", "michel", "miguel", "pablo", "pedro", "quincy", "robert"),
    *("sandro", "shelby", "steph", "victor"),
)
HELD_OUT = ("m7", "f4", "Annie", "Denis", "aunty", "linda", "max", "norbert", "paul", "travis")
NOISE_DB = (20, 15, 10, 5)  # how much louder than the noise the voices of the check are
REPEATS = 2
_EDITION = 1  # of how recordings are made


@dataclass(frozen=True, slots=True)
class Corpus:
    """Recorded phrases: recording n is frames[starts[n]:starts[n + 1]], said by voices[n] at noise_db[n]."""

    frames: np.ndarray  # (all frames, BANDS), float16
    starts: np.ndarray
    texts: list[str]
    voices: list[str]
    noise_db: list[float]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.texts)

    def bands(self, number: int) -> np.ndarray:
        """What the network hears of a recording: (frames, BANDS), float32."""
        return self.frames[self.starts[number] : self.starts[number + 1]].astype(np.float32)


def voices(variants: Sequence[str], language: str) -> list[str]:
    """Names that espeak-ng understands; the accents of a language take turns."""
    accents = ACCENTS[language]
    return [f"{accents[place % len(accents)]}+{variant}" for place, variant in enumerate(variants)]


def takes(voice: str, phrases: Sequence[str], repeats: int, noises_db: Sequence[float] = ()) -> list[Take]:
    """What `voice` says. Without `noises_db` the speech is 5 to 25 dB above the noise."""
    chance = np.random.default_rng(_number(voice, *phrases))
    found = []
    for number, text in enumerate(phrase for _ in range(repeats) for phrase in phrases):
        noise_db = noises_db[number % len(noises_db)] if noises_db else float(chance.uniform(5, 25))
        speed, pitch, lilt = (int(chance.integers(*limits)) for limits in ((130, 211), (25, 76), (30, 81)))
        found.append(Take(text, speed, pitch, lilt, noise_db, int(chance.integers(2**32))))
    return found


def crowd(
    phrases: Mapping[str, Sequence[str]], variants: Sequence[str], repeats: int, noises_db: Sequence[float] = ()
) -> list[Said]:
    """Every voice says everything in its language: `phrases` of each."""
    return [
        (voice, takes(voice, some, repeats, noises_db))
        for language, some in phrases.items()
        for voice in voices(variants, language)
    ]


def training() -> Corpus:
    """All commands by the voices that are not held out."""
    return kept("training", crowd(commands(), VARIANTS, REPEATS))


def checking() -> Corpus:
    """All commands by the held-out voices, at each of NOISE_DB in turn."""
    return kept("checking", crowd(commands(), HELD_OUT, REPEATS, NOISE_DB))


def kept(name: str, said: Sequence[Said]) -> Corpus:
    """The corpus of that name, from its folder, else made now and put there whole."""
    folder = cache_folder() / f"{name}-{_number(_EDITION, said):016x}"
    if not folder.exists():
        _keep(folder, said)
    index = json.loads((folder / "index.json").read_text())
    starts = np.array(index.pop("starts"))
    return Corpus(np.load(folder / "frames.npy", mmap_mode="r"), starts, **index, fingerprint=folder.name)


def cache_folder() -> Path:
    """VOICE_TV where it is said (a job of the pool has a home of its own), below TIDE_HOME, or where caches belong."""
    if named := os.environ.get("VOICE_TV"):
        return Path(named)
    if home := os.environ.get("TIDE_HOME"):
        return Path(home).absolute() / "voice_tv"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "springtide" / "voice_tv"


def _keep(folder: Path, said: Sequence[Said]) -> None:
    found = [one for many in speaking.spoken(said, speaking.BANDS) for one in many]
    flat = [(voice, take) for voice, some in said for take in some]
    index = {
        "starts": [0, *np.cumsum([len(one) for one in found]).tolist()],
        "texts": [spelt(take.text) for _, take in flat],
        "voices": [voice for voice, _ in flat],
        "noise_db": [take.noise_db for _, take in flat],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    np.save(aside / "frames.npy", np.concatenate(found))
    (aside / "index.json").write_text(json.dumps(index))
    try:
        aside.rename(folder)
    except OSError:  # another process was quicker
        shutil.rmtree(aside)


def _number(*named: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(named).encode(), digest_size=8).digest())


def told(name: str, make: Callable[[], Corpus]) -> str:
    """Makes it, and says what it is."""
    began_s = time.monotonic()
    made = make()
    minutes = len(made.frames) / FRAMES_PER_SECOND / 60
    return (
        f"{name}: {len(made):,} recordings by {len(set(made.voices))} voices, {minutes:.0f} minutes of sound, "
        f"{time.monotonic() - began_s:.1f} s"
    )


if __name__ == "__main__":
    print(told("training", training))
    print(told("checking", checking))
