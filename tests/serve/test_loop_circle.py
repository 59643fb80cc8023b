"""The laws of the circle, on invented histories: one candidate at a time, back to the last promoted, nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.serve.loop import keeping, ranges
from springtide.serve.loop.advance import advance, due, next_s, quarantined, unjudged
from springtide.serve.loop.circle import (
    Base,
    Checkpoint,
    CheckpointSeen,
    Circle,
    Event,
    ExaminationFailed,
    Instruction,
    Judge,
    Judged,
    Outcome,
    ProductionSeen,
    Promote,
    Promoted,
    Register,
    Registered,
    Release,
    ReleaseAsked,
    Released,
    RestartTraining,
    Retrained,
    Tick,
    TrainingEnded,
    Verdict,
)

GOOD, BAD = Verdict(Outcome.PROMOTED, "it is better"), Verdict(Outcome.REFUSED, "accuracy is 0.2, production's 0.9")
EARLY = Verdict(Outcome.WAITING, "3 records are too few")


def checkpoint(step: int, offset: int, generation: int = 0) -> Checkpoint:
    return Checkpoint(generation, step, f"digest-{generation}-{step}", f"/kept/{generation}-{step}", {0: offset})


def seen(step: int, offset: int, generation: int = 0, held: int = 0) -> CheckpointSeen:
    return CheckpointSeen(checkpoint(step, offset, generation), {0: held})


def after(circle: Circle, *events: Event, now_s: float = 0.0) -> Circle:
    for event in events:
        circle = advance(circle, event, now_s)
    return circle


def in_production(version: int = 1, step: int = 10, offset: int = 100, held: int = 10) -> Circle:
    return after(Circle(every_s=0.0), seen(step, offset, held=held), Registered(version), Judged(version, GOOD),
                 Promoted(version))  # fmt: skip


def test_a_candidate_is_registered_then_judged_then_promoted() -> None:
    circle = after(Circle(every_s=0.0), seen(10, 100, held=4))
    assert due(circle) == Register(checkpoint(10, 100))
    circle = after(circle, Registered(1))
    assert due(circle) == Judge(1, {0: 4})
    circle = after(circle, Judged(1, GOOD))
    assert due(circle) == Promote(1, GOOD)
    circle = after(circle, Promoted(1))
    assert due(circle) is None
    assert circle.base == Base(1, checkpoint(10, 100), {0: 4})
    assert circle.past[-1].outcome == Outcome.PROMOTED


def test_a_refusal_sends_training_back_and_quarantines_what_was_read_since() -> None:
    circle = after(in_production(), seen(20, 250, held=30), Registered(2), Judged(2, BAD))
    assert due(circle) == RestartTraining(1, checkpoint(10, 100), {0: ((100, 250),)})
    assert unjudged(circle) == {0: ((10, 30),)}
    circle = after(circle, Retrained(1))
    assert due(circle) is None
    assert "training goes back to version 1" in circle.notes[-1].sentence


def test_a_second_refusal_quarantines_only_what_is_new() -> None:
    circle = after(in_production(), seen(20, 250, held=30), Registered(2), Judged(2, BAD), Retrained(1))
    circle = after(circle, seen(20, 400, generation=1, held=50), Registered(3), Judged(3, BAD))
    assert [one.training for one in circle.quarantines] == [{0: ((100, 250),)}, {0: ((250, 400),)}]
    assert [one.held_out for one in circle.quarantines] == [{0: ((10, 30),)}, {0: ((30, 50),)}]
    assert due(circle) == RestartTraining(2, checkpoint(10, 100), {0: ((100, 400),)})


def test_what_is_told_of_another_candidate_or_too_early_changes_nothing() -> None:
    circle = after(Circle(every_s=0.0), seen(10, 100), Registered(1))
    for event in (Promoted(1), Judged(2, GOOD), Promoted(2), Registered(2), Retrained(5), Released(3, 9)):
        assert after(circle, event) == circle


def test_a_first_candidate_that_is_not_good_enough_is_no_reason_to_begin_again() -> None:
    circle = after(Circle(every_s=0.0), seen(10, 100), Registered(1), Judged(1, BAD))
    assert due(circle) is None
    assert (circle.generation, quarantined(circle)) == (0, {})
    assert due(after(circle, seen(20, 200))) == Register(checkpoint(20, 200))


def test_too_few_records_to_judge_by_is_no_refusal() -> None:
    circle = after(in_production(), seen(20, 250), Registered(2), Judged(2, EARLY))
    assert (circle.generation, quarantined(circle)) == (0, {})


def test_what_fails_for_another_reason_than_its_numbers_is_no_refusal() -> None:
    circle = after(in_production(), seen(20, 250), Registered(2), ExaminationFailed("the server has no memory left"))
    assert (circle.generation, circle.exam, circle.past[-1].outcome) == (0, None, Outcome.FAILED)


def test_checkpoints_that_come_meanwhile_wait_and_the_newest_is_examined_next() -> None:
    circle = after(Circle(every_s=0.0), seen(10, 100), seen(20, 200), seen(30, 300))
    assert due(circle) == Register(checkpoint(10, 100))
    circle = after(circle, Registered(1), Judged(1, GOOD), Promoted(1))
    assert due(circle) == Register(checkpoint(30, 300))


def test_examinations_are_as_far_apart_as_was_asked() -> None:
    circle = after(Circle(every_s=60.0), seen(10, 100), Registered(1), Judged(1, GOOD), Promoted(1), now_s=1000.0)
    circle = advance(circle, seen(20, 200), 1010.0)
    assert due(circle) is None
    assert next_s(circle) == 1060.0
    assert due(advance(circle, Tick(), 1060.0)) == Register(checkpoint(20, 200))


def test_checkpoints_of_a_training_that_was_sent_back_are_no_candidates() -> None:
    circle = after(in_production(), seen(20, 250), Registered(2), Judged(2, BAD), Retrained(1), seen(30, 400))
    assert due(circle) is None
    assert due(after(circle, seen(12, 300, generation=1))) == Register(checkpoint(12, 300, generation=1))


def test_a_roll_back_by_hand_takes_training_along() -> None:
    circle = after(in_production(), seen(20, 250, held=20), Registered(2), Judged(2, GOOD), Promoted(2))
    circle = after(circle, ProductionSeen(1))
    assert due(circle) == RestartTraining(1, checkpoint(10, 100), {0: ((100, 250),)})
    assert circle.base is not None and circle.base.version == 1
    assert due(after(circle, Retrained(1), ProductionSeen(1))) is None


def test_a_released_quarantine_is_appended_again_and_its_old_offsets_stay_skipped() -> None:
    circle = after(in_production(), seen(20, 250, held=30), Registered(2), Judged(2, BAD), Retrained(1))
    circle = after(circle, ReleaseAsked(1, "ines"))
    assert due(circle) == Release(1, {0: ((100, 250),)})
    circle = after(circle, Released(1, 150))
    assert due(circle) is None
    assert quarantined(circle) == {0: ((100, 250),)}
    assert unjudged(circle) == {}
    assert after(circle, ReleaseAsked(1, "ines"), Released(1, 150)) == circle


def test_why_training_does_not_go_on_is_told_once() -> None:
    failed = TrainingEnded("words-train failed: no memory")
    assert [note.sentence for note in after(Circle(), failed, failed).notes] == ["words-train failed: no memory"]


# --- invented histories, with a world that carries out what is due and may be killed between any two lines


@dataclass
class World:
    """A registry, a training and a stream as the laws see them; `kept` is the state that survives a kill."""

    kept: Circle = field(default_factory=lambda: Circle(every_s=0.0))
    versions: list[str] = field(default_factory=list)  # digests; a version is a place in it + 1
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    production: list[int] = field(default_factory=list)
    generation: int = 0
    began: Checkpoint | None = None
    skipped: ranges.Ranges = field(default_factory=dict)
    step: int = 0
    offset: int = 0  # training reads on from here
    trained: list[int] = field(default_factory=list)  # offsets in the weights of the training as it is
    at_step: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # what a checkpoint had in its weights
    end: int = 0  # of the training stream
    copies: dict[int, int] = field(default_factory=dict)  # released offset -> where it stands again

    def train(self, many: int) -> None:
        self.end += many
        for offset in range(self.offset, self.end):
            if not ranges.holds(self.skipped, 0, offset):
                self.trained.append(offset)
        self.offset, self.step = self.end, self.step + 1
        self.at_step[self.generation, self.step] = list(self.trained)

    def look(self) -> None:
        if self.step:
            self.tell(seen(self.step, self.offset, self.generation, held=self.offset // 10))

    def tell(self, event: Event) -> None:
        self.kept = keeping.decode(keeping.encode(advance(self.kept, event, 0.0)), "state.json")

    def carry_out(self, verdict: Verdict, killed: bool) -> None:
        """The instruction that is due, as `pool/circle` does it: with an effect once; killed before it can tell."""
        instruction = due(self.kept)
        event = self._done(instruction, verdict) if instruction is not None else None
        if event is not None and not killed:
            self.tell(event)

    def settle(self, verdict: Verdict) -> None:
        """All that is due."""
        while due(self.kept) is not None:
            self.carry_out(verdict, killed=False)

    def _done(self, instruction: Instruction, verdict: Verdict) -> Event:
        match instruction:
            case Register(one):
                if one.digest not in self.versions:
                    self.versions.append(one.digest)
                return Registered(self.versions.index(one.digest) + 1)
            case Judge(version):
                assert version == len(self.versions), "only the newest version is under examination"
                return Judged(version, self.verdicts.setdefault(version, verdict))
            case Promote(version):
                assert self.verdicts[version].outcome == Outcome.PROMOTED
                if self.production[-1:] != [version]:
                    self.production.append(version)
                return Promoted(version)
            case RestartTraining(generation, checkpoint, skipped):
                if generation != self.generation:
                    self._begin(generation, checkpoint, skipped)
                return Retrained(generation)
            case Release(id, chosen):
                for _, intervals in chosen.items():
                    for offset in (offset for first, end in intervals for offset in range(first, end)):
                        if offset not in self.copies:
                            self.copies[offset] = self.end
                            self.end += 1
                return Released(id, ranges.count(chosen))

    def _begin(self, generation: int, checkpoint: Checkpoint | None, skipped: ranges.Ranges) -> None:
        base = self.kept.base
        assert checkpoint is not None and base is not None and checkpoint == base.checkpoint
        assert base.version == self.production[-1], "training goes back to what is in production"
        self.generation, self.began, self.skipped = generation, checkpoint, skipped
        self.step, self.offset = checkpoint.step, checkpoint.offsets[0]
        self.trained = list(self.at_step[checkpoint.generation, checkpoint.step])
        self.at_step[generation, self.step] = list(self.trained)

    def check(self) -> None:
        assert len(set(self.production)) == len(self.production), "nothing is promoted twice with an effect"
        assert len(set(self.trained)) == len(self.trained), "no record counts twice"
        assert not [one for one in self.trained if ranges.holds(self.skipped, 0, one)], "quarantined and counted"
        base = self.kept.base
        if base is not None and self.kept.placed:
            within = set(self.at_step[base.checkpoint.generation, base.checkpoint.step])
            barred = quarantined(self.kept)
            assert not [one for one in within if ranges.holds(barred, 0, one)], "production holds a quarantined record"


words = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 5)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("good"), st.booleans()),
    st.tuples(st.just("bad"), st.booleans()),
    st.tuples(st.just("early"), st.booleans()),
    st.tuples(st.sampled_from(["all good", "all bad"]), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("release"), st.integers(1, 3)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(words, max_size=60))
def test_whatever_happens_and_whenever_it_is_killed_the_laws_hold(history: list[tuple[str, int]]) -> None:
    world = World()
    for word, value in history:
        match word:
            case "train":
                world.train(value)
            case "look":
                world.look()
            case "fail" if isinstance(due(world.kept), Register | Judge):
                world.tell(ExaminationFailed("the gate was killed"))
            case "release":
                world.tell(ReleaseAsked(value, "ines"))
            case "all good" | "all bad":
                world.settle(GOOD if word == "all good" else BAD)
            case "good" | "bad" | "early":
                world.carry_out({"good": GOOD, "bad": BAD, "early": EARLY}[word], killed=bool(value))
        world.check()
    while due(world.kept) is not None:
        world.carry_out(GOOD, killed=False)
        world.check()


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=40))
def test_after_a_refusal_exactly_the_records_since_the_base_are_quarantined(history: list[tuple[str, int]]) -> None:
    world = World()
    for word, value in history:
        match word:
            case "train":
                world.train(value)
            case "look":
                world.look()
            case "good" | "bad" | "early" | "all good" | "all bad":
                while word.startswith("all") and isinstance(due(world.kept), Register | Promote | RestartTraining):
                    world.carry_out(GOOD, killed=False)
                before = world.kept
                world.carry_out(BAD if "bad" in word else EARLY if word == "early" else GOOD, killed=False)
                if world.kept.generation > before.generation:
                    assert before.exam is not None and before.base is not None
                    candidate = world.at_step[before.exam.checkpoint.generation, before.exam.checkpoint.step]
                    base = world.at_step[before.base.checkpoint.generation, before.base.checkpoint.step]
                    new = world.kept.quarantines[-1].training
                    told = [offset for first, end in new.get(0, ()) for offset in range(first, end)]
                    assert told == sorted(set(candidate) - set(base))


a_span = st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda two: (two[0], two[0] + two[1]))
spans = st.lists(a_span, max_size=6)


@given(spans, spans)
def test_ranges_are_sets_of_offsets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    first, second = (ranges.joined([{0: tuple(s for s in spans if s[0] < s[1])}]) for spans in (one, other))

    def offsets(of: ranges.Ranges) -> set[int]:
        return {offset for begin, end in of.get(0, ()) for offset in range(begin, end)}

    assert offsets(ranges.joined([first, second])) == offsets(first) | offsets(second)
    assert offsets(ranges.without(first, second)) == offsets(first) - offsets(second)
    assert ranges.count(first) == len(offsets(first))
    assert all(ranges.holds(first, 0, offset) == (offset in offsets(first)) for offset in range(50))


def test_a_state_is_read_back_as_it_was_written() -> None:
    circle = after(in_production(), seen(20, 250, held=30), Registered(2), Judged(2, BAD), Retrained(1))
    assert keeping.decode(keeping.encode(circle), "state.json") == circle
    assert keeping.decode(keeping.encode(Circle()), "state.json") == Circle()
    assert replace(circle, every_s=1.0) != circle
