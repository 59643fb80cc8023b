"""The store against a model of it, under histories that hypothesis invents: owners and the loop write by turns."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from springtide.pool.database import Database
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.pool.store import Event, Round, Store, number_of
from springtide.spec.errors import Refused, SpringtideError
from springtide.spec.job import Job, Kind
from springtide.spec.quantities import Range

NAMES = st.sampled_from(["a", "b", "c"])
TEAMS = st.sampled_from(["default", "vision"])


class Power(BaseException):
    """The process dies here."""


class StoreAgainstModel(RuleBasedStateMachine):
    """`model` is what must be found: every record by id, as it was last kept."""

    ids: Bundle[str] = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "pool.sqlite"
        self.model: dict[str, JobRecord] = {}
        self.events: list[str] = []
        self.dies_at = ""
        self.open()

    def open(self) -> None:
        self.database = Database(self.path, self.fault)
        self.store = Store(self.database)
        self.seen_change = 0
        self.seen: dict[str, JobRecord] = {}

    def fault(self, moment: str) -> None:
        if moment == self.dies_at:
            self.dies_at = ""
            raise Power

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def unfinished(self, name: str) -> JobRecord | None:
        return next((one for one in self.model.values() if one.name == name and not one.state.over), None)

    # --- owners

    @rule(target=ids, names=st.lists(NAMES, min_size=1, max_size=3), team=TEAMS)
    def submit(self, names: list[str], team: str) -> object:
        new = [JobRecord("", Job(kind=Kind.BATCH, name=name, team=team), float(len(self.model))) for name in names]
        taken = len(set(names)) < len(names) or any(self.unfinished(name) for name in names)
        if taken:
            with pytest.raises(Refused, match="is there and not done"):
                self.store.submit(new)
            return multiple()
        kept = self.store.submit(new)
        assert not {one.id for one in kept} & set(self.model), "an id was given twice"
        self.model |= {one.id: one for one in kept}
        return multiple(*(one.id for one in kept))

    @rule(id_=ids, size=st.none() | st.integers(1, 9), wish=st.sampled_from(Wish), stale=st.booleans())
    def change(self, id_: str, size: int | None, wish: Wish, stale: bool) -> None:
        record = replace(self.model[id_], pinned=size and Range(size, size), wish=wish)
        if stale or record.state.over:
            with pytest.raises(Refused, match="was changed or ended meanwhile"):
                self.store.change(replace(record, version=record.version - stale))
            return
        self.model[id_] = self.store.change(record)
        assert self.model[id_].version == record.version + 1

    @rule(id_=ids, moment=st.sampled_from(["before commit", "after commit"]))
    def change_as_power_fails(self, id_: str, moment: str) -> None:
        """What was kept before stays; what was under way is there whole or not at all."""
        record = self.model[id_]
        if record.state.over:
            return
        self.dies_at = moment
        with pytest.raises(Power):
            self.store.change(replace(record, wish=Wish.PAUSE))
        if moment == "after commit":
            self.model[id_] = replace(record, wish=Wish.PAUSE, version=record.version + 1)
        self.reopen()

    # --- the loop

    @rule(id_=ids, state=st.sampled_from(State), replicas=st.integers(0, 3), reason=st.text(max_size=5))
    def keep(self, id_: str, state: State, replicas: int, reason: str) -> None:
        """The loop may have an old picture of the owner's half, and writes none of it."""
        record = self.model[id_]
        if record.state.over:
            return
        held = tuple(ReplicaRecord(f"r{number}", "n0", (number,), Step.STARTED) for number in range(replicas))
        course = {"state": state, "replicas": held, "reason": reason, "learned": {"steps": replicas}}
        old = replace(record, wish=Wish.RUN, pinned=None, version=1, **course)  # type: ignore[arg-type]
        sentence = f"event {len(self.events)}"
        event = Event(1.0, "x", sentence, record.job.team, record.name, id_)
        self.store.keep(Round(jobs={id_: old}, events=[event]))
        self.model[id_] = replace(record, **course)  # type: ignore[arg-type]
        self.events.append(sentence)

    @rule()
    def hear(self) -> None:
        """The loop reads on from where it was: afterwards its picture of owners' halves is the newest."""
        changed, self.seen_change = self.store.since(self.seen_change)
        self.seen |= {one.id: one for one in changed}
        for id_, record in self.model.items():
            if not record.state.over:
                mine = self.seen[id_]
                assert (mine.wish, mine.pinned, mine.version) == (record.wish, record.pinned, record.version)

    @rule(outer_fails=st.booleans(), name=NAMES)
    def nested(self, outer_fails: bool, name: str) -> None:
        """A transaction within another stands or falls with it."""
        if self.unfinished(name):
            return
        new = JobRecord("", Job(kind=Kind.BATCH, name=name), 0.0)
        try:
            with self.database.writing():
                (kept,) = self.store.submit([new])
                if outer_fails:
                    raise SpringtideError("no")
        except SpringtideError:
            return
        self.model[kept.id] = kept

    @rule(id_=consumes(ids))
    def forget_an_id(self, id_: str) -> None:
        """Records stay when nobody speaks of them any more."""
        assert self.store.job(id_) == self.model[id_]

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.open()

    # --- always

    @invariant()
    def everything_is_found_as_it_was_kept(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {one.id: one for one in self.store.jobs()}
        assert found == self.model
        assert [event.sentence for event in self.store.events(limit=10_000)] == self.events

    @invariant()
    def a_name_means_the_unfinished_job_or_the_newest(self) -> None:
        if not hasattr(self, "store"):
            return
        for name in ("a", "b", "c"):
            of_name = [one for one in self.model.values() if one.name == name]
            wanted = self.unfinished(name) or max(of_name, key=lambda one: number_of(one.id), default=None)
            assert self.store.job(name) == wanted

    @invariant()
    def counts_and_pages_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        assert sum(self.store.counts().values()) == len(self.model)
        first = self.store.jobs(limit=2)
        rest = self.store.jobs(before=number_of(first[-1].id)) if first else []
        assert [one.id for one in first + rest] == sorted(self.model, key=number_of, reverse=True)


StoreAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, database=None)
TestStore = StoreAgainstModel.TestCase


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "pool.sqlite")
    with database.writing() as rows:
        rows.execute("PRAGMA user_version = 99")
    database.close()
    before = (tmp_path / "pool.sqlite").read_bytes()
    with pytest.raises(SpringtideError, match="was written by a newer Springtide"):
        Database(tmp_path / "pool.sqlite")
    assert (tmp_path / "pool.sqlite").read_bytes() == before
