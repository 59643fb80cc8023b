"""People who speak to televisions: some only do, in voices that nobody trains on; others correct what was not right."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import speaking
from remote import Remote
from sound import to_wav
from speaking import Said
from words import PHRASES

from shown.recording import NEW, Answer, Story
from springtide.spec.errors import SpringtideError


@dataclass(frozen=True, slots=True)
class Spoken:
    """A recording: what is said in it, by which voice."""

    phrase: str
    voice: str
    wav: bytes

    @property
    def wanted(self) -> str:
        """The command that is meant; a new word's is the word."""
        return PHRASES.get(self.phrase, self.phrase)


def spoken(said: Sequence[Said]) -> list[Spoken]:
    """Recordings of all that, as WAV files."""
    made = speaking.spoken(said, speaking.SOUND)
    return [
        Spoken(take.text, voice, to_wav(sound))
        for (voice, takes), sounds in zip(said, made, strict=True)
        for take, sound in zip(takes, sounds, strict=True)
    ]


def asked(story: Story, remote: Remote, one: Spoken) -> tuple[Answer, dict | None]:
    """One request; that it failed is kept."""
    at_s = time.time()
    try:
        found = remote.hear(one.wav)
    except SpringtideError as error:
        story.failures.append(str(error))
        return Answer(at_s, one.phrase, None, one.wanted, 0), None
    return Answer(at_s, one.phrase, found["output"]["command"], one.wanted, int(found["version"])), found


def examined(story: Story, port: int, every: Sequence[Spoken], threads: int = 4) -> list[Answer]:
    """One answer to each recording, several at a time."""

    def part(some: Sequence[Spoken]) -> list[Answer]:
        remote = Remote(port)
        try:
            return [asked(story, remote, one)[0] for one in some]
        finally:
            remote.close()

    with ThreadPoolExecutor(threads) as pool:
        return [one for some in pool.map(part, [every[at::threads] for at in range(threads)]) for one in some]


class Household:
    """Threads that speak until they are told to stop, each at its own pace."""

    def __init__(self, story: Story, port: int) -> None:
        self._story, self._port = story, port
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def viewers(self, every: Sequence[Spoken], per_second: float) -> None:
        """Say all of it, over and over, the new word in turn with the others."""
        new, old = ([one for one in every if (one.phrase == NEW) is kind] for kind in (True, False))
        turns = (one for pair in zip(itertools.cycle(new), itertools.cycle(old), strict=False) for one in pair)
        self._start(turns, per_second, self._watch)

    def users(self, every: Sequence[Spoken], per_second: float) -> None:
        """Say all of it once, and tell each time what they meant."""
        self._start(iter(every), per_second, self._teach)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, remote: Remote, one: Spoken) -> None:
        self._story.answers.append(asked(self._story, remote, one)[0])

    def _teach(self, remote: Remote, one: Spoken) -> None:
        _, found = asked(self._story, remote, one)
        if found is not None:
            try:
                remote.correct(found, one.phrase)
                self._story.corrected.append(time.time())
            except SpringtideError as error:
                self._story.failures.append(str(error))

    def _start(self, turns: Iterable[Spoken], per_second: float, each: Callable[[Remote, Spoken], None]) -> None:
        thread = threading.Thread(target=self._speak, args=(turns, per_second, each))
        self._threads.append(thread)
        thread.start()

    def _speak(self, turns: Iterable[Spoken], per_second: float, each: Callable[[Remote, Spoken], None]) -> None:
        remote = Remote(self._port)
        next_s = time.monotonic()
        for one in turns:
            if self._stopping.wait(max(0.0, next_s - time.monotonic())):
                break
            each(remote, one)
            next_s = max(next_s + 1 / per_second, time.monotonic() - 1.0)
        remote.close()
