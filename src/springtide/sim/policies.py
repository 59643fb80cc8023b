"""Policies: who plans. A new rival is a class with `name` and `plan(snapshot)`, and a line here with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from springtide.core import Plan, Snapshot, plan
from springtide.sim.engine import Policy
from springtide.sim.trace import Trace
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

OURS = "springtide"


class Springtide:
    """The product's planner, with its defaults, on every trace."""

    name = OURS

    def __init__(self, trace: Trace) -> None:
        pass  # the one policy for all traces knows nothing about this one

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        return plan(snapshot)


@dataclass(frozen=True, slots=True)
class Entry:
    """A policy by the module and the factory `(trace) -> Policy` in it. `adapt` plays it in another world."""

    module: str
    factory: str
    source: str  # who described it, for the page and `--help`
    adapt: str = ""  # "module:function", (trace) -> Trace: the same work where something else costs otherwise

    def make(self, trace: Trace) -> Policy:
        """The policy, for one play of this trace."""
        factory = getattr(import_module(f"springtide.sim.{self.module}"), self.factory)
        return cast(Callable[[Trace], Policy], factory)(trace)

    def world(self, trace: Trace) -> Trace:
        """The trace as this policy meets it."""
        if not self.adapt:
            return trace
        module, _, function = self.adapt.partition(":")
        return cast(Callable[[Trace], Trace], getattr(import_module(f"springtide.sim.{module}"), function))(trace)


POLICIES: dict[str, Entry] = {
    OURS: Entry("policies", "Springtide", "core.plan, docs/planning.md"),
    f"{OURS}-own-costs": Entry(
        "policies", "Springtide", "the same where a resize costs what it costs in this product", "pollux:own_costs"
    ),
    f"{OURS}-unforeseen": Entry(
        "policies", "Springtide", "the same where no owner stated a service's pattern", "requests:unforeseen"
    ),
    f"{OURS}-packed": Entry(
        "policies", "Springtide", "the same where stages are fitted to measured pairs (Gavel)", "gavel:packed"
    ),
    "tiresias": Entry("baselines.tiresias", "Tiresias", "Tiresias (Gu et al., NSDI'19)"),
    "optimus": Entry("baselines.optimus", "Optimus", "Optimus (Peng et al., EuroSys'18)"),
    "fifo": Entry("baselines.queues", "Fifo", "first come, first served: the first in line blocks the rest"),
    "drf": Entry("baselines.shares", "Drf", "dominant resource fairness (NSDI'11)"),
    "static": Entry("baselines.shares", "Static", "dedicated clusters: nodes of one's own for each service and team"),
    "edl-2017": Entry("baselines.edl_2017", "Edl2017", "autoscaler of PaddlePaddle EDL over Kubernetes, 2017"),
    "edl-2017-off": Entry("baselines.edl_2017", "Edl2017Off", "Kubernetes of 2017 with the autoscaler off"),
    "fifo-backfill": Entry("baselines.queues", "Backfill", "EASY backfilling (Lifka, JSSPP'95)"),
    "random": Entry("baselines.packing", "RandomFit", "any node on which it fits"),
    "best-fit": Entry("baselines.packing", "BestFit", "least cpu and GPUs left, as in FGD's artifact"),
    "fgd": Entry("baselines.packing", "Fgd", "fragmentation gradient descent (Weng et al., ATC'23)"),
    "srtf": Entry("baselines.muri", "srtf", "shortest remaining time first"),
    "srsf": Entry("baselines.muri", "srsf", "shortest remaining service first: time times GPUs"),
    "muri-s": Entry("baselines.muri", "muri_s", "Muri with known durations (SIGCOMM'22)"),
}


def checked(names: Iterable[str]) -> list[str]:
    """The names, each once, in order. Raises UserError for one that is not known."""
    found = list(dict.fromkeys(names))
    for name in found:
        if name not in POLICIES:
            hint = nearest(name, POLICIES) or f"; there are {', '.join(POLICIES)}"
            raise UserError(f'--policy: there is no policy "{name}"{hint}')
    return found
