"""The corpus: voices of espeak-ng say the commands in noisy rooms; it is made once, and kept.

`python corpus.py` makes it. Each voice speaks in a process of its own, the same words in the same order, so that the
corpus is the same everywhere. Some voices are held out: only the check hears them.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import espeak
import numpy as np
import sound
import torch
from features import BANDS, log_mel
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
NOISE_DB = (20, 15, 10, 5)  # how much louder the speech is
REPEATS = 2
_EDITION = 1  # of the recipe below


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
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Recorded phrases: recording n is frames[starts[n]:starts[n + 1]], said by voices[n] at noise_db[n]."""

    frames: np.ndarray  # (all frames, BANDS), float16
    starts: np.ndarray
    texts: list[str]
    voices: list[str]
    noise_db: list[float]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def bands(self, number: int) -> np.ndarray:
        """What the network hears of a recording: (frames, BANDS), float32."""
        return self.frames[self.starts[number] : self.starts[number + 1]].astype(np.float32)


def voices(variants: Sequence[str], language: str) -> list[str]:
    """Names that espeak-ng understands; the accents of a language take turns."""
    accents = ACCENTS[language]
    return [f"{accents[place % len(accents)]}+{variant}" for place, variant in enumerate(variants)]


def takes(voice: str, phrases: Sequence[str], repeats: int, noises_db: Sequence[float] | None = None) -> list[Take]:
    """What `voice` says. Without `noises_db` the speech is 5 to 25 dB above the noise."""
    chance = np.random.default_rng(_number(voice, *phrases))
    found = []
    for number, text in enumerate(phrase for _ in range(repeats) for phrase in phrases):
        noise_db = noises_db[number % len(noises_db)] if noises_db else float(chance.uniform(5, 25))
        speed, pitch, lilt = (int(chance.integers(*limits)) for limits in ((130, 211), (25, 76), (30, 81)))
        found.append(Take(text, speed, pitch, lilt, noise_db, int(chance.integers(2**32))))
    return found


def recorded(voice: str, said: Sequence[Take]) -> list[np.ndarray]:
    """How the microphone hears them: float32 at `sound.RATE`. Call it in a process in which nobody has spoken yet."""
    mouth = espeak.mouth()
    clean = []
    for take in said:
        spoken = mouth.say(take.text, voice, speed=take.speed, pitch=take.pitch, lilt=take.lilt)
        clean.append(sound.resampled(spoken, espeak.RATE, sound.RATE))
    speech = np.concatenate(clean)
    return [_in_a_noisy_room(one, take, speech) for one, take in zip(clean, said, strict=True)]


def _in_a_noisy_room(clean: np.ndarray, take: Take, speech: np.ndarray) -> np.ndarray:
    chance = np.random.default_rng(take.seed)
    before, after = (int(chance.uniform(0.05, 0.3) * sound.RATE) for _ in range(2))
    heard = np.pad(clean, (before, after))
    if chance.random() < 0.7:
        answer = sound.echo(chance, fades_s=chance.uniform(0.1, 0.5), distance=chance.uniform(0.2, 0.8))
        heard = sound.in_room(heard, answer)
    power = np.mean(heard[before : before + clean.size] ** 2)
    kind = sound.NOISES[int(chance.integers(len(sound.NOISES)))]
    noise = sound.noise(kind, heard.size, chance, speech) * np.sqrt(power / 10 ** (take.noise_db / 10))
    heard = heard + noise
    return (heard / np.abs(heard).max() * chance.uniform(0.1, 0.9)).astype(np.float32)


def _as_bands(voice_and_takes: Said) -> list[np.ndarray]:
    torch.set_num_threads(1)
    heard = recorded(*voice_and_takes)
    return [log_mel(torch.from_numpy(one)).numpy().astype(np.float16) for one in heard]


def _as_wav(voice_and_takes: Said) -> list[bytes]:
    return [sound.to_wav(one) for one in recorded(*voice_and_takes)]


def wavs(said: Sequence[Said], processes: int = 2) -> Iterator[list[bytes]]:
    """WAV files, voice by voice."""
    yield from _each_alone(_as_wav, said, processes)


def _each_alone(call: Callable[[Said], T], said: Sequence[Said], processes: int) -> Iterator[T]:
    """`call` for each voice in a process of its own, several at a time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["corpus"])
    with context.Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap(call, said, chunksize=1)


def spoken(said: Sequence[Said], processes: int = 2) -> Corpus:
    """A corpus of what the voices say."""
    found = [one for many in _each_alone(_as_bands, said, processes) for one in many]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in found])])
    flat = [(voice, take) for voice, some in said for take in some]
    frames = np.concatenate(found) if found else np.zeros((0, BANDS), np.float16)
    return Corpus(frames, starts, [spelt(t.text) for _, t in flat], [v for v, _ in flat], [t.noise_db for _, t in flat])


def crowd(
    said: Mapping[str, Sequence[str]], variants: Sequence[str], repeats: int, noises_db: Sequence[float] | None = None
) -> list[Said]:
    """Every voice says everything in its language: `said` has the phrases of each."""
    return [
        (voice, takes(voice, phrases, repeats, noises_db))
        for language, phrases in said.items()
        for voice in voices(variants, language)
    ]


def cache_folder() -> Path:
    """Below TIDE_HOME where that is said, else where caches belong."""
    if home := os.environ.get("TIDE_HOME"):
        return Path(home).absolute() / "voice_tv"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "springtide" / "voice_tv"


def training() -> Corpus:
    """All commands by the voices that are not held out."""
    return kept("training", crowd(commands(), VARIANTS, REPEATS))


def checking() -> Corpus:
    """All commands by the held-out voices, at 20, 15, 10 and 5 dB in turn."""
    return kept("checking", crowd(commands(), HELD_OUT, len(NOISE_DB) // 2, NOISE_DB))


def kept(name: str, said: Sequence[Said]) -> Corpus:
    """The corpus of that name, from its folder, else made now and put there whole."""
    folder = cache_folder() / f"{name}-{_number(_EDITION, said):016x}"
    if not folder.exists():
        _keep(spoken(said), folder)
    index = json.loads((folder / "index.json").read_text())
    return Corpus(
        np.load(folder / "frames.npy", mmap_mode="r"), np.array(index.pop("starts")), **index, fingerprint=folder.name
    )


def _keep(made: Corpus, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    np.save(aside / "frames.npy", made.frames)
    index = {"starts": made.starts.tolist(), "texts": made.texts, "voices": made.voices, "noise_db": made.noise_db}
    (aside / "index.json").write_text(json.dumps(index))
    try:
        aside.rename(folder)
    except OSError:  # another process was quicker
        shutil.rmtree(aside)


def _number(*named: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(named).encode(), digest_size=8).digest())


def main() -> None:
    for name, make in (("training", training), ("checking", checking)):
        began_s = time.monotonic()
        made = make()
        spoken_s = len(made.frames) / 100
        print(f"{name}: {len(made):,} recordings by {len(set(made.voices))} voices, {spoken_s / 60:.0f} minutes of")
        print(f"  sound, {made.frames.nbytes / 2**20:.0f} MiB of features, in {time.monotonic() - began_s:.1f} s")


if __name__ == "__main__":
    main()
