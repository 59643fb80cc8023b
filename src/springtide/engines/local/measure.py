"""What jobs use, from control groups, or from their trees of processes in /proc where there are none."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from springtide.engines.engine import Used
from springtide.engines.local import gpus, traffic, trees
from springtide.engines.local.cgroups import Groups
from springtide.engines.local.gauges import Gauge
from springtide.engines.local.hierarchies import read

USAGE = "usage.json"  # in a job's folder
_SAVE_S = 5.0  # what a crash of the machine may forget; a crash of the pool forgets nothing, the kernel counts on
_SAVES = 3  # in one look
_CLOSE_LOOKS = 10  # at all but the cores, in one look: they cost the most
_LATELY_S = 5.0
_GPU_S = 1.0  # between two looks at the driver, each of which costs milliseconds


@dataclass(frozen=True, slots=True)
class Subject:
    """One job to be measured: its folder (totals are kept there), what it runs as (pid, start), and its GPUs."""

    folder: Path
    processes: tuple[tuple[int, int], ...] = ()  # its shim, or whoever is at the head of its trees of processes
    devices: tuple[int, ...] = ()  # of this machine, of all replicas together
    gpu_share: float = 1.0  # of each device


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted: as the kernel's counters stand, or as the totals of a job do."""

    cpu_s: float = 0.0
    disk_bytes: float = 0.0
    network_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """Totals of a job, and where the counters stood that they include; `life` names group and boot of the machine."""

    total: Counted = Counted()
    last: Counted = Counted()
    gpu_s: float = 0.0
    life: str = ""


def advance(account: Account, now: Counted, life: str) -> Account:
    """The account after the counters were read: of a new life they began at 0, and totals never fall."""
    last = account.last if account.life == life else Counted()
    total = Counted(
        account.total.cpu_s + max(0.0, now.cpu_s - last.cpu_s),
        account.total.disk_bytes + max(0.0, now.disk_bytes - last.disk_bytes),
        account.total.network_bytes + max(0.0, now.network_bytes - last.network_bytes),
    )
    return Account(total, now, account.gpu_s, life)


@dataclass(slots=True)
class _Job:
    account: Account
    gauge: Gauge
    unified: Path | None
    counter: int | None = None
    memory_bytes: int = 0
    close_s: float = -math.inf  # of the last look at memory and disk
    close_cpu_s: float = -1.0  # total at that time
    saved: Account = field(default_factory=Account)
    saved_s: float = -math.inf
    lately: deque[tuple[float, float]] = field(default_factory=deque)  # (time, total of cpu seconds)


