"""One worker: carries out what `protocol.next_action` says, on the arena, with the user's model and loop.

The loop body is the user's code between two `next()` calls, so the whole of a worker's life is one generator.
"""

from __future__ import annotations

import dis
import inspect
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from springtide.data.order import checksum
from springtide.spec import SpringtideError, UserError
from springtide.train import device, futex, protocol, randomness
from springtide.train.arena import TABLES, Arena, Role, Row, StepRecord, Word
from springtide.train.examiner import Examiner
from springtide.train.gradients import Collected, Meta, dense
from springtide.train.job import Job, Pass
from springtide.train.loading import Fetched
from springtide.train.protocol import Compute, Header, Kind, Partial, Update, Wait
from springtide.train.tree import fold

Batches = Generator[Any, None, None]


@dataclass(frozen=True)
class _Sums:
    """A step's blocks taken together; the same in every worker."""

    blocks: list[int]  # leaders by tree position, -1 where a fused pass covered the block
    weight: float
    loss: float
    samples: int
    checksum: int
    skipped: int


class Worker:
    """See the module. `me` is the row in the arena; `alone` means nobody else is there."""

    def __init__(self, job: Job, arena: Arena, me: int, *, alone: bool) -> None:
        self.job, self.arena, self.me, self.alone = job, arena, me, alone
        self.now = Header(0, Kind.TRAIN, 0, 0, 0, 0, -1, 0, 0)
        self.at = Pass()
        self.row = arena.rows[me]
        self._partials = job.recipe.clip_norm is not None or job.recipe.skip_nonfinite
        self._summed: tuple[int, _Sums] | None = None
        self._reduced: dict[int, tuple[int, list[bool]]] = {}
        self._dirty, self._rings, self._owed = False, 0, 0
        self._phase: type[protocol.Action] = Wait
        self._examiner = Examiner(job, arena, self.row)
        self._no_gradient_seen = False
        self._everything = [*job.model.parameters(), *job.weights.parameters]

    @property
    def main(self) -> bool:
        return self.alone or self.arena.words[Word.MAIN] == self.me

    @property
    def drained(self) -> bool:
        """Whether a `break` ended the run in the tick under way."""
        return bool(self.now.tick) and self.arena.words[Word.DRAINED] == self.now.tick

    @property
    def reached(self) -> tuple[int, int]:
        """At the end: the last committed step, and the buffer that holds its state."""
        return self.now.step - (self.now.kind == Kind.TRAIN), self.now.read

    # --- the loop

    def batches(self) -> Batches:
        """Microbatches to compute, until the run ends. Between two of them, all else that a step needs."""
        arena = self.arena
        while True:
            bell, seen = arena.bell(), self.row[Row.WAKE]
            now = protocol.current(arena.chunk_flags, arena.header)
            if now is None:
                continue
            if now.tick != self.now.tick:
                self._enter(now)
            if now.kind == Kind.END:
                return
            action = self._next_action(now)
            # After the tables: what one who left by `break` and died has passed on must not be done by an heir.
            if arena.words[Word.DRAINED] == now.tick:
                return
            if type(action) is not self._phase:
                self._phase = type(action)
                self._ring()
            if isinstance(action, Compute):
                if now.kind == Kind.EVALUATE:
                    self._examiner.examine(now, action.blocks[0])
                    self._dirty = True
                else:
                    yield from self._compute(now, action.blocks)
            elif isinstance(action, Partial):
                self._partial(now, action.chunk)
            elif isinstance(action, Update):
                self._update(now, action.chunk)
            elif not self._wait(now, bell, seen):
                return

    def _next_action(self, now: Header) -> protocol.Action:
        arena, table = self.arena, self.arena.table(now.generation)
        training = now.kind == Kind.TRAIN
        if now.kind == Kind.IDLE:
            held = protocol.idles(now, arena.wish(), self.job.recipe.course)
            return protocol.next_action(
                self.me, now, table.blocks, table.chunks, (), (), None, arena.chunk_flags, held=held
            )
        return protocol.next_action(
            self.me,
            now,
            table.blocks,
            table.chunks,
            arena.block_flags if training else arena.evaluation_flags,
            arena.covers if training else arena.evaluation_covers,
            arena.partial_flags if training and self._partials else None,
            arena.chunk_flags,
            training and not self.job.recipe.exact,
        )

    def _enter(self, now: Header) -> None:
        """A tick was committed and this one has begun."""
        before, self.now = self.now, now
        if self._owed:
            self.arena.stamp_step(self._owed, time.time())
            self._owed = 0
            if not self.alone:
                self.arena.tell(self._unique())
        self._ring()
        if before.tick and self.main:
            self._call_hooks(before, now)
        if now.kind in (Kind.TRAIN, Kind.END):
            self.job.settings.enter(now.step, lambda: self._travelling(now))
        if now.kind == Kind.TRAIN:
            self.at.step = now.step
            self._expect(now)

    def _travelling(self, now: Header) -> dict[str, Any]:
        """What travels with the state of this tick; nothing if the tick was over before it was read.

        A worker that no table names may be so late that the buffer is being written again.
        """
        try:
            found = self.arena.travelling(now.read)
        except ValueError:
            found = None
        late = protocol.current(self.arena.chunk_flags, self.arena.header)
        if late is None or late.tick != now.tick:
            return {}
        if found is None:
            raise SpringtideError(f"what travels with step {now.step} cannot be read: the arena is damaged")
        return found

    def _call_hooks(self, before: Header, now: Header) -> None:
        """The user's own, in the main worker, with the model as the tick left it."""
        job, hooks = self.job, list[Callable[[], object]]()
        if before.kind == Kind.TRAIN:
            hooks = job.on_step
        elif before.kind == Kind.EVALUATE:
            hooks = [partial(call, self.metrics()) for call in job.on_evaluate]
        if not hooks:
            return
        job.weights.bind(now.read, now.tick)
        job.weights.reset(now.read)
        job.weights.note_versions()
        modes = [(module, module.training) for module in job.model.modules()]
        for hook in hooks:
            hook()
        for module, training in modes:
            module.training = training
        job.weights.check_versions()
        job.weights.forget()
        for parameter in self._everything:
            parameter.grad = None

    def _expect(self, now: Header) -> None:
        """Tell the loader what comes: mine of this step, then of the next."""
        if not self.job.loader.looks_ahead:
            return
        owners = self.arena.table(now.generation).blocks
        mine = [m for b, owner in enumerate(owners) if owner == self.me for m in self.job.recipe.of(b)]
        last = self.arena.last_step(self.job.recipe.course.steps)
        steps = [now.step] + ([now.step + 1] if now.step < last else [])
        self.job.loader.expect([(step, m) for step in steps for m in mine], fused=not self.job.recipe.exact)

    def _wait(self, now: Header, bell: int, seen: int) -> bool:
        """Sleep until something changes. False: this worker is no longer wanted."""
        table = self.arena.table(now.generation)
        if self.alone and self.job.streaming is not None and now.kind == Kind.IDLE:
            self.job.streaming.plan(now.step)
            return True
        if self.alone or table.names(self.me):
            self.arena.sleep(bell)
            return True
        if self.row[Row.ROLE] == Role.LEAVE:
            return False
        # Any of the tables that are not in force yet, not the newest alone: an older one may have named this worker.
        newest = self.arena.words[Word.GENERATION]
        coming = range(max(now.generation + 1, newest - TABLES + 1), newest + 1)
        if any(self.arena.table(generation).names(self.me) for generation in coming):
            self.arena.sleep(bell)
        else:
            self.arena.park(self.me, seen)
        return True

    # --- microbatches

    def _compute(self, now: Header, blocks: tuple[int, ...]) -> Batches:
        recipe = self.job.recipe
        everything = tuple(m for block in blocks for m in recipe.of(block))
        passes = [(m,) for m in everything] if recipe.exact else [everything]
        collected = Collected(self.job.layout)
        metas = []
        for microbatches in passes:
            fetched = self.job.loader.get_many([(now.step, m) for m in microbatches])
            context = self._begin(now, microbatches, fetched)
            began = time.monotonic_ns()
            self.row[Row.SINCE] = began
            try:
                with context:
                    yield device.moved(fetched.batch, recipe.device)
            except GeneratorExit:
                self._left(now)
                raise
            metas.append(self._collect(collected, fetched, began))
        self._publish(now, blocks, collected, metas)

    def _begin(self, now: Header, microbatches: tuple[int, ...], fetched: Fetched) -> AbstractContextManager[Any]:
        self.job.weights.bind(now.read, now.tick)
        self.job.weights.reset(now.read)
        self.job.weights.note_versions()
        self.at = Pass(now.step, microbatches, fetched.indices)
        self.row[Row.MICROBATCH] = microbatches[0]
        randomness.seed_all(randomness.key(self.job.recipe.seed, randomness.COMPUTE, now.step, microbatches[0]))
        return device.autocast(self.job.recipe)

    def backward(self, loss: Tensor, weight: float | None) -> None:
        """The loop body's loss: a mean over the batch that it was given."""
        at = self.at
        count = len(at.microbatches)
        if weight is not None and at.loss is not None and at.weight != weight:
            raise UserError(f"backward(weight={weight}) after weight={at.weight} in one microbatch; give it once")
        scale = float(count) if weight is None else float(weight)
        at.weight = scale if weight is not None else None
        at.loss = loss.detach() if at.loss is None else at.loss + loss.detach()
        with device.autocast(self.job.recipe, enabled=False):
            (loss if scale == 1.0 else loss * scale).backward()  # type: ignore[no-untyped-call]

    def _collect(self, collected: Collected, fetched: Fetched, began: int) -> Meta:
        self.row[Row.SINCE] = 0
        weights, at = self.job.weights, self.at
        weights.check_versions()
        gradients = [dense(parameter.grad) for parameter in weights.parameters]
        if at.loss is None and len(at.microbatches) > 1:  # loss.backward() instead of run.backward(loss)
            gradients = [None if g is None else g.mul_(len(at.microbatches)) for g in gradients]
        for parameter in self._everything:
            parameter.grad = None
        if not self._no_gradient_seen and not any(gradient is not None for gradient in gradients):
            self._no_gradient_seen = True
            print("tide: the loop body called no backward; this microbatch counts, with no gradient", file=sys.stderr)
        collected.add(gradients, weights.taken(), len(at.microbatches))
        elapsed = time.monotonic_ns() - began
        self.row[Row.BUSY] += elapsed
        self.row[Row.DONE] += len(at.microbatches)
        weight = float(len(at.microbatches)) if at.weight is None else at.weight
        loss = float("nan") if at.loss is None else float(at.loss.item()) * weight
        return Meta(weight, loss, len(fetched.indices), checksum(fetched.indices), fetched.skipped, elapsed / 1e9)

    def _publish(self, now: Header, blocks: tuple[int, ...], collected: Collected, metas: list[Meta]) -> None:
        first = blocks[0]
        self.job.slots.publish(first, *collected.totals())
        self.job.slots.write_meta(first, _together(metas))
        self.arena.covers[first] = len(blocks)
        futex.fence()
        self.arena.block_flags[first] = now.tick  # Slot law: the flag comes after the data
        self._dirty = True

    def _left(self, now: Header) -> None:
        """The loop was left: by `break`, which ends the run for all, or by an exception, which is reported elsewhere.

        A `break` drops the iterator with a bytecode of its own; an exception that unwinds the frame stands at the call
        that raised. A generator around this one (a progress bar) is closed first, by the frame that called for it.
        """
        frame = sys._getframe(1)
        while frame is not None and (frame.f_code.co_filename.startswith(_HERE) or _is_being_closed(frame)):
            frame = frame.f_back  # type: ignore[assignment]
        if frame is not None and dis.opname[frame.f_code.co_code[frame.f_lasti]] in _DROPS:
            self.drain()

    def drain(self) -> None:
        """End the run with the last committed step: the tick under way cannot be committed without this worker's
        block.
        """
        self.arena.words[Word.DRAINED] = self.now.tick
        self._dirty = True
        self._ring()

    # --- reduction and update

    def _sums(self, now: Header) -> _Sums:
        if self._summed is None or self._summed[0] != now.tick:
            blocks, covered = [], 0
            for block, cover in enumerate(self.arena.covers):
                blocks.append(-1 if covered > 0 else block)
                covered = max(covered - 1, 0) if covered > 0 else cover - 1
            metas = [self.job.slots.meta(block) if block >= 0 else None for block in blocks]
            there = [meta for meta in metas if meta is not None]
            weight = fold([None if meta is None else meta.weight for meta in metas], _add) or 0.0
            loss = fold([None if meta is None else meta.loss for meta in metas], _add) or 0.0
            mask = (1 << 64) - 1
            total = sum(meta.checksum for meta in there) & mask
            samples, skipped = sum(meta.samples for meta in there), sum(meta.skipped for meta in there)
            self._summed = now.tick, _Sums(blocks, weight, loss, samples, total, skipped)
        return self._summed[1]

    def _reduce(self, now: Header, chunk: int) -> list[bool]:
        found = self._reduced.get(chunk)
        if found is None or found[0] != now.tick:
            sums = self._sums(now)
            out = self.job.updater.gradient(chunk, kept=self._partials)
            found = self._reduced[chunk] = now.tick, self.job.slots.reduce(chunk, out, sums.blocks, sums.weight)
        return found[1]

    def _partial(self, now: Header, chunk: int) -> None:
        self._reduce(now, chunk)
        gradient = self.job.updater.gradient(chunk, kept=True)
        self.arena.partials[chunk] = float(torch.linalg.vector_norm(gradient, dtype=torch.float64).item()) ** 2
        futex.fence()
        self.arena.partial_flags[chunk] = now.tick
        self._dirty = True

    def _update(self, now: Header, chunk: int) -> None:
        if now.kind == Kind.EVALUATE:
            self._examiner.keep_best(now, chunk)
        elif now.kind == Kind.TRAIN:
            self.job.updater.carry(chunk, now.read, now.write)
            if not self._skipped():
                present = self._reduce(now, chunk)
                self._clip(chunk)
                self.job.updater.update(chunk, now.write, present)
                self._reduced.pop(chunk, None)
        if chunk == 0:
            self._complete(now)
        futex.fence()
        self.arena.chunk_flags[chunk] = now.tick
        self._dirty = True

    def _clip(self, chunk: int) -> None:
        limit = self.job.recipe.clip_norm
        if limit is not None:
            factor = limit / (sum(self.arena.partials) ** 0.5 + 1e-6)
            if factor < 1.0 or factor != factor:
                self.job.updater.gradient(chunk, kept=True).mul_(factor)

    def _skipped(self) -> bool:
        """Whether this step changes nothing because its gradient is not finite."""
        if not self.job.recipe.skip_nonfinite:
            return False
        total = sum(self.arena.partials)
        return not total < float("inf")

    def _complete(self, now: Header) -> None:
        """What goes with chunk 0: module buffers, position, the line of the step, and the next header."""
        arena, parity, stop = self.arena, now.tick % 2, False
        if now.kind == Kind.TRAIN:
            sums, skipped = self._sums(now), self._skipped()
            means: list[Tensor | None] = [None] * len(self.job.layout.buffers)
            if not skipped:
                means = self.job.slots.buffer_means(sums.blocks)
            self.job.weights.write_buffers(now.read, now.write, now.step, means)
            self._write_position(now, sums)
            if self.job.evaluate is not None:
                arena.carry_record(parity)
            workers = len(set(arena.table(now.generation).blocks.tolist()))
            loss = sums.loss / sums.weight if sums.weight else float("nan")
            arena.write_step(StepRecord(now.step, time.time(), loss, workers, sums.samples, now.generation, skipped))
            self._owed = now.step
        elif now.kind == Kind.EVALUATE:
            record = self._examiner.verdict(now)
            arena.write_record(1 - parity, record)
            stop = bool(record["stop"])
        elif self.job.evaluate is not None:
            arena.carry_record(parity)
        arena.write_header(protocol.following(now, arena.wish(), self.job.recipe.course, stop=stop))

    def _write_position(self, now: Header, sums: _Sums) -> None:
        _, samples, checksum, skipped = self.arena.counts[now.read]
        more = self.job.settings.leave()
        if self.job.evaluate is not None:
            more["record"] = self.arena.record(now.tick % 2)
        if self.job.streaming is not None:
            before = self.arena.travelling(now.read).get("offsets")
            more["offsets"] = self.job.streaming.order.offsets(now.step, before)
        self.arena.write_position(
            now.write, now.step, samples + sums.samples, checksum + sums.checksum, skipped + sums.skipped, more
        )

    def metrics(self) -> dict[str, float]:
        """The last evaluation's means."""
        return self._examiner.metrics(self.now)

    # --- telling others

    def _ring(self) -> None:
        if self._dirty and not self.alone:
            self.arena.ring(self._unique())
        self._dirty = False

    def _unique(self) -> int:
        self._rings += 1
        return (self._rings ^ os.getpid() << 12) << 6 | self.me  # a row's next worker rings other values


_DROPS = {
    "POP_TOP", "POP_ITER", "END_FOR", "FOR_ITER", "STORE_NAME", "STORE_FAST", "STORE_GLOBAL", "STORE_DEREF",
    "DELETE_NAME", "DELETE_FAST", "DELETE_GLOBAL", "RETURN_VALUE", "RETURN_CONST",
}  # fmt: skip
_HERE = __file__.rpartition("/")[0]


def _is_being_closed(frame: FrameType) -> bool:
    """Whether it is a generator's that is unwound, not one that drops its iterator and goes on."""
    operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return bool(frame.f_code.co_flags & inspect.CO_GENERATOR) and operation not in _DROPS


def _together(metas: list[Meta]) -> Meta:
    if len(metas) == 1:
        return metas[0]
    return Meta(
        fold([meta.weight for meta in metas], _add) or 0.0,
        fold([meta.loss for meta in metas], _add) or 0.0,
        sum(meta.samples for meta in metas),
        sum(meta.checksum for meta in metas) & (1 << 64) - 1,
        sum(meta.skipped for meta in metas),
        sum(meta.seconds for meta in metas),
    )


def _add(left: float, right: float) -> float:
    return left + right
