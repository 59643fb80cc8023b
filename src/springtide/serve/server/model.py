"""One model: which of its versions answer, and how another takes over without a lost or mixed answer.

A version is built and warmed up beside the one that answers; then one assignment makes it the one. Requests carry the
version that they began with to their end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from springtide.serve.build import build_module
from springtide.serve.registry import Registry, Stage, Version
from springtide.serve.server import rollout
from springtide.serve.server.faults import RETRY_S, Fault
from springtide.serve.server.loaded import Inputs, Loaded, Outputs, alike
from springtide.serve.server.metrics import Metrics
from springtide.serve.server.queue import Limits, Queue
from springtide.spec.errors import SpringtideError, UserError

_log = logging.getLogger("springtide.serve")
_SHADOWS_WAITING = 8  # beyond which what nobody waits for gives way


@dataclass(frozen=True, slots=True)
class Serving:
    """Who answers now. Replaced as a whole, so that no request sees half of a change."""

    production: Loaded | None = None
    canary: Loaded | None = None
    share: float = 0.0
    shadow: Loaded | None = None

    def choose(self, key: str) -> Loaded | None:
        """The version for a request of this key."""
        if self.canary is not None and rollout.falls(key, self.share):
            return self.canary
        return self.production

    def numbered(self, number: int) -> Loaded | None:
        """The version of that number, if it is in memory."""
        return next(
            (one for one in (self.production, self.canary, self.shadow) if one is not None and one.number == number),
            None,
        )


class Model:
    """See the module. Used from the event loop alone."""

    def __init__(self, name: str, registry: Registry, limits: Limits, metrics: Metrics, threads: int = 1) -> None:
        self.name, self._registry, self._metrics = name, registry, metrics
        self.queue = Queue(name, limits, metrics, threads)
        self.serving = Serving()
        self.why_not = f"no version of {name} is in production; `tide model promote {name} VERSION` makes one"
        self._changing = asyncio.Lock()
        self._recent: Inputs | None = None

    # --- who answers

    def choose(self, key: str, number: str | None = None) -> Loaded:
        """The version that a request begins and ends with. Fault: none is ready, or not that one."""
        if number is None:
            found = self.serving.choose(key)
            if found is None:
                raise Fault(self.why_not, 503, RETRY_S)
            return found
        found = self.serving.numbered(int(number)) if number.isdecimal() and len(number) < 19 else None
        if found is None:
            here = [one for one in (self.serving.production, self.serving.canary) if one is not None]
            told = " and ".join(f"version {one.number}" for one in here) or "none"
            raise Fault(f'version "{number[:40]}" of {self.name} does not answer here; {told} does', 404)
        return found

    async def compute(self, loaded: Loaded, inputs: Inputs, deadline_ms: float | None = None) -> Outputs:
        """Fault: it does not take these inputs, the queue is full, or it is too late."""
        loaded.signature.check(inputs)
        outputs = await self.queue.submit(loaded, inputs, deadline_ms)
        self._recent = inputs
        if self.serving.shadow is not None and loaded is self.serving.production:
            self._compare(self.serving.shadow, inputs, outputs)
        return outputs

    def _compare(self, shadow: Loaded, inputs: Inputs, given: Outputs) -> None:
        if len(self.queue) >= _SHADOWS_WAITING:
            self._metrics.shadow(self.name, "skipped")
            return
        self.queue.submit(shadow, inputs).add_done_callback(
            lambda found: self._metrics.shadow(self.name, _outcome(found, given))
        )

    # --- changes

    async def refresh(self, number: int | None = None) -> int | None:
        """Answer with that version, or with what the registry says is production; the number that answers then.

        SpringtideError: it cannot be built; what answered before still does.
        """
        async with self._changing:
            try:
                return await self._refresh(number)
            except SpringtideError as error:
                if self.serving.production is None:
                    self.why_not = str(error)
                raise

    async def _refresh(self, number: int | None) -> int | None:
        wanted, tried = await asyncio.to_thread(self._wanted, number)
        before = self.serving
        production = await self._loaded(wanted)
        self.serving = replace(before, production=production)
        if before.production is not production:
            self._metrics.swapped(self.name)
            _log.info("%s answers with version %s", self.name, production.number if production else "none")
        try:
            await self._follow(tried)
        except SpringtideError as error:
            if before.production is production:
                raise
            _log.error(
                "%s is answered without what is tried out: %s", self.name, error
            )  # no reason to undo a promotion
        finally:
            for role, one in (("production", self.serving.production), ("canary", self.serving.canary),
                              ("shadow", self.serving.shadow)):  # fmt: skip
                self._metrics.serves(self.name, role, one.number if one else None)
        return production.number if production else None

    async def _follow(self, tried: rollout.Rollout) -> None:
        """Canary and shadow, as they are wanted; one that cannot be built is left out and told of."""
        found: dict[str, Loaded | None] = {}
        answering = self.serving.production
        for role, number in (("canary", tried.canary), ("shadow", tried.shadow)):
            found[role] = None
            if number is not None and answering is not None and number != answering.number:
                version = await asyncio.to_thread(self._registry.version, self.name, number)
                found[role] = await self._loaded(version)
        self.serving = replace(self.serving, canary=found["canary"], share=tried.share, shadow=found["shadow"])

    def _wanted(self, number: int | None) -> tuple[Version | None, rollout.Rollout]:
        tried = rollout.read(self._registry.root, self.name)
        if number is not None:
            return self._registry.version(self.name, number), tried
        try:
            versions = self._registry.versions(self.name)
        except UserError as error:  # there is no such model yet
            self.why_not, versions = str(error), []
        return next((one for one in versions if one.stage is Stage.PRODUCTION), None), tried

    async def _loaded(self, version: Version | None) -> Loaded | None:
        if version is None:
            return None
        if (there := self.serving.numbered(version.number)) is not None:
            return there
        return await asyncio.to_thread(_load, version, self._recent)

    def metadata(self) -> Mapping[str, Loaded]:
        """Versions that can be asked, by number."""
        here = (self.serving.production, self.serving.canary)
        return {str(one.number): one for one in here if one is not None}


def _load(version: Version, recent: Inputs | None) -> Loaded:
    loaded = Loaded(version.name, version.number, build_module(version))
    loaded.warm(recent)
    return loaded


def _outcome(found: asyncio.Future[Outputs], given: Outputs) -> str:
    if found.cancelled() or found.exception() is not None:
        return "failed"
    other = found.result()
    same = other.keys() == given.keys() and all(alike(other[name], value) for name, value in given.items())
    return "same" if same else "different"
