"""What Prometheus reads: jobs, replicas, what is held and what there is, prices, the loop, and the API itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from springtide.pool.office import Office
from springtide.pool.records import State, Step
from springtide.pool.rows import total
from springtide.spec.resources import RESOURCES


@dataclass(slots=True)
class Metrics:
    """A registry of its own: two pools in one process do not meet. `loop_s`: what the loop's last round took."""

    office: Office
    loop_s: Callable[[], float]
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.requests = Counter(
            "tide_api_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.registry.register(_State(self))

    def answered(self, operation: str, status: int) -> None:
        """One request was answered."""
        self.requests.labels(operation, str(status)).inc()

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return bytes(generate_latest(self.registry))


class _State(Collector):
    """Reads the pool when somebody asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        office = self._metrics.office
        live = office.store.jobs(states=("waiting", "running", "paused"), limit=1_000_000)
        counts = {str(state): 0 for state in State} | office.store.counts()
        yield _family("tide_jobs", "Jobs by state.", ("state",), {(state,): n for state, n in counts.items()})
        held = [record.job.resources for record in live for one in record.replicas if one.step != Step.ASSIGNED]
        replicas: dict[tuple[str, ...], float] = {}
        for record in live:
            key = (str(record.job.kind), record.job.team)
            replicas[key] = replicas.get(key, 0) + sum(one.step == Step.STARTED for one in record.replicas)
        yield _family("tide_replicas", "Replicas by kind and team.", ("kind", "team"), replicas)
        there = total(node.resources for node in office.live.pool().nodes)
        for name, what, amount in (
            ("held", "What replicas hold.", total(held)),
            ("capacity", "What nodes have.", there),
        ):
            values: dict[tuple[str, ...], float] = {
                (one,): getattr(amount, one) for one in RESOURCES if math.isfinite(getattr(amount, one))
            }
            yield _family(f"tide_{name}", what, ("resource",), values)
        prices = office.live.prices()
        yield _family(
            "tide_price_per_hour", "What spot pays.", ("unit",), {("core",): prices.core, ("gpu",): prices.gpu}
        )
        yield _family("tide_loop_seconds", "What the last round took.", (), {(): self._metrics.loop_s()})


def _family(name: str, what: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
