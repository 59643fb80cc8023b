"""The words loop of examples/loop in a real pool, and its users: who asks all the time, who corrects, who lies."""

from __future__ import annotations

import json
import random
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running import strike
from sharing.world import World, free_port
from springtide.pool import circle_files
from springtide.serve.loop.circle import Circle
from springtide.serve.loop.places import Places

EXAMPLE = Path(__file__).parents[2] / "examples" / "loop"
Answer = dict[str, Any]


@dataclass
class Words:
    """The loop, submitted as its user does it."""

    world: World
    port: int
    draw: random.Random = field(default_factory=lambda: random.Random(5))

    @property
    def there(self) -> Places:
        return Places(self.world.home / "loops" / "words")

    @property
    def circle(self) -> Circle:
        return circle_files.read_state(self.there)

    def submit(self) -> None:
        folder = self.world.folder / "loop"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.jsonl", "__pycache__"))
        _sounds().write(folder, bulk=1200)
        text = (folder / "loop.yaml").read_text().replace("18090", str(self.port))
        (folder / "loop.yaml").write_text(text)
        done = self.world.tide("submit", folder / "loop.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "words-circle: submitted" in done.stdout

    # --- its users

    def say(self, word: str) -> Answer:
        return post(self.port, "/models/words", {"sound": _sounds().sound(word, self.draw)})

    def answers(self) -> bool:
        try:
            return bool(self.say("up"))
        except OSError:
            return False

    def correct(self, word: str, as_if: str | None = None, many: int = 1) -> None:
        """Says a word so many times, and each time that it was that word (or another)."""
        for _ in range(many):
            post(self.port, "/feedback", {"id": self.say(word)["id"], "correct": as_if or word})

    def understood(self, *words: str, many: int = 60) -> float:
        said = [words[number % len(words)] for number in range(many)]
        return sum(self.say(word)["output"] == word for word in said) / many

    @contextmanager
    def somebody_who_asks(self) -> Iterator[Asking]:
        asking = Asking(self.port)
        asking.start()
        try:
            yield asking
        finally:
            asking.end()

    # --- blows

    def kill(self, module: str) -> None:
        """The process of one of its stream jobs."""
        found = [pid for pid, command in self.world.processes().items() if f"-m {module}" in command]
        assert found, f"no process runs {module}"
        strike(found)

    def explained(self) -> str:
        done = self.world.tide("explain", "words")
        assert done.returncode == 0, done.stderr
        return str(done.stdout)


class Asking(threading.Thread):
    """Says known words all the time, and keeps what it was answered."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answer] = []
        self.failed: list[str] = []
        self._port, self._ended, self._draw = port, threading.Event(), random.Random(9)

    def run(self) -> None:
        known: Sequence[str] = _sounds().KNOWN
        while not self._ended.wait(0.05):
            word = self._draw.choice(known)
            try:
                answer = post(self._port, "/models/words", {"sound": _sounds().sound(word, self._draw)})
                self.answers.append(answer | {"said": word})
            except OSError as error:
                self.failed.append(repr(error))

    def end(self) -> None:
        self._ended.set()
        self.join()


def post(port: int, path: str, body: Answer) -> Answer:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: Answer = json.load(answer)
    return found


@contextmanager
def words(world: World) -> Iterator[Words]:
    """It serves its first version."""
    world.up("4x1cpu,4Gi")
    made = Words(world, free_port())
    made.submit()
    world.until(lambda: made.circle.base is not None, "a first version is promoted")
    world.until(made.answers, "it is served")
    yield made


def _sounds() -> Any:
    sys.path.append(str(EXAMPLE))
    try:
        import sounds
    finally:
        sys.path.remove(str(EXAMPLE))  # its train.py must not be what others import by that name
    return sounds
