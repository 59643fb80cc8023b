"""The engine of this machine: what the pool calls. Replicas are the children of shims, and outlive it.

It keeps a channel to each shim and hears there that something changed; what changed stands in files (`state`). So it
may be killed at any instant, and the next one finds all that runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from springtide.engines.engine import Notice, Observation, Place, Task, run_name
from springtide.engines.local import cgroups, gpus, held, machine, orders, shims, sockets
from springtide.engines.local.broom import GONE, Broom
from springtide.engines.local.held import Held
from springtide.engines.local.lookout import Lookout, align
from springtide.engines.local.people import People, Person
from springtide.engines.local.scratch import Offence
from springtide.engines.local.state import Folder, Order, save
from springtide.engines.local.training import LAUNCH
from springtide.spec import home as homes
from springtide.spec.errors import Refused, UserError
from springtide.spec.job import Job, Kind
from springtide.spec.sharing import Node

_AGAIN_S = 1.0  # between two shims started for one job


class LocalEngine:
    """See the module. `home` is TIDE_HOME; `people` are the users of teams, where each team is to have its own.
    `grouped`: control groups are used where the machine offers them.

    All methods but `wake` belong to one thread.
    """

    def __init__(
        self, home: Path | None = None, virtual: str | None = None, people: People | None = None, grouped: bool = True
    ) -> None:
        self.root = (home or homes.home()) / "pool"
        self._jobs_folder = self.root / "jobs"
        self._jobs_folder.mkdir(parents=True, exist_ok=True)
        self.pool = f"{os.getuid()}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"
        self._nodes = machine.nodes(virtual)
        self._devices = machine.physical(self._nodes, len(gpus.devices()))
        self._groups = cgroups.find(self.pool, self.root) if grouped else cgroups.Groups(self.pool)
        self._people = people
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._lookout = Lookout(self._groups, self.root, self.wake)
        self._broom = Broom(self._jobs_folder, self.root / "logs", self.root / "results")
        self._notices: list[Notice] = []
        self._jobs: dict[str, Held] = {}
        for path in sorted(self._jobs_folder.iterdir()):
            if path.name != GONE and (found := held.find(Folder(path))) is not None:
                self._jobs[found.id] = found
                self._reach(found)
        self._groups.sweep(keep=self._jobs)
        self._broom.sweep(self._jobs)

    @property
    def sentence(self) -> str:
        """What is limited here, and what is not."""
        return self._groups.sentence

    def nodes(self) -> Sequence[Node]:
        """This machine, or the virtual nodes that it was cut into."""
        return self._nodes

    def overcommitted(self) -> str | None:
        """What virtual nodes have together beyond the machine."""
        return machine.overcommitted(self._nodes)

    # --- the four verbs

    def observe(self) -> Observation:
        """What is, from memory, control groups and arenas; no process is asked."""
        self._hear(0.0)
        now = time.monotonic()
        self._restore(now)
        jobs = self._lookout.look(self._told(), now)
        for offence in self._lookout.offences():
            self._condemn(offence)
        notices, self._notices = tuple(self._notices), []
        return Observation(jobs, notices)

    def start(self, task: Task, places: Sequence[Place]) -> None:
        """Replicas, one per place; of training one process with that many workers. What is known already is left.

        Refused: the port is in use. UserError: it names what is not here.
        """
        folder = Folder(self._jobs_folder / task.id)
        known = self._jobs.get(task.id)
        person, gpus_here = self._person(task.job), any(self._devices.values())
        wanted = orders.orders(task, self._real(places), folder, person, gpus_here, time.time())
        fresh = [order for order in wanted if known is None or order.replica not in known.orders]
        if not fresh:
            return
        self._check(task, known)
        job = held.begin(folder, task.job, self.pool, bool(self._groups.version))
        if known is None:
            self._jobs[task.id] = job
        else:
            known.about, job = job.about, known
        if task.secrets:
            self._write_secrets(folder, task)
        for order in fresh:
            self._order(job, task, order, len(places))
        if job.channel is None:
            self._reach(job)
        self._say(job, {"do": "look"})

    def resize(self, task: Task, places: Sequence[Place]) -> None:
        """Of training that runs: as many workers as places, fewer at once, more as soon as they are warm."""
        job, name = self._jobs.get(task.id), run_name(task.attempt)
        if job is None or name not in job.unfinished:
            raise Refused(f"{task.job.name} does not run")
        job.workers = len(places)
        with contextlib.suppress(OSError):
            self._groups.group(job.id, name).set(orders.limits(task.job, len(places)))
        align(job, name)

    def stop(self, job: str, replicas: Sequence[str], grace_s: float) -> None:
        """These replicas are told to end, and made to when the time is over; training writes a checkpoint first."""
        if (found := self._jobs.get(job)) is not None:
            wanted = [name for name in replicas if name in found.unfinished and not found.records[name].asked]
            if wanted:
                self._reach(found)
                self._say(found, {"do": "stop", "replicas": wanted, "grace_s": grace_s})

    def rest(self, job: str) -> None:
        """Nothing of the job runs, and nothing will for a while: its socket is closed. What it keeps on disk stays."""
        if (found := self._jobs.get(job)) is not None and found.channel is not None:
            self._say(found, {"do": "rest"})

    def forget(self, job: str, replicas: Sequence[str] | None = None) -> None:
        """The ends of these replicas are on record, and no longer told; None: the job is over, nothing of it stays."""
        found = self._jobs.get(job)
        if found is None:
            return
        if replicas is None:
            self._end(found)
            return
        for name in replicas:
            if name in found.orders and name not in found.unfinished:
                found.drop(name)
                shutil.rmtree(found.folder.replica(name), ignore_errors=True)
                self._broom.throw(found.folder.scratch(name))
        used = {found.orders[name].revision for name in found.orders}
        for revision in found.folder.revisions():
            if found.orders and revision not in used:
                self._broom.throw(found.folder.work(revision))
        self._broom.sweep(self._jobs)

    # --- waiting

    def wait(self, timeout_s: float) -> None:
        """Until something happened here, `wake` was called, or the time is over."""
        self._hear(timeout_s)

    def wake(self) -> None:
        """From any thread: whoever waits comes back."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def close(self) -> None:
        """The pool leaves; what runs goes on."""
        for job in self._jobs.values():
            self._lookout.keep(job)
            job.close()
        self._lookout.close()
        self._groups.sweep(keep=[job.id for job in self._jobs.values() if job.unfinished])
        self._broom.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _hear(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            else:
                self._heard(key.data)

    def _heard(self, job: Held) -> None:
        assert job.channel is not None
        try:
            messages = job.channel.ready()
        except OSError:
            messages = None
        if messages is None:
            self._lost(job)
            return
        changed = {message["replica"] for message in messages if "replica" in message}
        if any("all" in message for message in messages):
            job.shim = shims.name(job.folder)
            job.read()
        job.read(changed)
        for message in messages:
            if "notice" in message:
                self._notices.append(Notice(job.id, time.time(), str(message["notice"])))

    # --- shims

    def _reach(self, job: Held) -> None:
        """Be connected to the shim of a job; one is started where it has something to do and has none."""
        if job.channel is not None:
            return
        job.channel = shims.call(job.folder)
        if job.channel is None and job.unfinished:
            job.tried_s = time.monotonic()
            job.child = shims.spawn(job.folder)
            job.channel = shims.call(job.folder)
        if job.channel is not None:
            self._selector.register(job.channel, selectors.EVENT_READ, job)
            job.read()

    def _lost(self, job: Held) -> None:
        """The shim is gone, or has cut us off."""
        if job.channel is not None:
            self._selector.unregister(job.channel)
            job.channel.close()
            job.channel = None
        if job.child is not None and job.child.poll() is not None:
            job.child = None
        job.read()
        if job.leaving:
            self._clear(job)
        elif time.monotonic() - job.tried_s >= _AGAIN_S:
            self._reach(job)

    def _restore(self, now: float) -> None:
        for job in list(self._jobs.values()):
            if job.child is not None and job.child.poll() is not None:
                job.child = None
            if job.channel is None and job.unfinished and now - job.tried_s >= _AGAIN_S:
                self._reach(job)

    def _say(self, job: Held, message: dict[str, Any]) -> None:
        """To the shim; one that has just gone is replaced, and finds what counts in the files."""
        if job.channel is not None:
            try:
                job.channel.send(message)
            except OSError:
                self._lost(job)
                if job.channel is not None:
                    with contextlib.suppress(OSError):
                        job.channel.send(message)

    # --- beginnings

    def _check(self, task: Task, known: Held | None) -> None:
        """What can be said before anything is written down."""
        job = task.job
        if task.source is not None and not task.source.is_dir():
            raise UserError(f"{job.name}: the folder that was submitted is gone ({task.source}); submit it again")
        if job.port is not None and job.listen == "handed" and (known is None or known.channel is None):
            living = [record.pid for record in known.records.values() if record.lives] if known else []
            if not living:
                sockets.free(job.port)

    def _order(self, job: Held, task: Task, order: Order, workers: int) -> None:
        person = self._person(task.job)
        if not job.folder.results.exists():
            job.folder.results.mkdir(parents=True, mode=0o700)
            if person is not None:
                person.own(job.folder.results)
        if job.kind == Kind.TRAINING:
            job.workers = workers
            at = job.folder.attempt(order.replica)
            at.mkdir(parents=True, exist_ok=True)
            save(at / LAUNCH, orders.launch(task, job.folder, workers))
            if person is not None:
                person.own(job.folder.run)
        job.folder.write_order(order)
        job.read([order.replica])

    def _write_secrets(self, folder: Folder, task: Task) -> None:
        at, person = folder.secrets, self._person(task.job)
        if at.exists():
            at.chmod(0o700)
            shutil.rmtree(at)
        at.mkdir(mode=0o700)
        for name, content in task.secrets.items():
            (at / name).touch(0o600)
            (at / name).write_bytes(content)
            (at / name).chmod(0o400)
        if person is not None:
            person.own(at)
        at.chmod(0o500)

    def _person(self, job: Job) -> Person | None:
        return self._people.person(job.team) if self._people is not None else None

    def _real(self, places: Sequence[Place]) -> list[Place]:
        """Places with the machine's own indices of GPUs, where nodes are virtual."""
        found = []
        for place in places:
            here = self._devices.get(place.node, ())
            devices = tuple(here[index] for index in place.devices if index < len(here))
            found.append(Place(place.replica, place.node, devices))
        return found

    # --- looking

    def _told(self) -> list[Held]:
        return [job for job in self._jobs.values() if not job.leaving]

    def _condemn(self, offence: Offence) -> None:
        job, name = self._jobs.get(offence.job), offence.replica
        if job is not None and name in job.unfinished and not job.records[name].doom:
            self._notices.append(Notice(job.id, time.time(), f"replica {name} {offence.cause} and is ended"))
            self._say(job, {"do": "kill", "replica": name, "cause": offence.cause})

    # --- ends

    def _end(self, job: Held) -> None:
        job.leaving = True
        self._reach(job)
        if job.channel is not None:
            self._say(job, {"do": "end"})
        else:
            self._clear(job)

    def _clear(self, job: Held) -> None:
        """Nothing of it runs: its group and its folder go, its logs stay for a while."""
        job.close()
        shims.end(shims.name(job.folder))
        if job.child is not None:
            job.child.wait()
        self._jobs.pop(job.id, None)
        self._lookout.forget(job.id)
        self._groups.group(job.id).remove()
        self._broom.throw(job.folder.path)
        self._broom.sweep(self._jobs)
