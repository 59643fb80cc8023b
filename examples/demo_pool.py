"""The demonstration: a day of a pool that a service, batch, spot work and elastic training share, and blows to it.

Everything is real: processes, requests, signals, in a folder of its own that is removed at the end. The verdict
compares what was measured: exit code 0 if no request failed, no step was lost, the training ended with the bits of an
undisturbed run, and more of the machine was used than the same work uses on dedicated machines; else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import dedicated, picture, verdict
from demo.day import HOURS, STORY
from demo.machine import NODES, SCRIPT, SLOT, VIRTUAL, Machine
from demo.recording import Blow, Recording
from demo.view import View
from demo.watching import Watch
from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import duration_text

DAY_S, QUICK_DAY_S = 44.0, 12.0
PROBE_STEPS = 60
LASTS_S, QUICK_LASTS_S = 28.0, 4.0  # that the training takes in peace; where it shares, until late in the evening
LOOK_S = 0.2
SETTLE_S = 90.0  # within which service and training run, and after the day the last job ends
TOLD = ("start", "grow", "shrink", "suspend", "done", "failed", "refused", "notice")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def live(machine: Machine, seed: int) -> Recording:
    """The day, from before midnight until the last job is done."""
    day = Recording(time.time() + SETTLE_S, machine.day_s, wanted_steps=machine.steps)
    with contextlib.closing(Watch(day, machine.client(), machine.home)) as watch, View(console, day) as view:
        settle(machine, watch, view)
        day.midnight_s = time.time() + 0.5
        requests = machine.requests(day.midnight_s, seed)
        listener = watch.hear(requests)
        try:
            pass_by(machine, watch, view)
        finally:
            requests.send_signal(signal.SIGTERM)
            listener.join()
            requests.wait()
        watch.look()
    return day


def settle(machine: Machine, watch: Watch, view: View) -> None:
    """Service and training are there."""
    for name in ("web", "digits"):
        machine.submit(name)
    limit_s = time.monotonic() + SETTLE_S
    while not (watch.recording.commits and machine.answers()):
        if time.monotonic() > limit_s:
            raise SpringtideError(f"service and training did not begin within {SETTLE_S:.0f} s")
        view.show(watch.look())
        time.sleep(LOOK_S)


def pass_by(machine: Machine, watch: Watch, view: View) -> None:
    """Hour after hour: what the story says is done when its time has come, and all is watched."""
    day, story = watch.recording, list(STORY)
    told = len(day.events)
    under_way: Future[Blow] | None = None
    limit_s = day.midnight_s + day.day_s + SETTLE_S
    with ThreadPoolExecutor(1) as hand:
        while True:
            now_s = time.time()
            if under_way is not None and under_way.done():
                day.blows.append(under_way.result())
                tell(view, day, day.blows[-1])
                under_way = None
            if under_way is None and story and day.hour(now_s) >= story[0].hour:
                happening = story.pop(0)
                view.say(now_s, happening.words, "bold red" if happening.what.startswith("kill") else "bold")
                under_way = hand.submit(machine.perform, happening)
            view.show(watch.look())
            told = tell_events(view, day, told)
            over = day.hour(now_s) >= HOURS and not story and under_way is None and ended(day)
            if over or now_s > limit_s:
                return
            time.sleep(LOOK_S)


def ended(day: Recording) -> bool:
    """Whether every job that ends has ended."""
    return all(day.jobs.get(name, {}).get("finished_s") for name in ("digits", "report", "sweep"))


def tell(view: View, day: Recording, blow: Blow) -> None:
    """What a blow cost, where that is known at once."""
    if blow.back_s is not None:
        view.say(blow.back_s, f"the pool server is back after {blow.back_s - blow.at_s:.1f} s")


def tell_events(view: View, day: Recording, told: int) -> int:
    """What the pool says of its own decisions."""
    for event in day.events[told:]:
        if event["kind"] in TOLD:
            named = event["sentence"].startswith(event["job"])
            view.say(event["time_s"], event["sentence"] if named else f"{event['job']}: {event['sentence']}")
    return len(day.events)


def alone(machine: Machine, name: str, steps: int) -> dict[str, Any]:
    """The report of the training alone on this machine, in peace: plain `tide run`."""
    report = machine.home / f"{name}.json"
    words = ["run", "--name", name, "--workers", "4", "--json", "--report", str(report)]
    machine.tide(*words, str(SCRIPT), "--steps", str(steps))
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def enough_steps(machine: Machine, lasts_s: float) -> int:
    """As many as take this machine so long."""
    step_s = alone(machine, "probe", PROBE_STEPS)["step_seconds"]["median"]
    return max(PROBE_STEPS, round(lasts_s / step_s / 50) * 50)


def busy(machine: Machine, day: Recording) -> float:
    """The share of the cores' time for which processes of jobs were measured as running."""
    with machine.client() as client:
        used = sum(row["core_s"]["used"] for row in client.usage(by="job")["rows"])
    first_s = min(job["started_s"] for job in day.jobs.values() if job["started_s"])
    return float(used / ((day.end_s - first_s) * NODES * SLOT))


