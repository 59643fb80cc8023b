"""What can be done with jobs, without HTTP: who asks, what for, and the answer as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from springtide.engines.engine import JobSeen
from springtide.pool import access, submission
from springtide.pool.access import Identity, Scope
from springtide.pool.office import Office, Seal, unsealed
from springtide.pool.records import JobRecord, State
from springtide.pool.refusals import Stale, Unknown
from springtide.pool.rows import Row, event_row, forecast_row, job_detail, job_row, replica_rows
from springtide.pool.store import number_of
from springtide.pool.submission import Meant, Order
from springtide.spec import amounts
from springtide.spec.checks import check_jobs
from springtide.spec.errors import Refused, UserError
from springtide.spec.job import Bid, Job, Kind
from springtide.spec.quantities import Range, nearest

LIVE = (State.WAITING, State.RUNNING, State.PAUSED)
_TOLD = 20  # events of a job that are told with it
_NAMES_TRIED = 500  # for "did you mean"


class Jobs:
    """Operations on jobs. Each raises UserError and Refused, and the errors of `refusals` that are among them."""

    def __init__(self, office: Office) -> None:
        self.office = office

    # --- handing in

    def submit(self, who: Identity, bodies: Sequence[str], sources: Sequence[tuple[str | None, str | None]],
               dry_run: bool = False, forecast: bool = False, seal: Seal = unsealed) -> Row:  # fmt: skip
        """New jobs, or updates of those that are there by name: all of them or none. `bodies` are JSON texts.

        `sources` are digest and script of each. `forecast`: also says what is to be expected; a dry run always does.
        """
        orders = self._orders(who, bodies, sources)
        # Of teams that may not be seen not even the names are told.
        teams = tuple(team for team in self.office.teams() if self._sees(who, team.name))
        pool = replace(self.office.live.pool(), teams=teams)
        warnings = check_jobs([order.job for order in orders], pool)
        if dry_run:
            self._meanings(orders, who)
        wanted = dry_run or forecast or any(order.job.deadline for order in orders)
        forecasts = (
            [forecast_row(one) for one in self.office.live.what_if([order.job for order in orders])] if wanted else []
        )
        warnings += [one["misses_deadline"] for one in forecasts if one["misses_deadline"]]
        answer: Row = {"jobs": [], "warnings": warnings, "forecasts": forecasts}
        if dry_run:
            return answer
        seen = self.office.live.observation()
        with self.office.store.database.writing():
            for meant in self._kept(self._meanings(orders, who)):
                row = job_row(meant.record, seen.jobs.get(meant.record.id))
                answer["jobs"].append(row | {"outcome": meant.outcome})
            seal(answer, *_subject(orders))
        self.office.live.wake()
        return answer

    def _orders(
        self, who: Identity, bodies: Sequence[str], sources: Sequence[tuple[str | None, str | None]]
    ) -> list[Order]:
        jobs = submission.read(bodies)
        tree = self.office.tree()
        for job in jobs:
            if self._sees(who, job.team):
                access.require(who, "jobs.submit", tree, job.team)
        faults = [
            fault
            for job, (source, script) in zip(jobs, sources, strict=True)
            for fault in self._lacks(job, source, script)
        ]
        if faults:
            raise UserError("\n".join(faults))
        return [Order(job, *source) for job, source in zip(jobs, sources, strict=True)]

    def _lacks(self, job: Job, source: str | None, script: str | None) -> list[str]:
        """What a job names and the pool does not have."""
        found = []
        if source is not None and not self.office.sources.has(source):
            found.append(f"job {job.name}: source: no folder {source[:12]} is here; send it first")
        elif (
            source is not None
            and job.kind == Kind.TRAINING
            and not (script and self.office.sources.holds(source, script))
        ):
            found.append(f'job {job.name}: script: "{script or job.script}" is not in its folder; put it there')
        here = {one.name for one in self.office.vault.all([job.team])} if job.secrets else set[str]()
        for name in job.secrets:
            if name not in here:
                hint = nearest(name, here) or f"; set it with `tide secret set {name} --team {job.team}`"
                found.append(f'job {job.name}: secrets: team {job.team} has no secret "{name}"{hint}')
        return found

    def _meanings(self, orders: Sequence[Order], who: Identity) -> list[Meant]:
        now_s = self.office.clock()
        return [submission.meaning(order, self._unfinished(order.job.name), now_s, who.name) for order in orders]

    def _unfinished(self, name: str) -> JobRecord | None:
        found = self.office.store.job(name)
        if found is not None and found.name != name:  # it is the id of another one
            found = next(iter(self.office.store.jobs(name=name, states=LIVE, limit=1)), None)
        return None if found is None or found.state.over else found

    def _kept(self, meanings: Sequence[Meant]) -> list[Meant]:
        store = self.office.store
        new = iter(store.submit([one.record for one in meanings if one.outcome == "submitted"]))
        return [
            Meant(next(new), one.outcome) if one.outcome == "submitted"
            else Meant(store.change(one.record), one.outcome) if one.outcome == "updated" else one
            for one in meanings
        ]  # fmt: skip

    # --- looking

    def listing(self, who: Identity, *, team: str | None = None, state: str | None = None, kind: str | None = None,
                name: str | None = None, limit: int = 1000, cursor: str | None = None) -> Row:  # fmt: skip
        """Newest first; `next` goes on from where this ends."""
        teams = self.office.seen_by(who)
        if team is not None:
            self._must_see(who, team)
            teams = frozenset([team])
        states = None if state is None else LIVE if state == "live" else (State(state),)
        before = _cursor(cursor)
        found = self.office.store.jobs(teams=teams, states=states, kind=kind, name=name, before=before, limit=limit + 1)
        seen = self.office.live.observation()
        rows = [job_row(record, seen.jobs.get(record.id)) for record in found[:limit]]
        return {"jobs": rows, "next": str(number_of(found[limit - 1].id)) if len(found) > limit else None}

    def _sees(self, who: Identity, team: str) -> bool:
        tree = self.office.tree()
        return team in tree.above and access.holds(who, Scope.VIEWER, team, tree)

    def _must_see(self, who: Identity, team: str) -> None:
        if not self._sees(who, team):
            known = [one.name for one in self.office.teams() if self._sees(who, one.name)]
            raise Unknown(f'there is no team "{team}"{nearest(team, known)}')

    def find(self, who: Identity, operation: str, name: str) -> JobRecord:
        """The job of that id or name, if this may be done with it. Unknown: also if it is not to be seen."""
        tree, store = self.office.tree(), self.office.store
        record = store.job(name)
        if record is None or not access.holds(who, Scope.VIEWER, record.job.team, tree):
            teams = self.office.seen_by(who)
            record = next(iter(store.jobs(teams=teams, name=name, limit=1)), None)
            if record is None:
                names = {one.name for one in store.jobs(teams=teams, limit=_NAMES_TRIED)}
                raise Unknown(
                    f'there is no job "{name}"{nearest(name, names) or "; `tide ps` lists those that are there"}'
                )
        access.require(who, operation, tree, record.job.team)
        return record

    def show(self, who: Identity, name: str) -> Row:
        record = self.find(who, "jobs.show", name)
        return job_detail(
            record, self._seen(record), self.office.store.events(job_id=record.id, limit=_TOLD, newest=True)
        )

    def replicas(self, who: Identity, name: str) -> Row:
        record = self.find(who, "jobs.replicas", name)
        return {"replicas": replica_rows(record, self._seen(record))}

    def explain(self, who: Identity, name: str) -> Row:
        """Why it is as it is, what would change that, and what was decided about it of late."""
        record = self.find(who, "jobs.explain", name)
        found = None if record.state.over else self.office.live.explain(record.id)
        events = self.office.store.events(job_id=record.id, limit=_TOLD, newest=True)
        sentence = found.sentence if found else _state_sentence(record)
        return {
            "name": record.name, "sentence": sentence, "changes": list(found.changes) if found else [],
            "decisions": [{"time_s": event.time_s, "sentence": event.sentence} for event in events],
        }  # fmt: skip

    def forecast(self, who: Identity, name: str) -> Row:
        """When it starts and ends if all goes on as it is. Refused: it is over or not planned."""
        record = self.find(who, "jobs.forecast", name)
        found = None if record.state.over else self.office.live.forecast(record.id)
        if found is None:
            raise Refused(f"nothing can be foretold of {record.name}: it is {record.state}")
        return forecast_row(found)

    def events(self, who: Identity, *, job: str | None = None, team: str | None = None, after: int | None = None,
               limit: int = 100) -> Row:  # fmt: skip
        """Oldest first; without `after` the newest ones. `next` is what `after` may be next time."""
        teams = self.office.seen_by(who)
        if team is not None:
            self._must_see(who, team)
            teams = frozenset([team])
        job_id = self.find(who, "jobs.show", job).id if job is not None else None
        found = self.office.store.events(
            after=after or 0, job_id=job_id, teams=teams, limit=limit, newest=after is None
        )
        return {"events": [event_row(event) for event in found], "next": found[-1].id if found else after or 0}

    # --- changing

    def update(self, who: Identity, name: str, *, replicas: str | None = None, paused: bool | None = None,
               bid: Bid | None = None, version: str | None = None, seal: Seal = unsealed) -> Row:  # fmt: skip
        """What is given is changed. Stale: `version` (an ETag) is not the job's."""
        size = None if replicas is None else _size(replicas)
        with self.office.store.database.writing():
            record = self.find(who, "jobs.update", name)
            _fresh(record, version)
            wanted = submission.changed(record, replicas=size, paused=paused, bid=bid)
            if wanted != record:
                record = self.office.store.change(wanted)
            row = job_row(record, self._seen(record))
            seal(row, record.job.team, record.name)
        self.office.live.wake()
        return row

    def cancel(self, who: Identity, name: str, version: str | None = None, seal: Seal = unsealed) -> Row:
        """It will be stopped and is over then. Refused: it is over."""
        with self.office.store.database.writing():
            record = self.find(who, "jobs.cancel", name)
            _fresh(record, version)
            wanted = submission.cancelled(record)
            if wanted != record:
                record = self.office.store.change(wanted)
            row = job_row(record, self._seen(record))
            seal(row, record.job.team, record.name)
        self.office.live.wake()
        return row

    def retry(self, who: Identity, name: str, seal: Seal = unsealed) -> Row:
        """A new job like one that failed or was cancelled."""
        with self.office.store.database.writing():
            record = self.find(who, "jobs.retry", name)
            new = submission.again(record, self.office.clock(), who.name)
            if new.source is not None and not self.office.sources.has(new.source):
                raise Refused(f"the folder of {record.name} is kept no longer; submit the job again")
            (kept,) = self.office.store.submit([new])
            row = job_row(kept, None)
            seal(row, kept.job.team, kept.name)
        self.office.live.wake()
        return row

    def _seen(self, record: JobRecord) -> JobSeen | None:
        return self.office.live.observation().jobs.get(record.id)


def _size(text: str) -> Range | str:
    word = text.strip()
    if word == "auto":
        return word
    if not word[:1].isdigit() and word[:1] not in "+-":
        raise UserError(f'replicas: "{text}" is no number of replicas; write 4, 1:4, or auto')
    return amounts.replicas(word, "replicas")


def _fresh(record: JobRecord, version: str | None) -> None:
    if version is not None and version.strip().removeprefix("W/").strip('"') not in ("*", str(record.version)):
        raise Stale(f"{record.name} is at version {record.version} now, not at {version}; look at it again")


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise UserError(f'cursor: "{text[:40]}" is none; take it from `next` of the page before')
    return int(text)


def _subject(orders: Sequence[Order]) -> tuple[str | None, str | None]:
    """Team and names for the audit; of many jobs the first ones."""
    teams = {order.job.team for order in orders}
    names = [order.job.name for order in orders]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (next(iter(teams)) if len(teams) == 1 else None), ", ".join(names[:5]) + more


def _state_sentence(record: JobRecord) -> str:
    return f"{record.name} is {record.state}" + (f": {record.reason}" if record.reason else "")
