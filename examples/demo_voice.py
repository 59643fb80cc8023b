"""Speech that controls a television: taught, served, corrected by its users, taught further and promoted, in minutes.

Everything is real: sounds, processes, requests, in a folder of its own that is removed at the end. Exit code 0 if all
that is promised was measured, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "voice_tv"))

import corpus
import numpy as np
from remote import Remote
from rich import box
from rich.console import Console
from rich.table import Table
from shown import picture, verdict
from shown.household import Household, Spoken, asked, examined, spoken
from shown.place import Place, people
from shown.recording import NEW, Exam, Story, exam
from words import commands

from springtide.spec.errors import SpringtideError

EPOCHS = 10.0
VIEWERS_PER_SECOND, USERS_PER_SECOND = 8.0, 12.0
NEW_BY_EACH_USER, NEW_BY_EACH_VIEWER = 4, 6
LEARNT = 0.95  # of the new word, by viewers, before the last exam
LOOK_S = 0.5
PATIENCE_S, SETTLE_S = 240.0, 60.0
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def heading(number: int, text: str, command: str) -> None:
    console.print(f"\n[bold]{number}. {text}[/bold]\n   [dim]{command}[/dim]")


def until(what: str, done: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Looks until it is so. SpringtideError: it did not come."""
    limit_s = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > limit_s:
            raise SpringtideError(f"{what} did not come within {patience_s:.0f} s")
        time.sleep(LOOK_S)


# --- the chapters


def taught(place: Place, epochs: float) -> None:
    """The first version is trained on the corpus, in the pool."""
    place.train(epochs)
    with place.client() as client:
        while (job := client.job("lessons"))["state"] not in ("done", "failed", "cancelled"):
            time.sleep(LOOK_S)
    if job["state"] != "done":
        raise SpringtideError(f"lessons is {job['state']}: {job.get('reason')}")
    console.print(
        *(f"  {line}" for line in place.tide("logs", "lessons").splitlines() if "understood" in line), sep="\n"
    )


def speaking_to_it(place: Place, story: Story, every: list[Spoken]) -> None:
    """A few commands, one after the other, and what the television does."""
    remote = Remote(place.port)
    for phrase in ("channel seven", "louder", "die nachrichten", "go back", NEW):
        one = next(one for one in every if one.phrase == phrase)
        answer, found = asked(story, remote, one)
        story.answers.append(answer)
        if found is not None:
            heard = f'"{found["output"]["text"]}"'
            meant = answer.command or "not understood"
            console.print(f'  {one.voice:>10}: "{phrase}"'.ljust(34) + f"{heard:<20}{meant:<16}{remote.tv}")
    remote.close()


def users(story: Story, place: Place, every: list[Spoken], corrections: list[Spoken]) -> None:
    """People speak, and correct, until the new word is understood."""
    household = Household(story, place.port)
    household.viewers(every, VIEWERS_PER_SECOND)
    household.users(corrections, USERS_PER_SECOND)
    told = set()
    try:

        def learnt() -> bool:
            for at_s, version in story.changes():
                if version not in told:
                    told.add(version)
                    console.print(f"  {at_s - story.begin_s:5.1f} s  version {version} answers")
            lately = [one for one in list(story.answers) if one.wanted == NEW][-20:]
            good = sum(one.right for one in lately) >= LEARNT * 20
            return good and len(story.corrected) + len(story.failures) >= len(corrections)

        with contextlib.suppress(SpringtideError):  # the verdict tells how far it came
            until(f'"{NEW}"', learnt)
            until("the last verdict", lambda: place.all_learnt(len(corrections)), SETTLE_S)
    finally:
        household.stop()


def result(found: Exam) -> str:
    return f'"{NEW}" {found.share(new=True):.0%}, the others {found.share(new=False):.1%}'


# --- who speaks


def viewers() -> list[Spoken]:
    """Every command by every held-out voice, and the new word several times."""
    new = people({"en": [NEW]}, corpus.HELD_OUT, NEW_BY_EACH_VIEWER)
    return spoken([*people(commands(), corpus.HELD_OUT, 1), *new])


