"""From the arguments of `train.Run` to a worker on an arena: alone, or under a supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from springtide.data.fingerprint import fingerprint
from springtide.data.order import Order, OrderLike
from springtide.data.streams.source import Source
from springtide.spec import UserError
from springtide.train import arena as arenas
from springtide.train import (
    arguments,
    checkpoint,
    hardware,
    identity,
    layout,
    protocol,
    randomness,
    step_log,
    stream_order,
    update,
)
from springtide.train.arena import Arena, Shape, Word
from springtide.train.arguments import Arguments
from springtide.train.course import Settings
from springtide.train.gradients import Slots
from springtide.train.inventory import Entry, Inventory
from springtide.train.job import Job, Recipe
from springtide.train.launch import REPORT, Launch
from springtide.train.layout import Layout
from springtide.train.loading import Loader
from springtide.train.protocol import Course, Kind
from springtide.train.stream_order import StreamOrder
from springtide.train.streaming import Streaming
from springtide.train.update import Updater
from springtide.train.weights import Weights
from springtide.train.worker import Worker

_SLOTS_SHARE = 0.25  # of the memory that is free: above it, blocks of several microbatches share a slot


class Assembly:
    """Puts a run together in one process."""

    def __init__(self, given: Arguments, launch: Launch) -> None:
        self.given, self.launch = given, launch
        self._named, self._frozen = arguments.trained(given)
        self._elementwise = update.is_elementwise(given.optimizer)
        self._model_identity = identity.of_model(given.model)
        self.data = _fingerprint(given.dataset)
        count = arguments.microbatches(given.batch_size, given.microbatches)
        self.order = _order(given, self.data, count)
        self.streaming = Streaming(given, self.order) if isinstance(self.order, StreamOrder) else None
        steps = given.steps if given.steps is not None else protocol.UNLIMITED
        if given.steps is None and self.streaming is None:
            steps = self.order.steps(given.epochs or 1)
        every = given.evaluate.every_steps(self.order.count / given.batch_size, steps) if given.evaluate else 0
        self.settings = Settings(given.schedule, given.optimizer)
        self.layout = self._lay_out()
        self.recipe = Recipe(
            Course(steps, every), given.batch_size, count, self._block_size(count), given.seed, given.exact,
            given.clip_norm, given.skip_nonfinite, given.precision, given.device, given.threads,
        )  # fmt: skip
        self.inventory = self._inventory()
        self._loader = Loader(  # which starts nothing yet
            given.dataset, self.order, collate=given.collate, mode=given.loading, seed=self._seed(randomness.FETCH)
        )

    # --- joining

    def join(
        self, on_step: list[Callable[[], object]], on_evaluate: list[Callable[[dict[str, float]], object]]
    ) -> Worker:
        """The worker that this process is; in a nursery, each fork returns from here with its own."""
        if self.launch.role == "alone":
            arena = self._alone()
            me = 0
        else:
            from springtide.train import joining

            arena, me = joining.join(self)
        job = self._job(arena)
        if self.streaming is not None and self.launch.role != "alone":
            self.streaming.follow(Path(self.launch.folder) / step_log.NAME, arena)
        job.on_step, job.on_evaluate = on_step, on_evaluate
        job.weights.bind_constants()
        for parameter in [*self.given.model.parameters(), *job.weights.parameters]:
            parameter.grad = None  # of a backward pass before the loop
        if self.launch.role != "alone":
            from springtide.train import joining

            joining.report_for_work(arena, me)
        return Worker(job, arena, me, alone=self.launch.role == "alone")

    def _alone(self) -> Arena:
        descriptor = arenas.create()
        shape = self.shape()
        arenas.allocate(descriptor, shape)
        arena = Arena(descriptor, shape)
        if self.streaming is not None:
            self.streaming.lead(arena, self.recipe.course.steps)
        self.initialise(arena, None)
        return arena

    def initialise(self, arena: Arena, resume: str | None) -> None:
        """Bring the state of step 0, or of the checkpoint at `resume`, into buffer 0, and write the first header."""
        weights = self._weights(arena)
        weights.store(0)
        Updater(self.given.optimizer, self.layout, arena, elementwise=self._elementwise).import_state(
            [tensor for _, tensor, _ in self._named], 0
        )
        position: dict[str, Any] = {"step": 0, "samples": 0, "checksum": 0, "skipped": 0, **self.settings.first()}
        if resume is not None:
            found = _stored(resume.rpartition("/")[0], lambda one: one.path == resume)
            if found is None or found.manifest is None:
                raise UserError(f"{resume} is no complete checkpoint; `tide checkpoints` lists those that are")
            self.inventory.load(arena, 0, checkpoint.read_verified(found), found.manifest.step)
            position = dict(found.manifest.position)
            self._load_best(arena, resume, position)
        step, samples, checksum, skipped = (position.pop(name) for name in ("step", "samples", "checksum", "skipped"))
        arena.write_position(0, step, samples, checksum, skipped, position)
        record = position.get("record", {})
        evaluated = record.get("evaluated") == step
        header = protocol.first_header(step, 0, self.recipe.course, evaluated, arena.wish())
        arena.write_record(1, record)
        arena.write_header(header)
        arena.words[Word.INITIALISED] = 1

    def shape(self) -> Shape:
        evaluate = self.given.evaluate
        return Shape(
            blocks=self.recipe.blocks,
            chunks=len(self.layout.chunks),
            evaluations=evaluate.items(self.given.batch_size) if evaluate else 0,
            state_bytes=self.layout.state_bytes,
            slot_bytes=self.layout.slot_bytes,
            constant_bytes=self.layout.constant_bytes,
            best_bytes=self.layout.model_bytes if evaluate and evaluate.best else 0,
        )

    def description(self) -> dict[str, Any]:
        """All that a supervisor must know of the run, for the arena and for manifests."""
        given = self.given
        return {
            "shape": arenas.stored_shape(self.shape()),
            "inventory": self.inventory.document(),
            "identity": self.identity(),
            "order": {
                "fingerprint": self.data, "seed": self.recipe.seed, "batch_size": given.batch_size,
                "microbatches": self.recipe.microbatches, "sample": given.sample,
                "count": len(given.dataset) if self.streaming is None else 0,
            },
            "stream": None if self.streaming is None else self.streaming.description(),
            "course": asdict(self.recipe.course),
            "block_size": self.recipe.block_size,
            "steps_per_epoch": self.order.count / given.batch_size or None,
            "parameters": self.parameters,
            "config": self._config(),
            "hang_timeout_seconds": given.hang_timeout_seconds,
            "chunk_bytes": [chunk.values[1] - chunk.values[0] for chunk in self.layout.chunks],
            "cold": given.device != "cpu",
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(tensor.numel() for _, tensor, _ in self._named)

    def identity(self) -> dict[str, Any]:
        """What must be the same in every process of the run, and in a resumed one."""
        recipe, given = self.recipe, self.given
        return {
            "model": self._model_identity,
            "optimizer": identity.of_optimizer(given.optimizer, self.layout.groups),
            "dataset": self.data,
            "batch_size": recipe.batch_size,
            "microbatches": recipe.microbatches,
            "seed": recipe.seed,
            "exact": recipe.exact,
            "clip_norm": recipe.clip_norm,
            "precision": recipe.precision,
            "threads": recipe.threads,
            "sample": given.sample,
        }

    # --- leaving

    def leave(self, worker: Worker) -> None:
        """All but the main worker end here. In it, the script goes on, with the model in memory of its own."""
        step, buffer = worker.reached
        if worker.now.kind == Kind.END:
            self.settings.enter(step, lambda: worker.arena.travelling(buffer))
        if worker.alone:
            self._report(worker, step, buffer)
        else:
            from springtide.train import joining

            joining.leave(worker, self.order, step)
        worker.job.weights.release(buffer)
        worker.job.updater.export_state([tensor for _, tensor, _ in self._named], buffer)

    def optimizer_state(self, worker: Worker) -> dict[Any, dict[str, Any]]:
        """By parameter, as the loop body sees it: after the step before."""
        return worker.job.updater.whole_state([tensor for _, tensor, _ in self._named], worker.now.read)

    def load_best(self, worker: Worker) -> None:
        """Give the model the best parameters and buffers kept."""
        arena = worker.arena
        if not arena.shape.best_bytes:
            raise UserError(
                "run.load_best() needs evaluate=train.Evaluate(..., best='a metric'), which says what is best"
            )
        if not arena.record(worker.now.tick % 2).get("best"):
            raise UserError("run.load_best() found no evaluation that named a best model; the model stays as it is")
        worker.job.weights.load_from(arena.at.best)

    def _report(self, worker: Worker, step: int, buffer: int) -> None:
        path = os.environ.get(REPORT)
        if path:
            from springtide.train import alone

            try:
                alone.write_report(path, self, worker, step, buffer)
            except OSError as error:  # which is no reason to lose what was trained
                print(f"tide: the report was not written to {path}: {error.strerror}", file=sys.stderr)

    # --- parts

    def _job(self, arena: Arena) -> Job:
        given, recipe = self.given, self.recipe
        return Job(
            recipe=recipe,
            model=given.model,
            layout=self.layout,
            order=self.order,
            loader=self._loader,
            weights=self._weights(arena),
            slots=Slots(arena, self.layout),
            updater=Updater(given.optimizer, self.layout, arena, elementwise=self._elementwise),
            settings=self.settings,
            evaluate=given.evaluate,
            held_out=self._held_out(),
            streaming=self.streaming,
        )

    def _weights(self, arena: Arena) -> Weights:
        parameters = [tensor for _, tensor, _ in self._named]
        return Weights(self.given.model, parameters, [tensor for _, tensor in self._frozen], self.layout, arena)

    def _held_out(self) -> Loader | None:
        evaluate = self.given.evaluate
        if evaluate is None:
            return None
        size = evaluate.batch_size or self.given.batch_size
        order = InOrder(len(evaluate.dataset), size)
        return Loader(
            evaluate.dataset, order, collate=self.given.collate, mode="main", seed=self._seed(randomness.HELD_OUT)
        )

    def _seed(self, purpose: int) -> Callable[[int, int], None]:
        seed = self.recipe.seed
        return lambda step, microbatch: randomness.seed_all(randomness.key(seed, purpose, step, microbatch))

    def _lay_out(self) -> Layout:
        keys = update.state_keys(self.given.optimizer)
        buffers = [
            (name, tensor, held not in module._non_persistent_buffers_set)
            for name, (module, held) in layout.modules_of(self.given.model).items()
            if (tensor := module._buffers[held]) is not None
        ]
        return layout.build(
            self._named,
            self._frozen,
            buffers,
            [keys[id(tensor)] for _, tensor, _ in self._named],
            elementwise=self._elementwise,
        )

    def _block_size(self, count: int) -> int:
        """Microbatches a slot: one while memory allows, since a lost block is redone whole."""
        room = hardware.free_memory_bytes() * _SLOTS_SHARE
        size = 1
        while size < count and -(-count // size) * self.layout.slot_bytes > room:
            size *= 2
        return size

    def adopt_block_size(self, size: int) -> None:
        """Use the block size of the arena that is already there."""
        from dataclasses import replace

        self.recipe = replace(self.recipe, block_size=size)

    def _load_best(self, arena: Arena, resume: str, position: dict[str, Any]) -> None:
        best = position.get("record", {}).get("best")
        if best and arena.shape.best_bytes:
            root = resume.rpartition("/")[0] + "/best"
            found = _stored(root, lambda one: one.manifest is not None and one.manifest.step == best["step"])
            if found is None:
                print(
                    f"tide: the best model (step {best['step']}) is not in {root}; the search begins anew",
                    file=sys.stderr,
                )
                position["record"]["best"] = None
            else:
                self.inventory.load_best(arena, checkpoint.read_verified(found))

    def _config(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "optimizer": type(self.given.optimizer).__name__, "exact": recipe.exact, "clip_norm": recipe.clip_norm,
            "skip_nonfinite": recipe.skip_nonfinite, "precision": recipe.precision, "threads": recipe.threads,
            "steps": recipe.course.steps, "identity": self.identity(), "tied": arguments.tied(self.given.model),
            "buffers": [place.name for place in self.layout.buffers if place.persistent],
            "stream": self.given.dataset.rules.url if self.streaming is not None else None,
        }  # fmt: skip

    def _inventory(self) -> Inventory:
        lay, pieces = self.layout, [piece for chunk in self.layout.chunks for piece in chunk.pieces]
        entries = [_entry(f"model.{place.name}", place, model=True) for place in lay.parameters]
        entries += [_entry(f"model.{place.name}", place, region="constants", model=True) for place in lay.constants]
        entries += [
            _entry(f"model.{p.name}" if p.persistent else f"buffer.{p.name}", p, model=True) for p in lay.buffers
        ]
        for number, place in enumerate(lay.parameters):
            own = [piece for piece in pieces if piece.parameter == number]
            for index, (key, _) in enumerate(own[0].state if own else ()):
                size = layout.dtype_of(key.dtype).itemsize
                offsets = [piece.state[index][1] for piece in own]
                if key.like:
                    parts = tuple((offset, piece.count * size) for offset, piece in zip(offsets, own, strict=True))
                    shape: tuple[int, ...] = place.shape
                else:
                    shape = key.shape
                    for length in shape:
                        size *= length
                    parts = ((offsets[0], size),)
                presence = tuple(lay.presence_offset + piece.index for piece in own)
                name = f"optimizer.{place.name}.{key.key}"
                copies = () if key.like else tuple(offsets[1:])
                entries.append(Entry(name, key.dtype, shape, parts, "state", presence, copies))
        return Inventory(tuple(entries), lay.changed_offset, len(lay.buffers), arguments.tied(self.given.model))


class InOrder:
    """Held-out samples as they come: item i is the i-th batch. Written as an order, so that the same loader fetches
    them.
    """

    def __init__(self, count: int, size: int) -> None:
        import numpy as np

        self.count, self.batch_size, self.microbatches = count, size, 1
        self._all = np.arange(count, dtype=np.int64)

    def indices(self, step: int, microbatch: int) -> Any:
        del step
        return self._all[microbatch * self.batch_size : (microbatch + 1) * self.batch_size]

    def steps(self, epochs: float) -> int:
        return max(1, round(epochs))

    def epoch(self, step: int) -> float:
        return float(step)

    def expected(self, steps: int) -> tuple[int, int]:
        return self.count * steps, 0

    def expected_of(self, step: int) -> tuple[int, int]:
        del step
        return self.count, 0


def _entry(name: str, place: layout.Place, region: str = "state", *, model: bool) -> Entry:
    return Entry(name, place.dtype, place.shape, ((place.offset, place.size_bytes),), region, model=model)


def _stored(root: str, wanted: Callable[[checkpoint.Found], bool]) -> checkpoint.Found | None:
    return next((found for found in checkpoint.find(root) if found.problem is None and wanted(found)), None)


def _fingerprint(dataset: Any) -> str:
    saved = randomness.states()
    try:
        randomness.seed_all(randomness.key(0, randomness.FETCH, 0, 0))
        return fingerprint(dataset)
    finally:
        randomness.restore(saved)


def _order(given: Arguments, data: str, count: int) -> OrderLike:
    if isinstance(given.dataset, Source):
        return stream_order.of(given.dataset, data, given.seed, given.batch_size, count)
    own = getattr(given.dataset, "order", None)
    if callable(own) and type(given.dataset).__module__.startswith("springtide."):
        found: OrderLike = own(seed=given.seed, batch_size=given.batch_size, microbatches=count, sample=given.sample)
        return found
    return Order(data, given.seed, len(given.dataset), given.batch_size, count, given.sample)


__all__ = ["Assembly", "InOrder"]
