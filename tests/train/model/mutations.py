"""Deliberate mistakes, as rules that the model takes instead of the product's; each must be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from springtide.train import membership, protocol
from springtide.train.protocol import NOBODY, Action, Compute, Course, Header, Wish
from train.model.world import Rules, Setup

_substitute = protocol.substitute


def _advance_dealing_out_the_living(state: Any, event: Any, now: float) -> Any:
    def wrong(owners: Sequence[int], dead: int, heirs: Sequence[int]) -> dict[int, int]:
        if dead == NOBODY or dead not in owners:
            return _substitute(owners, dead, heirs)
        return {item: heirs[item % len(heirs)] for item in range(len(owners))}

    with mock.patch.object(protocol, "substitute", wrong):
        return membership.advance(state, event, now)


def _following_without_lending(now: Header, wish: Wish, course: Course, *, stop: bool = False) -> Header:
    """The loan is told and the buffer written all the same."""
    true = protocol.following(now, wish, course, stop=stop)
    free = min(buffer for buffer in range(2) if buffer != true.read)
    return replace(true, write=free)


def _following_without_the_plan(now: Header, wish: Wish, course: Course, *, stop: bool = False) -> Header:
    """A step is handed out that is not in the step log yet."""
    return protocol.following(now, replace(wish, planned=wish.planned + 1), course, stop=stop)


def _current_without_second_look(chunk_flags: Sequence[int], header: Callable[[int], Header]) -> Header | None:
    tick = protocol.committed(chunk_flags) + 1
    found = header(tick % 2)
    return found if found.tick == tick else None


def _flags_before_owners(me: int, now: Header, blocks: Sequence[int], chunks: Sequence[int], *flags: Any) -> Action:
    """Flags first, then owners: between the two, an owner may flag, die and be replaced."""
    block_flags, covers, partial_flags, chunk_flags, fused = flags
    seen = [list(words) if words is not None else None for words in (block_flags, covers, partial_flags, chunk_flags)]
    return protocol.next_action(me, now, blocks, chunks, *seen, fused)  # type: ignore[arg-type]


def _computes_for_a_committed_tick(
    me: int, now: Header, blocks: Sequence[int], chunks: Sequence[int], *flags: Any
) -> Action:
    """Covers of the next tick make blocks look missing that are not."""
    block_flags, covers, _, _, fused = flags
    absent = protocol.missing(block_flags, covers, now.tick)
    mine = tuple(block for block in absent if blocks[block % len(blocks)] == me)
    if mine and fused:
        return Compute(mine[: 2 if mine[1:] == (mine[0] + 1,) else 1])
    return protocol.next_action(me, now, blocks, chunks, *flags)


MUTATIONS: dict[str, tuple[Rules, Setup]] = {
    "items of the living are dealt out": (
        Rules(advance=_advance_dealing_out_the_living),
        Setup(workers=3, blocks=3, kills=1),
    ),
    "the lent buffer is written": (Rules(following=_following_without_lending), Setup(checkpoints=1, steps=3)),
    "the flag comes before the data": (Rules(flag_before_data=True), Setup()),
    "a microbatch is flagged in backward": (Rules(flag_in_loop_body=True), Setup(chunks=1, steps=3, resizes=(1,))),
    "the flag of chunk 0 comes before the header": (Rules(flag_before_header=True), Setup()),
    "current does not look a second time": (
        Rules(current=_current_without_second_look),
        Setup(blocks=1, chunks=1, words=True),
    ),
    "flags are read before owners": (
        Rules(next_action=_flags_before_owners),
        Setup(chunks=1, steps=1, kills=1, words=True),
    ),
    "the bell rings before the flag": (Rules(ring_before_flag=True), Setup(chunks=1, bells=True)),
    "two rings are alike": (Rules(rings_alike=True), Setup(chunks=1, bells=True)),
    "a step is handed out before it is in the log": (Rules(following=_following_without_the_plan), Setup(stream=True)),
    "nobody rings for an idle tick": (
        Rules(nobody_rings_for_the_idle=True),
        Setup(chunks=1, steps=1, stream=True, bells=True),
    ),
    "a new supervisor wakes nobody": (
        Rules(adopts_silently=True),
        Setup(chunks=1, steps=1, kills=1, supervisor_kills=1, bells=True),
    ),
    "a break is looked for before the flags": (
        Rules(drained_seen_first=True),
        Setup(blocks=3, chunks=1, resizes=(3,), kills=1, breaks=1),
    ),
    "settings are used without a second look": (
        Rules(settings_unconfirmed=True),
        Setup(workers=1, steps=3, resizes=(2,), settings=True),
    ),
    "only the newest table keeps a worker from parking": (
        Rules(parks_by_newest_table=True),
        Setup(workers=1, chunks=1, resizes=(2, 1), bells=True),
    ),
    "a committed tick is computed for": (
        Rules(next_action=_computes_for_a_committed_tick),
        Setup(blocks=3, fused=True, resizes=(3,), kills=1),
    ),
}
