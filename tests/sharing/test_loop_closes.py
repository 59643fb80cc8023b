"""The whole circle with real processes: a word is learnt from corrections alone, and lies are stopped by the gate."""

from __future__ import annotations

import json

import pytest

from sharing.loops import words
from sharing.world import World
from springtide.data.streams import open_stream
from springtide.serve.loop import ranges
from springtide.serve.loop.advance import quarantined
from springtide.serve.loop.circle import Outcome
from springtide.serve.loop.holdout import held_out
from springtide.serve.registry import Registry

pytestmark = pytest.mark.slow


def test_a_word_is_learnt_from_corrections_alone_and_lies_are_stopped(world: World) -> None:
    with words(world) as loop, loop.somebody_who_asks() as somebody:
        world.until(lambda: loop.understood("up", "left", many=20) > 0.9, "known words are understood")
        assert loop.understood("mute") == 0.0

        loop.correct("mute", many=80)
        loop.kill("springtide.pool.circle")
        loop.correct("mute", many=80)
        loop.kill("springtide.serve.prepare")
        loop.correct("mute", many=80)
        world.until(lambda: loop.understood("mute", many=100) >= 0.95, "the new word is understood")
        assert loop.understood("up", "down", "left", "right") > 0.9, "what was known is known still"

        # Lies, so many that training must believe them.
        promoted = loop.circle.base
        assert promoted is not None
        loop.correct("up", as_if="down", many=400)
        world.until(lambda: any(one.outcome == Outcome.REFUSED for one in loop.circle.past), "a candidate is refused")
        world.until(lambda: loop.circle.placed and loop.circle.exam is None, "training was sent back")
        circle = loop.circle
        assert circle.generation >= 1 and ranges.count(quarantined(circle)) > 0
        told = loop.explained()
        assert "refused; accuracy" in told and "worse than production's" in told and "quarantine 1:" in told
        assert loop.understood("up") > 0.9, "what serves is as good as it was"
        assert loop.understood("mute") > 0.9

        # It goes on: what is true is learnt from the promoted state on, without what is quarantined.
        world.until(lambda: world.row("words-train")["state"] == "running", "training runs again")
        before = loop.circle.candidates
        loop.correct("mute", many=60)
        loop.correct("left", many=60)
        world.until(lambda: loop.circle.candidates > before, "another candidate of the new generation")

    assert not somebody.failed, somebody.failed[:3]
    assert len({answer["version"] for answer in somebody.answers}) >= 3, "versions changed while it asked"
    _every_answer_was_known_to_the_registry(world, {answer["version"] for answer in somebody.answers})
    _nothing_that_is_held_out_was_trained_on(loop.there.training, loop.there.held_out)


def _every_answer_was_known_to_the_registry(world: World, versions: set[int]) -> None:
    known = {change.number for change in Registry.open(world.home / "models").changes("words")}
    assert versions <= known


def _nothing_that_is_held_out_was_trained_on(training: str, aside: str) -> None:
    held = [json.loads(one.value) for one in _records(aside)]
    assert held and all(held_out(one["id"]) for one in held)
    trained = {tuple(json.loads(one.value)["x"]) for one in _records(training)}
    assert not [one for one in held if tuple(one["x"]) in trained]


def _records(url: str) -> list:  # type: ignore[type-arg]
    stream = open_stream(url)
    try:
        return stream.read(0, 0, limit=1_000_000)
    finally:
        stream.close()