def correcting() -> list[Spoken]:
    """Users in other voices, in an order of chance: as often the new word as others."""
    said = people({"en": [NEW]}, corpus.VARIANTS, NEW_BY_EACH_USER)
    for language, phrases in commands().items():
        for place, voice in enumerate(corpus.voices(corpus.VARIANTS, language)):
            some = [phrases[(2 * place + more) % len(phrases)] for more in range(2)]
            said.append((voice, corpus.takes(voice, some, 1)))
    every = spoken(said)
    return [every[at] for at in np.random.default_rng(0).permutation(len(every))]


# --- the whole


@contextlib.contextmanager
def a_place(home: Path) -> Iterator[Place]:
    """A pool that is gone afterwards, whatever happens."""
    place = Place(home)
    try:
        yield place
    finally:
        place.down()


def demonstrate(home: Path, said: argparse.Namespace) -> bool:
    story = Story()
    with a_place(home) as place:
        with ThreadPoolExecutor(1) as aside:
            up = aside.submit(place.up)
            heading(1, "Voices say thirty commands in two languages, in noisy rooms", "python corpus.py")
            for name, make in (("training", corpus.training), ("checking", corpus.checking)):
                console.print(f"  {corpus.told(name, make)}")
            up.result()
        heading(2, "A network learns to spell them, elastically, in the pool", "tide up -d; tide submit")
        taught(place, said.epochs)
        heading(
            3,
            "It passes the gate and serves; its loop begins",
            "tide model add; tide model promote; tide submit loop.yaml",
        )
        serve(place)
        every, corrections = viewers(), correcting()
        until("the service", place.answers)
        story.servers.append(place.servers())
        speaking_to_it(place, story, every)
        before = exam(examined(story, place.port, every))
        console.print(f"  {sum(count for _, count in before.commands.values())} recordings: {result(before)}")
        heading(4, f'Users say "{NEW}", and correct what was not understood', "POST /models/voice; POST /feedback")
        users(story, place, every, corrections)
        after = exam(examined(story, place.port, every))
        story.servers.append(place.servers())
        console.print(f"  {len(story.corrected)} corrections later: {result(after)}")
        tell(place)
        place.down()
        left = len(place.left())
    show(story, before, after, said.plot)
    return judged(verdict.lines(story, before, after, left))


def serve(place: Place) -> None:
    """The first version is registered, judged, promoted; the loop goes on from it."""
    check = place.check()
    place.tide("model", "add", "voice", str(place.lessons), "--build", "voice_model:build")
    console.print(f"  {place.tide('model', 'promote', 'voice', '1', '--data', str(check)).strip()}")
    place.submit_loop(Path(place.versions()[0]["path"]) / "model.safetensors")


def tell(place: Place) -> None:
    """What the loop says of its candidates."""
    for line in place.tide("loop", "show", "voice").splitlines():
        if line.startswith("candidate"):
            console.print(f"  {line}", style="dim", markup=False, soft_wrap=True)


def show(story: Story, before: Exam, after: Exam, path: Path | None) -> None:
    console.print("\n[bold]How well voices were understood that nobody trained on[/bold]\n")
    console.print(picture.text(story, console.width))
    if path:
        picture.draw(story, before, after, path)
        console.print(f"\n  drawn in {path}")


def judged(lines: list[verdict.Line]) -> bool:
    table = Table(box=box.SIMPLE_HEAD, title="Verdict", title_justify="left", title_style="bold", show_header=False)
    for line in lines:
        table.add_row(line.promise, line.measured, "yes" if line.holds else "[bold red]NO[/bold red]")
    console.print()
    console.print(table)
    return all(line.holds for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="over the corpus, before it serves")
    parser.add_argument("--plot", type=lambda name: Path(name).resolve(), metavar="FILE", help="draw what was seen")
    parser.add_argument("--keep", type=lambda name: Path(name).resolve(), metavar="FOLDER", help="keep what it leaves")
    said = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with contextlib.ExitStack() as ending:
        if said.keep:
            said.keep.mkdir(parents=True, exist_ok=True)
        home = said.keep or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="tide-voice-")))
        try:
            return 0 if demonstrate(home / "home", said) else 1
        except SpringtideError as error:
            console.print(f"tide: {error}", markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130


if __name__ == "__main__":
    raise SystemExit(main())