@contextlib.contextmanager
def a_machine(home: Path, day_s: float) -> Iterator[Machine]:
    """A pool that is gone afterwards, whatever happens."""
    machine = Machine(home, day_s)
    try:
        yield machine
    finally:
        machine.down()


def demonstrate(home: Path, said: argparse.Namespace) -> bool:
    day_s = said.day or (QUICK_DAY_S if said.quick else DAY_S)
    lasts_s = (QUICK_LASTS_S if said.quick else LASTS_S) * day_s / (QUICK_DAY_S if said.quick else DAY_S)
    with a_machine(home, day_s) as machine, ThreadPoolExecutor(1) as probing:
        probe = probing.submit(enough_steps, machine, lasts_s)
        heading("1. A pool that two teams share", f"tide up -d --virtual {VIRTUAL} --pool pool.yaml")
        health = machine.up()
        console.print(f"  {NODES} nodes of {SLOT:g} cores; {health['limits']}")
        heading(
            f"2. A day of {duration_text(day_s)}: a service, training, a batch, a spot job, and blows",
            "tide submit web.yaml digits.yaml ...",
        )
        machine.steps = said.steps or probe.result()
        day = live(machine, said.seed)
        with machine.client() as client:
            day.jobs["digits"] = client.job(day.jobs["digits"]["id"])
        running = busy(machine, day)
        machine.down()
        left = len(machine.left())
        heading("3. The same training, undisturbed", f"tide run train.py --workers 4 --steps {machine.steps}")
        calm = alone(machine, "undisturbed", machine.steps)
        console.print(f"  {calm['steps']:,} steps in {calm['seconds']:.1f} s\n")
    scale_down_s = max(1.0, day_s / 10)
    shares = dedicated.as_it_was(day)
    again, apart = (dedicated.played(day, own, scale_down_s) for own in (False, True))
    console.print(picture.text(day, console.width))
    console.print(verdict.happenings(day))
    console.print(verdict.comparison(shares, again, apart, running))
    found = verdict.lines(day, calm, shares, apart, left)
    console.print(verdict.verdict(found))
    target = said.plot or (said.keep / "pool.png" if said.keep else None)
    if target is not None:
        picture.draw(day, shares.used, apart.used, target)
        console.print(f"The day, drawn: {target}")
    return all(line.holds for line in found)


def heading(what: str, command: str) -> None:
    console.print(f"\n[bold]{what}[/bold]\n")
    console.print(f"[dim]  {command}[/dim]\n", soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--day", type=float, metavar="SECONDS", help="how long the day is")
    parser.add_argument("--steps", type=int, help="of the training; else so many that it lasts until the evening")
    parser.add_argument("--quick", action="store_true", help="a shorter day")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    parser.add_argument("--plot", type=lambda name: Path(name).resolve(), metavar="FILE", help="draw the day")
    parser.add_argument("--keep", type=lambda name: Path(name).resolve(), metavar="FOLDER", help="keep what it leaves")
    said = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with contextlib.ExitStack() as ending:
        if said.keep:
            said.keep.mkdir(parents=True, exist_ok=True)
        home = said.keep or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="tide-day-")))
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
