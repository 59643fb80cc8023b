"""What can be seen of jobs without disturbing them: health, load, arenas, use of the machine, scratch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from springtide.engines.engine import JobSeen, LoadSeen, ReplicaSeen, TrainingSeen, Used
from springtide.engines.local.admin import Key, Prober
from springtide.engines.local.arenas import Watched
from springtide.engines.local.cgroups import Groups
from springtide.engines.local.held import Held
from springtide.engines.local.load import Lags, Loads
from springtide.engines.local.measure import Meter, Subject
from springtide.engines.local.scratch import USUAL_BYTES, Guard, Offence
from springtide.engines.local.scratch import Watched as Scratch
from springtide.spec.job import Kind


class Lookout:
    """See the module. `wake` is called, from other threads, when something is to be seen."""

    def __init__(self, groups: Groups, root: Path, wake: Callable[[], None]) -> None:
        self._prober, self._guard = Prober(wake), Guard(root, wake)
        self._meter, self._loads, self._lags = Meter(groups), Loads(), Lags()
        self._asked: tuple[Key, ...] = ()

    def look(self, jobs: Sequence[Held], now_s: float) -> dict[str, JobSeen]:
        """How these jobs look; the others are watched no longer. `now_s` of the monotonic clock."""
        self._watch(jobs)
        used = self._meter.look({job.id: _subject(job) for job in jobs}, now_s)
        return {job.id: self._seen(job, used.get(job.id, Used()), now_s) for job in jobs}

    def offences(self) -> list[Offence]:
        """Replicas that are to be ended, and why."""
        ill = [(key, health.ill) for key in self._asked if (health := self._prober.health(key)) and health.ill]
        return [*self._guard.offences(), *[Offence(job, replica, why) for (job, replica), why in ill]]

    def forget(self, job: str) -> None:
        """It is over."""
        self._meter.forget(job)
        self._loads.forget(job)
        self._lags.forget(job)

    def keep(self, job: Held) -> None:
        """What the job has used is on disk: its groups may go."""
        self._meter.keep(job.id, job.folder.path)

    def close(self) -> None:
        """Its threads have ended."""
        self._prober.close()
        self._guard.close()
        self._meter.close()

    def _watch(self, jobs: Sequence[Held]) -> None:
        asked, speaking, watched = {}, [], []
        for job in jobs:
            for name in job.unfinished:
                most = job.about.get("scratch") or USUAL_BYTES
                watched.append(Scratch(job.id, name, (job.folder.scratch(name),), most))
                if _speaks(job) and job.records[name].pid:
                    asked[(job.id, name)] = job.folder.replica(name) / "admin.sock"
                    speaking += [(job.id, name)] if job.about.get("model") else []
        self._asked = tuple(asked)
        self._prober.watch(asked, speaking)
        self._guard.watch(watched)

    def _seen(self, job: Held, used: Used, now_s: float) -> JobSeen:
        training = _training(job) if job.kind == Kind.TRAINING else None
        replicas = {name: self._replica(job, name, training, now_s) for name in job.orders}
        load = self._load(job, now_s) if job.kind == Kind.SERVICE else self._lag(job, now_s)
        return JobSeen(replicas, training, used, load)

    def _replica(self, job: Held, name: str, training: TrainingSeen | None, now_s: float) -> ReplicaSeen:
        match job.kind:
            case Kind.SERVICE:
                health = self._prober.health((job.id, name))
                ready = health is not None and health.ready(now_s)
            case Kind.TRAINING:
                ready = training is not None
            case _:
                ready = True
        return job.seen(name, ready)

    def _load(self, job: Held, now_s: float) -> LoadSeen | None:
        found = {name: health for name in job.orders if (health := self._prober.health((job.id, name)))}
        if job.about.get("by_cores"):
            if not any(health.ready(now_s) for health in found.values()):
                return None  # what it costs to begin is no load
            return self._loads.look(job.id, {}, self._meter.cores(job.id), now_s, job.about.get("window_s"))
        counts: Mapping[str, float] = {name: one.total for name, one in found.items() if one.total is not None}
        # A count is as old as the answer that it came with.
        told_s = [one.well_s for name, one in found.items() if name in counts and one.well_s is not None]
        return self._loads.look(
            job.id, counts, self._meter.cores(job.id), max(told_s, default=now_s), job.about.get("window_s")
        )

    def _lag(self, job: Held, now_s: float) -> LoadSeen | None:
        if not _speaks(job):
            return None
        known = {name: one for name in job.unfinished if (one := self._prober.health((job.id, name)))}
        told = {name: one.stream for name, one in known.items() if one.stream is not None}
        told_s = [one.well_s for name, one in known.items() if name in told and one.well_s is not None]
        return self._lags.look(job.id, told, max(told_s, default=now_s))


def _speaks(job: Held) -> bool:
    """Whether its replicas are given a socket of their own."""
    return job.kind == Kind.SERVICE or job.about.get("lag") is not None


def align(job: Held, name: str) -> None:
    """Ask a training run for the workers that are wanted, until it says that it was heard."""
    if job.workers is not None and job.arena is not None and not job.records[name].asked:
        wanted = job.arena.wanted()
        if wanted is not None and wanted != job.workers:
            job.arena.ask(job.workers)


def _training(job: Held) -> TrainingSeen | None:
    """From the arena of the process that runs; it is let go as soon as that has ended."""
    name = next(iter(job.unfinished), None)
    pid = job.records[name].pid if name else 0
    if job.arena is not None and job.arena.pid != pid:
        job.arena.close()
        job.arena = None
    if not name or not pid:
        return None
    if job.arena is None:
        job.arena = Watched(job.folder.run / "runs" / job.about["name"], pid)
    align(job, name)
    return job.arena.look()


def _subject(job: Held) -> Subject:
    heads = [(record.pid, record.start) for name in job.unfinished if (record := job.records[name]).pid]
    if job.shim is not None:
        heads.append(job.shim)
    devices = {device for name in job.unfinished for device in job.orders[name].devices}
    share = min(1.0, float(job.about.get("gpu") or 1.0))
    return Subject(job.folder.path, tuple(heads), tuple(sorted(devices)), share)
