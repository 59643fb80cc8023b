"""What becomes of a circle when something happens, and what is due. The only place where a candidate's way is decided.

Instructions are not handed over with an event but follow from what is kept (`due`): so a process that was killed
between two of its own instructions finds the second one due when it begins again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from springtide.serve.loop import ranges
from springtide.serve.loop.circle import (
    BASES_KEPT,
    NOTES_KEPT,
    PAST_KEPT,
    Base,
    CheckpointSeen,
    Circle,
    DriftSeen,
    Event,
    Examination,
    ExaminationFailed,
    Instruction,
    Judge,
    Judged,
    Note,
    Outcome,
    Past,
    ProductionSeen,
    Promote,
    Promoted,
    Quarantine,
    Register,
    Registered,
    Release,
    ReleaseAsked,
    Released,
    RestartTraining,
    Retrained,
    Tick,
    TrainingEnded,
    TrainingGoesOn,
    Verdict,
)


def advance(circle: Circle, event: Event, now_s: float) -> Circle:
    """The circle after the event; an event that does not concern it (any more) changes nothing."""
    match event:
        case CheckpointSeen():
            circle = _seen(circle, event)
        case Registered(version):
            if circle.exam is not None and circle.exam.version is None:
                circle = replace(circle, exam=replace(circle.exam, version=version), candidates=circle.candidates + 1)
        case Judged(version, verdict):
            if _under(circle, version) and circle.exam is not None and circle.exam.verdict is None:
                circle = _judged(circle, circle.exam, verdict, now_s)
        case Promoted(version):
            if _under(circle, version) and circle.exam is not None and circle.exam.verdict is not None:
                circle = _promoted(circle, circle.exam, circle.exam.verdict, now_s)
        case ExaminationFailed(sentence):
            if circle.exam is not None:
                circle = _over(circle, circle.exam, Verdict(Outcome.FAILED, sentence), now_s)
        case ProductionSeen(version):
            circle = _production(circle, version, now_s)
        case Retrained(generation):
            if generation == circle.generation:
                circle = replace(circle, placed=True)
        case TrainingEnded(sentence):
            if sentence != circle.training:
                circle = _told(replace(circle, training=sentence), sentence, now_s)
        case TrainingGoesOn():
            circle = replace(circle, training="")
        case ReleaseAsked(number, by):
            circle = _release_asked(circle, number, by, now_s)
        case Released(number, count):
            circle = _released(circle, number, count, now_s)
        case DriftSeen(sentence):
            circle = _told(circle, sentence, now_s)
        case Tick():
            pass
    return _begin(circle, now_s)


def due(circle: Circle) -> Instruction | None:
    """What is to be done next. Always the same until an event says that it was done, or became idle."""
    if not circle.placed:
        base = circle.base
        return RestartTraining(circle.generation, base.checkpoint if base else None, quarantined(circle))
    for one in circle.quarantines:
        if one.asked and not one.released:
            return Release(one.id, one.training)
    exam = circle.exam
    if exam is None:
        return None
    if exam.version is None:
        return Register(exam.checkpoint)
    if exam.verdict is None:
        return Judge(exam.version, exam.held_end)
    return Promote(exam.version, exam.verdict)


def next_s(circle: Circle) -> float:
    """When a `Tick` is worth it; infinity: never."""
    return circle.ended_s + circle.every_s if circle.exam is None and circle.newest is not None else float("inf")


def quarantined(circle: Circle) -> dict[int, tuple[tuple[int, int], ...]]:
    """What training skips: also what was released, since that stands at other offsets now."""
    return ranges.joined(one.training for one in circle.quarantines)


def unjudged(circle: Circle) -> dict[int, tuple[tuple[int, int], ...]]:
    """What of the held-out stream nothing is judged on."""
    return ranges.joined(one.held_out for one in circle.quarantines if not one.released)


def _under(circle: Circle, version: int) -> bool:
    return circle.exam is not None and circle.exam.version == version


def _seen(circle: Circle, event: CheckpointSeen) -> Circle:
    new, known = event.checkpoint, circle.newest
    if new.generation != circle.generation or new.step <= max(circle.examined_step, known.step if known else -1):
        return circle
    if circle.exam is not None and new.step <= circle.exam.checkpoint.step:
        return circle
    return replace(circle, newest=new, newest_held_end=dict(event.held_end), training="")


def _begin(circle: Circle, now_s: float) -> Circle:
    """At most one candidate under examination, the newest first, and not too often."""
    if circle.exam is not None or circle.newest is None or not circle.placed:
        return circle
    if now_s < circle.ended_s + circle.every_s:
        return circle
    exam = Examination(circle.newest, now_s, circle.newest_held_end)
    return replace(circle, exam=exam, newest=None, newest_held_end={})


def _judged(circle: Circle, exam: Examination, verdict: Verdict, now_s: float) -> Circle:
    if verdict.outcome == Outcome.PROMOTED:
        return replace(circle, exam=replace(exam, verdict=verdict))  # it passed, and is promoted next
    if verdict.outcome != Outcome.REFUSED:
        return _over(circle, exam, verdict, now_s)
    base = circle.base
    if base is None:
        # Nothing of this loop is in production: there is no state to go back to, and no record to suspect.
        return _over(circle, exam, replace(verdict, outcome=Outcome.WAITING), now_s)
    circle = _over(circle, exam, verdict, now_s)
    return _back(circle, base, exam.checkpoint.offsets, exam.held_end, exam.version, verdict.sentence, now_s)


def _back(
    circle: Circle, base: Base, offsets: ranges.Offsets, held_end: ranges.Offsets, version: int | None, why: str,
    now_s: float,
) -> Circle:  # fmt: skip
    """Training begins again at the base, without what was read since."""
    training = ranges.without(ranges.since(base.checkpoint.offsets, offsets), quarantined(circle))
    held_out = ranges.without(ranges.since(base.held_end, held_end), unjudged(circle))
    number = len(circle.quarantines) + 1
    many = ranges.count(training)
    told = (
        f"training goes back to version {base.version} (step {base.checkpoint.step}); {many} records since are "
        f"quarantined as number {number}"
    )
    one = Quarantine(number, version, why, now_s, training, held_out)
    circle = replace(
        circle, generation=circle.generation + 1, placed=False, newest=None, newest_held_end={}, exam=None,
        examined_step=base.checkpoint.step, quarantines=(*circle.quarantines, one), training="",
    )  # fmt: skip
    return _told(circle, told, now_s)


def _promoted(circle: Circle, exam: Examination, verdict: Verdict, now_s: float) -> Circle:
    assert exam.version is not None
    base = Base(exam.version, exam.checkpoint, exam.held_end)
    circle = replace(circle, bases=(*circle.bases, base)[-BASES_KEPT:])
    return _over(circle, exam, verdict, now_s)


def _over(circle: Circle, exam: Examination, verdict: Verdict, now_s: float) -> Circle:
    """The candidate is done with. Its sentence says why."""
    step, generation = exam.checkpoint.step, exam.checkpoint.generation
    past = Past(exam.version, generation, step, verdict.outcome, verdict.sentence, now_s, verdict.numbers)
    name = f"version {exam.version}" if exam.version is not None else "the candidate"
    circle = replace(
        circle, exam=None, ended_s=now_s, examined_step=max(circle.examined_step, step),
        past=(*circle.past, past)[-PAST_KEPT:],
    )  # fmt: skip
    return _told(circle, f"{name} (step {step}): {verdict.outcome}; {verdict.sentence}", now_s)


def _production(circle: Circle, version: int | None, now_s: float) -> Circle:
    """Somebody rolled back by hand: training follows."""
    base = circle.base
    older = [one for one in circle.bases[:-1] if one.version == version]
    if base is None or not older or _under(circle, version or 0):
        return circle
    kept = circle.bases[: circle.bases.index(older[-1]) + 1]
    circle = replace(circle, bases=kept)
    why = f"production was rolled back from version {base.version} to version {version}"
    return _back(circle, older[-1], base.checkpoint.offsets, base.held_end, base.version, why, now_s)


def _release_asked(circle: Circle, number: int, by: str, now_s: float) -> Circle:
    found = next((one for one in circle.quarantines if one.id == number), None)
    if found is None or found.asked:
        return circle
    return _told(_changed(circle, number, asked=True), f"{by} releases quarantine {number}", now_s)


def _released(circle: Circle, number: int, count: int, now_s: float) -> Circle:
    found = next((one for one in circle.quarantines if one.id == number), None)
    if found is None or found.released:
        return circle
    circle = _changed(circle, number, released=True, count=count)
    return _told(circle, f"quarantine {number}: {count} records stand at the end of the training stream again", now_s)


def _changed(circle: Circle, number: int, **changes: Any) -> Circle:
    every = tuple(replace(one, **changes) if one.id == number else one for one in circle.quarantines)
    return replace(circle, quarantines=every)


def _told(circle: Circle, sentence: str, now_s: float) -> Circle:
    return replace(circle, notes=(*circle.notes, Note(now_s, sentence))[-NOTES_KEPT:])
