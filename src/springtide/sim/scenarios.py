"""Works that ship with the product, by name. A new one is a function `(options) -> Trace` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from springtide.sim.formats import Options
from springtide.sim.trace import Trace
from springtide.spec.quantities import nearest


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario by the module and the function that makes it."""

    module: str
    function: str
    what: str

    def make(self, options: Options) -> Trace:
        """The scenario as a trace."""
        function: Callable[[Options], Trace] = getattr(import_module(f"springtide.sim.{self.module}"), self.function)
        return function(options)


SCENARIOS: dict[str, Scenario] = {
    "edl-2017-case-1": Scenario("edl", "case_1", "20 elastic jobs, 10 s apart, on 133 nodes (PaddlePaddle EDL, 2017)"),
    "edl-2017-case-2": Scenario("edl", "case_2", "6 elastic jobs beside a web service whose size is stepped (2017)"),
    "day-and-night": Scenario("day", "day_and_night", "services with the sun, training in what they leave, lost nodes"),
}


def find(name: str) -> Scenario | None:
    """The scenario of that name."""
    return SCENARIOS.get(name)


def hint(name: str) -> str:
    """The sentence's end that names the nearest scenario, or all."""
    return nearest(name, SCENARIOS) or f"; scenarios are {', '.join(SCENARIOS)}"
