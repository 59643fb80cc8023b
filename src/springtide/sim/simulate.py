"""One work under several policies and seeds, on as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from springtide.core.resources import FloatArray
from springtide.sim import pool, scenarios
from springtide.sim.engine import Play
from springtide.sim.formats import Options, format_of
from springtide.sim.policies import POLICIES
from springtide.sim.record import Record
from springtide.sim.trace import Trace
from springtide.spec.errors import UserError

_TOLD_EVERY_S = 0.1  # how often a play says how far it is


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be played: files of one format, or a scenario by name."""

    sources: tuple[str, ...]
    format: str | None = None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Picture:
    """The pool over time, for `--plot`."""

    time_s: FloatArray  # (T,)
    values: FloatArray  # (T, 6): held by service, stream, batch, training; used; tasks waiting
    resource: int  # which one the first five are of
    total: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's play with one seed."""

    policy: str
    seed: int
    metrics: Mapping[str, float]
    picture: Picture | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Head:
    """What a report needs to know of a trace."""

    name: str
    tasks: int
    seeded: bool
    published: Mapping[tuple[str, str], float]
    note: str


def opened(work: Work) -> Trace:
    """The trace, checked: every task fits the empty pool. Raises UserError."""
    trace = _read(work)
    options = work.options
    if options.round_s is not None:
        trace = replace(trace, round_s=options.round_s)
    if not trace.tasks:
        raise UserError(f"{work.sources[0]}: there is no job in it")
    if trace.play is None:
        pool.check_fits(trace.nodes, trace.tasks, work.sources[0])
    return trace


def _read(work: Work) -> Trace:
    first = work.sources[0]
    if work.format is None and not Path(first).exists() and (named := scenarios.find(first)):
        if len(work.sources) > 1:
            raise UserError(f"{work.sources[1]}: {first} is a scenario of its own; name one work at a time")
        return named.make(work.options)
    paths = [Path(source) for source in work.sources]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file and no scenario of that name{scenarios.hint(str(path))}")
    return format_of(paths, work.format).reader()(paths, work.options)


def head(work: Work) -> Head:
    """The trace's name and size; reading it whole finds all that is wrong with it."""
    trace = opened(work)
    return Head(trace.name, len(trace.tasks), trace.seeded, dict(trace.published), trace.note)


def played(work: Work, policy: str, seed: int, progress: Callable[[float], None] = lambda share: None) -> Outcome:
    """One policy on the work with one seed."""
    entry = POLICIES[policy]
    trace = entry.world(opened(replace(work, options=replace(work.options, seed=seed))))
    rival = entry.make(trace)
    begun = time.perf_counter()
    if trace.play is not None:
        metrics = trace.play(trace, rival, progress)
        return Outcome(policy, seed, dict(metrics), None, time.perf_counter() - begun)
    record = Record(trace)
    play = Play(trace, rival, record)
    play.run(progress)
    time_s, values = record.timeline.means()
    picture = Picture(time_s, values, record.main, float(trace.total()[record.main]))
    return Outcome(policy, seed, record.metrics(play), picture, time.perf_counter() - begun)


def simulate(
    work: Work, policies: Sequence[str], seeds: int, progress: Callable[[float], None] = lambda share: None
) -> list[Outcome]:
    """Every policy with every seed; `progress` hears the share of all that is done."""
    plays = [(policy, seed) for policy in policies for seed in range(seeds)]
    processes = min(len(plays), os.cpu_count() or 1)
    if processes == 1:
        return [
            played(work, policy, seed, lambda share, n=n: progress((n + share) / len(plays)))  # type: ignore[misc]
            for n, (policy, seed) in enumerate(plays)
        ]
    return _in_processes(work, plays, processes, progress)


def _in_processes(
    work: Work, plays: Sequence[tuple[str, int]], processes: int, progress: Callable[[float], None]
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[tuple[int, float]] = context.SimpleQueue()
    shares = [0.0] * len(plays)
    with ProcessPoolExecutor(processes, context, _begin, (told,)) as executor:
        futures = [executor.submit(_one, work, policy, seed, n) for n, (policy, seed) in enumerate(plays)]
        try:
            for done in _finished(futures):
                while not told.empty():
                    n, share = told.get()
                    shares[n] = max(shares[n], share)
                for n in done:
                    shares[n] = 1.0
                progress(sum(shares) / len(shares))
            return [future.result() for future in futures]
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _finished(futures: Sequence[Future[Outcome]]) -> Iterable[list[int]]:
    """Now and then, the numbers of those that are done; a play that failed raises here at once."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        yield [n for n, future in enumerate(futures) if future not in left]


_told: SimpleQueue[tuple[int, float]] | None = None


def _begin(told: SimpleQueue[tuple[int, float]]) -> None:
    global _told
    _told = told


def _one(work: Work, policy: str, seed: int, number: int) -> Outcome:
    last = 0.0

    def progress(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if _told is not None and now - last > _TOLD_EVERY_S:
            last = now
            _told.put((number, share))

    return played(work, policy, seed, progress)