class Meter:
    """Totals and present use of jobs. Called by one thread."""

    def __init__(self, groups: Groups, driver: gpus.Nvml | None = None) -> None:
        self._groups = groups
        self._boot = read("/proc/sys/kernel/random/boot_id").strip()
        self._jobs: dict[str, _Job] = {}
        self._driver = driver or gpus.connect()
        self._gpu_s: float | None = None  # when the driver was asked last
        self._network = bool(groups.group().unified_folder())

    @property
    def sentence(self) -> str:
        """How use is measured here, and what is not."""
        source = "control group" if self._groups.version else "the processes below its shim"
        network = "" if self._network else "; its network is not, since the kernel does not let us count that by group"
        return f"what a job uses is measured by {source}{network}"

    def look(self, subjects: Mapping[str, Subject], now_s: float) -> Mapping[str, Used]:
        """One look at all jobs, by id; `now_s` of a monotonic clock. Of 100 jobs it takes milliseconds."""
        found = None if self._groups.version else trees.look({name: each.processes for name, each in subjects.items()})
        for name, subject in subjects.items():
            job = self._jobs.get(name) or self._met(name, subject)
            if found is None:
                self._read_group(job)
            else:
                tree = found[name]
                job.account = advance(job.account, Counted(tree.cpu_s, tree.disk_bytes), self._boot)
                job.memory_bytes = tree.memory_bytes
            _remember(job, now_s)
        if found is None:
            self._look_closely(subjects, now_s)
        self._look_at_gpus(subjects, now_s)
        self._save_some(subjects, now_s)
        return {name: _used(self._jobs[name]) for name in subjects}

    def cores(self, job: str) -> float:
        """Seconds of cores per second, over the last seconds; 0 before there were two looks."""
        if job not in self._jobs or not self._jobs[job].lately:
            return 0.0
        (then_s, then), (now_s, now) = self._jobs[job].lately[0], self._jobs[job].lately[-1]
        return (now - then) / (now_s - then_s) if now_s > then_s else 0.0

    def keep(self, job: str, folder: Path) -> None:
        """The totals are on disk, to be called before the job's group is removed."""
        if known := self._jobs.get(job):
            self._read_group(known)
            self._read_closely(known)
            _save(known, folder, known.saved_s)

    def forget(self, job: str) -> None:
        """The job is over; its folder is the caller's."""
        self._jobs.pop(job, None)

    def close(self) -> None:
        """The driver is let go."""
        if self._driver:
            self._driver.close()

    def _met(self, name: str, subject: Subject) -> _Job:
        group = self._groups.group(name)
        account = _kept(subject.folder / USAGE)
        job = self._jobs[name] = _Job(account, group.gauge(), group.unified_folder(), saved=account)
        return job

    def _read_group(self, job: _Job) -> None:
        identity = job.gauge.identity()
        if not identity:
            job.memory_bytes = 0
            return
        life = f"{self._boot}/{identity}"
        last = job.account.last
        if job.account.life != life:
            # What else was read of the old life does not count for this one; it will be read soon.
            job.counter, last = None, Counted()
        now = Counted(job.gauge.cpu_s(), last.disk_bytes, last.network_bytes)
        job.account = advance(job.account, now, life)

    def _look_closely(self, subjects: Mapping[str, Subject], now_s: float) -> None:
        """At all else of some jobs, longest ago first. Where nobody computed, nothing has changed either."""
        jobs = [self._jobs[name] for name in subjects]
        changed = [job for job in jobs if job.account.total.cpu_s != job.close_cpu_s]
        for job in sorted(changed, key=lambda job: job.close_s)[:_CLOSE_LOOKS]:
            self._read_closely(job)
            job.close_s, job.close_cpu_s = now_s, job.account.total.cpu_s

    def _read_closely(self, job: _Job) -> None:
        if not job.gauge.identity():
            return
        job.memory_bytes = job.gauge.memory_bytes()
        if job.counter is None and job.unified and self._network:
            job.counter = traffic.counter(job.unified)
            self._network = job.counter is not None or not job.unified.exists()
        told, last = job.gauge.disk_bytes(), job.account.last
        disk = trees.disk_bytes(job.gauge.folder) if told is None else told
        network = last.network_bytes if job.counter is None else traffic.network_bytes(job.counter)
        job.account = advance(job.account, Counted(last.cpu_s, disk, network), job.account.life)

    def _look_at_gpus(self, subjects: Mapping[str, Subject], now_s: float) -> None:
        if not self._driver or (self._gpu_s is not None and now_s - self._gpu_s < _GPU_S):
            return
        since_s = now_s - self._gpu_s if self._gpu_s is not None else 0.0
        self._gpu_s, busy = now_s, self._driver.busy()
        for name, subject in subjects.items():
            if subject.devices:
                group = self._groups.group(name)
                pids = group.pids() if self._groups.version else trees.pids(subject.processes)
                used_s = busy.of(subject.devices, subject.gpu_share, pids) * since_s
                account = self._jobs[name].account
                total_s = account.gpu_s + used_s
                self._jobs[name].account = Account(account.total, account.last, total_s, account.life)

    def _save_some(self, subjects: Mapping[str, Subject], now_s: float) -> None:
        """Those whose file is oldest; a few at a time, so that no look pays for all."""
        jobs = [(self._jobs[name], subject.folder) for name, subject in subjects.items()]
        old = [each for each in jobs if each[0].account != each[0].saved and now_s - each[0].saved_s >= _SAVE_S]
        for job, folder in sorted(old, key=lambda each: each[0].saved_s)[:_SAVES]:
            _save(job, folder, now_s)


def _save(job: _Job, folder: Path, now_s: float) -> None:
    job.saved_s = now_s
    if not folder.is_dir():
        return
    new = folder / f"{USAGE}.new"
    try:
        new.write_text(json.dumps(asdict(job.account)))
        new.replace(folder / USAGE)
    except OSError:
        return  # a full disk, which somebody else tells of; the totals stay in memory, and the next try is soon
    job.saved = job.account


def _remember(job: _Job, now_s: float) -> None:
    job.lately.append((now_s, job.account.total.cpu_s))
    while len(job.lately) > 2 and now_s - job.lately[1][0] >= _LATELY_S:
        job.lately.popleft()


def _used(job: _Job) -> Used:
    total = job.account.total
    return Used(total.cpu_s, job.account.gpu_s, job.memory_bytes, int(total.disk_bytes), int(total.network_bytes))


def _kept(file: Path) -> Account:
    try:
        found = json.loads(file.read_text())
        return Account(Counted(**found["total"]), Counted(**found["last"]), found["gpu_s"], found["life"])
    except (OSError, ValueError, KeyError, TypeError):
        return Account()
