"""What the loss, the stop or the arrival of workers costs: Springtide, torchrun and torchft, four workers each.

A delay is the time between committed steps around an event beyond an ordinary step (`launch.delay_seconds`). torchrun
is set to notice in 0.1 s and saves its user's checkpoint every 20 steps; torchft has time-outs of seconds where the
defaults are a minute, and a dead replica is started again at once. Their defaults are slower by a factor of ten and
more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import processes, table
from benchmarks.launch import (
    Ended,
    Running,
    Step,
    Torchft,
    delay_seconds,
    has_torchft,
    launch,
    ordinary_seconds,
    pause_seconds,
    steps_lost,
)
from benchmarks.table import Row

WORKERS = 4
STEPS = 1_000_000  # more than any run here makes: each is ended from outside
SAVE_EVERY_STEPS = 20
NAMES = {"springtide": "springtide", "ddp": "torchrun", "torchft": "torchft"}


@dataclass(frozen=True)
class Watch:
    """How long we look on: for a recovery, and for something that should be noticed."""

    recovery_seconds: float
    notice_seconds: float


@dataclass
class Trial:
    """One system under way, and the rows that its events have given."""

    system: str
    work: str
    running: Running
    watch: Watch
    rows: list[Row]

    def row(self, metric: str, value: float | None, unit: str = "s", note: str = "") -> None:
        self.rows.append(Row(self.work, NAMES[self.system], WORKERS, metric, value, unit, note))
        table.progress(f"{self.work}: {NAMES[self.system]}: {metric}: {note or table.measured(value, unit)}")

    def settle(self, workers: int = WORKERS, count: int = 15) -> None:
        """Waits until from now on `count` steps in a row were made by so many workers."""
        now = time.time()

        def met() -> bool:
            last = [step for step in self.running.steps() if step.time > now][-count:]
            return len(last) == count and all(step.workers == workers for step in last)

        self.running.wait(met, 120)

    def strike(self, victims: list[int], number: int = signal.SIGKILL) -> float:
        """Sends the signal to all of `victims`; returns the moment before."""
        moment = time.time()
        for pid in victims:
            processes.kill(pid, number)
        return moment


def kill(name: str, count: int) -> Callable[[Trial], None]:
    """`count` workers are killed at once."""

    def event(trial: Trial) -> None:
        trial.settle()
        running = trial.running
        victims = running.workers()[-count:]
        moment = trial.strike(victims)
        if isinstance(running, Torchft) and count == WORKERS:
            running.revive(victims)
        running.wait_steps_after(moment, 3, trial.watch.recovery_seconds)
        steps = running.steps()
        if count == WORKERS:
            trial.row(f"{name}: until the next step", next(step.time for step in steps if step.time > moment) - moment)
        else:
            trial.row(f"{name}: delay", delay_seconds(steps, moment, ordinary_seconds(steps, moment)))
        trial.row(f"{name}: steps done again", steps_lost(steps, moment), "")
        if isinstance(running, Torchft) and count < WORKERS:
            running.revive(victims)

    return event


def stop(trial: Trial) -> None:
    """One worker is stopped (SIGSTOP): it holds its sockets and its memory, and does nothing."""
    trial.settle()
    running = trial.running
    victim = running.workers()[-1]
    moment = trial.strike([victim], signal.SIGSTOP)
    try:
        running.wait_steps_after(moment, 3, trial.watch.notice_seconds)
        steps = running.steps()
        trial.row("stop one: delay", delay_seconds(steps, moment, ordinary_seconds(steps, moment)))
    except Ended:
        trial.row("stop one: delay", None, note=f"not noticed in {trial.watch.notice_seconds:.0f} s")
    # A peer that went on without it gets it back as a new one.
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)
    if isinstance(running, Torchft):
        processes.kill(victim)
        running.revive([victim])


def chief(trial: Trial) -> None:
    """The process in charge is killed; then, when it had time to come back, one worker."""
    trial.settle()
    running, watch = trial.running, trial.watch
    moment = trial.strike([running.chief()])
    with contextlib.suppress(Ended):
        running.wait(lambda: False, watch.notice_seconds / 2)
    steps = running.steps()
    end = time.time()
    ordinary = ordinary_seconds(steps, moment)
    if not steps or steps[-1].time < end - max(2.0, 20 * ordinary):
        trial.row("chief killed: delay", None, note="stands still")
        return
    trial.row("chief killed: delay", pause_seconds(steps, moment, end, ordinary))
    back = [row["time"] for row in running.rows if row.get("event") == "supervisor" and row["time"] > moment]
    if trial.system == "springtide":
        trial.row("chief killed: in charge again", back[-1] - moment if back else None, note="" if back else "never")
    moment = trial.strike(running.workers()[-1:])
    try:
        running.wait_steps_after(moment, 3, watch.notice_seconds)
        trial.row("chief killed, then one worker: delay", delay_seconds(running.steps(), moment, ordinary))
    except Ended:
        trial.row("chief killed, then one worker: delay", None, note="job lost")


def join(trial: Trial) -> None:
    """A fourth worker is asked for."""
    trial.settle(WORKERS - 1)
    running = trial.running
    moment = time.time()
    running.join()

    def joined(steps: list[Step]) -> list[Step]:
        return [step for step in steps if step.time > moment and step.workers == WORKERS]

    running.wait(lambda: len(joined(running.steps())) >= 5, 120)
    steps = running.steps()
    first, last = joined(steps)[0], joined(steps)[4]
    trial.row("join: pause of the others", pause_seconds(steps, moment, last.time, ordinary_seconds(steps, moment)))
    trial.row("join: from its request", first.time - moment)


KILL_ONE = kill("kill one", 1)
EVENTS = [KILL_ONE, kill("kill three", 3), kill("kill all", 4), stop, chief]


def trial(
    system: str,
    work: str,
    events: list[Callable[[Trial], None]],
    watch: Watch,
    workers: int = WORKERS,
    **settings: object,
) -> list[Row]:
    """Cold start of `system`, then the events in turn; what fails is said and ends the trial."""
    rows: list[Row] = []
    began = time.time()
    try:
        with launch(system, work, workers, steps=STEPS, every=SAVE_EVERY_STEPS, **settings) as running:  # type: ignore[arg-type]
            under_way = Trial(system, work, running, watch, rows)
            running.wait_step(1, 180)
            if workers == WORKERS:
                under_way.row("cold start: until the first step", running.steps()[0].time - began)
            for event in events:
                event(under_way)
    except (Ended, StopIteration) as ended:
        table.progress(f"{work}: {system}: failed: {ended}")
    return rows


def rounds(arguments: argparse.Namespace, systems: list[str]) -> list[Row]:
    quick = arguments.quick
    watch = Watch(60, 10) if quick else Watch(90, 30)
    rows = []
    for _ in range(1 if quick else arguments.rounds):
        for system in systems:
            rows += trial(system, "small", EVENTS if system == "springtide" or not quick else [KILL_ONE], watch)
            if system == "springtide" or not quick:
                rows += trial(system, "small", [join], watch, WORKERS - 1, most=WORKERS)
            if not quick:
                rows += trial(system, arguments.large, [KILL_ONE], Watch(180, 30), microbatches=WORKERS)
    return rows


def main() -> None:
    # 1.67e8 parameters, their gradients and their momentum are 2 GB.
    arguments = table.parse("elastic", __doc__, rounds=3, large="params:1.67e8")
    systems = ["springtide", "ddp", *(["torchft"] if has_torchft() else [])]
    systems = [system for system in systems if not arguments.only or {system, NAMES[system]} & set(arguments.only)]
    rows = table.median_rows(rounds(arguments, systems))
    for work in dict.fromkeys(row.work for row in rows):
        here = [row for row in rows if row.work == work]
        turned = [Row(row.metric, row.system, 0, "value", row.value, row.unit, row.note) for row in here]
        table.show(f"{work}: {WORKERS} workers", turned, "value")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
