"""The pool's loop, level-triggered: observe, snapshot, plan, record, carry out; then wait for something to happen.

Nothing is remembered between rounds that could not be found out again: records lie in the store, what runs is asked of
the engine. What a round decides is on the disk before the engine hears of it, so a crash between the two is a round
that is carried out a little later.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from springtide.core import planner
from springtide.core.explain import Explanation, explain
from springtide.core.forward import Forecast, forecast
from springtide.core.market import Prices
from springtide.core.plan import Action, Plan, Verb
from springtide.core.snapshot import Snapshot
from springtide.engines.engine import Engine, Notice, Observation, Phase, Used
from springtide.pool import accounts, carrying, lifecycle, loads, picture
from springtide.pool.accounts import Accounts
from springtide.pool.live import TeamUse
from springtide.pool.neighbours import Neighbours
from springtide.pool.picture import Picture
from springtide.pool.quiet import Quiet
from springtide.pool.records import JobRecord, State, Step
from springtide.pool.store import Event, Round, Store
from springtide.pool.telling import Refusal, Secrets, Teller, no_secrets
from springtide.spec.errors import SpringtideError
from springtide.spec.files import pool_from_text
from springtide.spec.job import Job
from springtide.spec.sharing import Pool

TICK_S = 1.0
SOON_S = 0.05  # between rounds while room changes hands
LATER_S = 0.5  # while something takes long to end
SETTLE_S = 10.0  # after a restart, before training grows into room that a service may need whose load is not known yet
KEEP_USE_S, KEEP_WAITS_S, KEEP_LOADS_S = 10.0, 30.0, 60.0
_log = logging.getLogger("springtide.pool")


class Loop:
    """See the module. `round` may be called by itself, with a time, by whoever owns the clock; `run` repeats it."""

    def __init__(
        self, store: Store, engine: Engine, sources: Path, secrets: Secrets = no_secrets,
    ) -> None:  # fmt: skip
        self.store, self.engine = store, engine
        self._teller = Teller(engine, sources, secrets)
        self.records: dict[str, JobRecord] = {}
        self.seconds: float = 0.0  # that the last round took
        self._learns_speeds = engine.overcommitted() is None
        self._change = 0
        self._drained: frozenset[str] = frozenset()
        self._configured: object = None
        self._picture = self._new_picture(Pool(nodes=tuple(engine.nodes())))
        self._seen = Observation()
        self._accounts = Accounts()
        self._settled_s: float | None = None
        self._kept_s = {"use": 0.0, "loads": 0.0}
        self._lock = threading.RLock()
        self._ended = threading.Event()  # all that ran, after `down`
        self._quiet = Quiet()
        self._waits: dict[str, tuple[str, float]] = {}  # job id -> why it waits, and when that was written down
        self._ending = threading.Event()
        self._down = False
        self._remember()

    # --- rounds

    def run(self) -> None:
        """Round after round, until `end`. A round that fails is told in the log and tried again."""
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                due_s = self.round(time.time())
            except SpringtideError as error:
                _log.error("%s", error)
                due_s = TICK_S
            except Exception:
                _log.exception("a round of the pool failed; the next begins anew")
                self._forget_everything()
                due_s = TICK_S
            self.seconds = time.monotonic() - began
            self.engine.wait(due_s)

    def end(self) -> None:
        """`run` returns; what runs goes on."""
        self._ending.set()
        self.engine.wake()

    def down(self, keep: bool, timeout_s: float = 120.0) -> bool:
        """Stops all that runs, training with a checkpoint, unless it is to be kept; then ends. Whether all has ended.

        Jobs stay as they are in the store: the next loop starts them again.
        """
        if not keep:
            self._down = True
            self.engine.wake()
            self._ended.wait(timeout_s)
        self.end()
        return keep or self._ended.is_set()

    def round(self, now_s: float) -> float:
        """One round. Returns in how many seconds the next is due if nothing happens."""
        seen = self.engine.observe()
        with self._lock:
            self._seen = seen
            changes = Round()
            self._hear_owners(now_s)
            if self._settled_s is None:
                self._settled_s = now_s + SETTLE_S * any(one.replicas for one in self.records.values())
            busy = self._quiet.busy(self.records.values(), seen.jobs, now_s)
            ended = self._advance(busy, seen, changes, now_s)
            self._plan(busy, changes, now_s)
            self._begin(changes, now_s)
            self._book(changes, now_s)
            changes.events += [self._noticed(one) for one in seen.notices if one.job in self.records]
            try:
                self.store.keep(changes)
            except BaseException:
                self._forget_everything()
                raise
        moved = [self.records[name] for name in {one.id: None for one in busy} | dict.fromkeys(changes.jobs)]
        refusals = self._teller.tell(moved, seen, now_s)
        if refusals:
            self._keep_refusals(refusals, now_s)
        for record in moved:
            self._quiet.looked(self.records[record.id], seen.jobs.get(record.id), now_s)
        self._let_go(seen, ended, changes)
        return self._due_s(seen, now_s)

    def _hear_owners(self, now_s: float) -> None:
        """Takes over what owners and administrators have changed."""
        changed, newest = self.store.since(self._change)
        if newest == self._change and self._configured is not None:
            return
        self._change = newest
        configured = (self.store.kept("pool"), self.store.kept("drained"))
        if configured != self._configured:
            self._configure(*configured)
        for owner in changed:
            mine = self.records.get(owner.id)
            if mine is None:
                if not owner.state.over:
                    self.records[owner.id] = owner
                continue
            self._pass(mine, now_s)
            self.records[owner.id] = replace(
                mine, job=owner.job, source=owner.source, script=owner.script, wish=owner.wish, pinned=owner.pinned,
                revision=owner.revision, version=owner.version,
            )  # fmt: skip

    def _advance(
        self, busy: Iterable[JobRecord], seen: Observation, changes: Round, now_s: float
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Lets these records know what happened to them. Returns which ends are on record then."""
        ended = []
        for record in busy:
            self._pass(record, now_s)
            advanced = lifecycle.advance(
                record, seen.jobs.get(record.id), now_s, self._drained, self._teller.agreed(record)
            )
            changes.events += advanced.events
            if advanced.ended:
                ended.append((record.id, advanced.ended))
            self._set(advanced.record, changes, now_s)
            if advanced.record.state.over:
                self._picture.forget(record.id)
                self._quiet.forget(record.id)
        return ended

    def _plan(self, busy: Iterable[JobRecord], changes: Round, now_s: float) -> None:
        if self._down:
            for record in list(self.records.values()):
                names = [one.id for one in record.replicas]
                self._set(replace(record, replicas=lifecycle.stopped(record.replicas, names, now_s)), changes, now_s)
            return
        settling = self._settled_s is not None and now_s < self._settled_s
        for one in busy:
            record = self.records[one.id]
            if not record.state.over:
                self._picture.sync(record, now_s, settling)
                seen = self._seen.jobs.get(record.id)
                self._picture.observed(record, seen.load if seen else None, now_s)
        plan = planner.plan(self._picture.snapshot(now_s))
        neighbours = Neighbours(self.records.values(), self._picture.pool.nodes) if plan.actions else None
        for action in plan.actions:
            self._decide(action, neighbours, changes, now_s)
        self._explain_waits(plan, changes, now_s)
        before = self._picture.money()
        self._picture.apply(plan, now_s)
        if (after := self._picture.money()) != before:
            changes.kept["money"] = after
            if (before["core"], before["gpu"]) != (after["core"], after["gpu"]):
                changes.price = (now_s, after["core"], after["gpu"])

    def _decide(self, action: Action, neighbours: Neighbours | None, changes: Round, now_s: float) -> None:
        job_id = self._picture.job(action.job)
        record = self.records[job_id]
        added, removed = self._picture.places(action)
        reason = str(action.reason)
        if action.verb == Verb.START and neighbours and (pair := neighbours.paired(record, added)):
            reason = f"{reason}, {pair}"
        after = carrying.decided(record, action.verb, added, removed, reason, now_s)
        self._set(after, changes, now_s)
        count = sum(one.step != Step.STOPPING for one in after.replicas)
        sentence = _told(action, record.name, count, reason)
        changes.events.append(Event(now_s, str(action.verb), sentence, record.job.team, record.name, job_id))

    def _explain_waits(self, plan: Plan, changes: Round, now_s: float) -> None:
        """A wait is written down when its cause is another; its numbers, which change all the time, once in a while."""
        for row, why in plan.waits.items():
            job_id = self._picture.job(row)
            template, told_s = self._waits.get(job_id, ("", 0.0))
            record = self.records[job_id]
            if record.replicas or (template == why.template and now_s < told_s + KEEP_WAITS_S):
                continue
            self._waits[job_id] = why.template, now_s
            self._set(replace(record, reason=str(why)), changes, now_s)

    def _begin(self, changes: Round, now_s: float) -> None:
        for record in carrying.begin(self.records.values(), self._picture.pool.nodes, now_s):
            self._set(record, changes, now_s)

    def _book(self, changes: Round, now_s: float) -> None:
        cluster = self._picture.cluster
        cluster.teams = accounts.aged(self._picture.snapshot(now_s), max(now_s - self._kept_s.get("teams", now_s), 0.0))
        self._kept_s["teams"] = now_s
        if now_s - self._kept_s["use"] >= KEEP_USE_S or any(one.state.over for one in changes.jobs.values()):
            self._kept_s["use"] = now_s
            if uses := self._accounts.take():
                changes.uses += uses
                changes.kept["money"] = self._picture.money()
        if now_s - self._kept_s["loads"] >= KEEP_LOADS_S:
            self._kept_s["loads"] = now_s
            if known := self._picture.loads():
                changes.kept["loads"] = {job_id: loads.to_data(load) for job_id, load in known.items()}

    def _set(self, record: JobRecord, changes: Round, now_s: float) -> None:
        before = self.records[record.id]
        if before is not record and before != record:
            self._pass(before, now_s)
            record = carrying.attained(before, record, now_s)
            self.records[record.id] = record
            changes.jobs[record.id] = record

    def _pass(self, record: JobRecord, now_s: float) -> None:
        """Books what the job has had until now, before that changes."""
        there = self._seen.jobs.get(record.id)
        self._accounts.passed(record, there.used if there else Used(), now_s)

    def _noticed(self, notice: Notice) -> Event:
        record = self.records[notice.job]
        return Event(
            notice.at_s, "notice", f"{record.name}: {notice.sentence}", record.job.team, record.name, record.id
        )

    # --- the engine

    def _keep_refusals(self, refusals: Iterable[Refusal], now_s: float) -> None:
        """What the engine refused is told; a job that is wrong in itself ends once nothing of it is left."""
        changes = Round()
        for refusal in refusals:
            record = self.records[refusal.job]
            if refusal.final:
                names = [one.id for one in record.replicas]
                replicas = lifecycle.stopped(record.replicas, names, now_s)
                record = replace(record, replicas=replicas, learned={**record.learned, "verdict": refusal.sentence})
            else:
                changes.events.append(
                    Event(
                        now_s, "refused", f"{record.name}: {refusal.sentence}", record.job.team, record.name, record.id
                    )
                )
            self._set(replace(record, reason=refusal.sentence), changes, now_s)
        self.store.keep(changes)

    def _let_go(self, seen: Observation, ended: Iterable[tuple[str, tuple[str, ...]]], changes: Round) -> None:
        """The engine need not tell any more what is on record; of jobs that are over or unknown nothing stays."""
        for job_id, names in ended:
            if not self.records[job_id].state.over:
                self._teller.forget_ends(job_id, names)
        for record in changes.jobs.values():
            if record.state.over:
                del self.records[record.id]
                self._accounts.forget(record.id)
                self._waits.pop(record.id, None)
                self._teller.forget(record.id)
            elif not record.replicas and (record.state == State.PAUSED or self._down):
                self._teller.rest(record.id)
        for job_id, there in seen.jobs.items():
            if job_id not in self.records:
                self._teller.end_stranger(job_id, there)

    def _due_s(self, seen: Observation, now_s: float) -> float:
        """Soon while room changes hands, and when a job may start again; else a tick."""
        due = TICK_S
        for record in self._quiet.busy(self.records.values(), seen.jobs, now_s):
            there = seen.jobs.get(record.id)
            for one in record.replicas:
                if one.step != Step.STARTED or there is None or (not there.training and one.id not in there.replicas):
                    due = min(due, SOON_S if now_s - one.since_s < 2.0 else LATER_S)
            if now_s < record.retry_at_s:
                due = min(due, record.retry_at_s - now_s)
        if self._down and not _goes_on(self.records.values(), seen):
            self._ended.set()
        return max(due, 0.01)

    # --- beginnings

    def _new_picture(self, pool: Pool) -> Picture:
        return Picture(pool, self._drained, self._learns_speeds)

    def _configure(self, pool: object, drained: object) -> None:
        """Teams and rules as administrators have said them; nodes are the engine's."""
        said = pool_from_text(json.dumps(pool), nodes_elsewhere=True) if pool else Pool()
        self._drained = frozenset(str(name) for name in drained) if isinstance(drained, list) else frozenset()
        money, known = self._picture.money(), self._picture.loads()
        self._picture = self._new_picture(replace(said, nodes=tuple(self.engine.nodes())))
        kept = self.store.kept("money") if self._configured is None else money
        self._picture.remember_money(kept or {}, self.store.prices())
        for job_id, load in known.items():
            self._picture.remember_load(job_id, load)
        self._configured = (pool, drained)
        self._quiet.clear()

    def _remember(self) -> None:
        for job_id, data in (self.store.kept("loads") or {}).items():
            self._picture.remember_load(job_id, loads.from_data(data))

    def _forget_everything(self) -> None:
        """After a failed write memory may be ahead of the disk: the next round reads all anew."""
        with self._lock:
            self.records.clear()
            self._quiet.clear()
            self._change, self._configured = 0, None

    # --- for other threads

    def wake(self) -> None:
        self.engine.wake()

    def pool(self) -> Pool:
        return self._picture.pool

    def observation(self) -> Observation:
        return self._seen

    def prices(self) -> Prices:
        return self._picture.cluster.prices

    def team_use(self) -> Mapping[str, TeamUse]:
        with self._lock:
            held = accounts.held_by(self.records.values())
            cluster = self._picture.cluster
            return accounts.team_use(cluster.teams, held, cluster.nodes.total())

    def explain(self, job_id: str) -> Explanation | None:
        found = self._frozen(job_id)
        return explain(*found) if found else None

    def forecast(self, job_id: str) -> Forecast | None:
        found = self._frozen(job_id)
        return forecast(*found) if found else None

    def what_if(self, jobs: Iterable[Job]) -> list[Forecast]:
        now_s = time.time()
        with self._lock:
            snapshot = self._picture.frozen(now_s)
        return picture.what_if(snapshot, list(jobs))

    def _frozen(self, job_id: str) -> tuple[Snapshot, int] | None:
        with self._lock:
            row = self._picture.row(job_id)
            return None if row is None else (self._picture.frozen(time.time()), row)


def _goes_on(records: Iterable[JobRecord], seen: Observation) -> bool:
    """Whether anything is started, or seen to run."""
    if any(one.step != Step.ASSIGNED for record in records for one in record.replicas):
        return True
    return any(one.phase != Phase.ENDED for there in seen.jobs.values() for one in there.replicas.values())


def _told(action: Action, name: str, count: int, reason: str) -> str:
    """`fill shrinks to 1 replica for web (production)`: the reason alone where it says what happens."""
    verbs = {"start": "starts with", "grow": "grows to", "shrink": "shrinks to", "move": "moves, still with"}
    verb = verbs.get(str(action.verb), "is suspended")
    if reason.startswith(verb.split()[0]):
        return f"{name} {reason}"
    return f"{name} {verb}: {reason}" if action.verb == Verb.SUSPEND else f"{name} {verb} {count}: {reason}"
