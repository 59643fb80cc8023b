"""What a server counts, as Prometheus reads it, and as the pool does: `tide_requests_total`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one process."""

    def __init__(self) -> None:
        self._page = page = CollectorRegistry()
        self._requests = Counter(
            "tide_requests", "Requests, by what became of them.", ["model", "status"], registry=page
        )
        self._seconds = Histogram(
            "tide_request_seconds", "From a request's head to its answer.", ["model"], buckets=_SECONDS, registry=page
        )
        self._rows = Histogram(
            "tide_batch_rows", "Rows that are computed together.", ["model"], buckets=_ROWS, registry=page
        )
        self._waiting = Gauge("tide_queue_requests", "Requests that wait to be computed.", ["model"], registry=page)
        self._versions = Gauge("tide_model_version", "Versions that answer, by role.", ["model", "role"], registry=page)
        self._swaps = Counter("tide_swaps", "Changes of the version in production.", ["model"], registry=page)
        self._shadow = Counter(
            "tide_shadow", "Answers of a shadow beside those that were given.", ["model", "outcome"], registry=page
        )
        self._kept = Counter("tide_log_records", "Records that were added to the stream.", ["kind"], registry=page)
        self._dropped = Counter("tide_log_dropped", "Records that were not, by why.", ["why"], registry=page)
        self._of_model: dict[tuple[str, str], Counter] = {}
        self._latency: dict[str, Histogram] = {}
        for why in ("full", "away", "redaction", "size"):
            self._dropped.labels(why)

    def answered(self, model: str, status: int, seconds: float) -> None:
        """A request came and was answered, with whatever."""
        key = model, str(status)
        counter = self._of_model.get(key)
        if counter is None:  # finding a label costs more than counting
            counter = self._of_model[key] = self._requests.labels(*key)
            self._latency[model] = self._seconds.labels(model)
        counter.inc()
        self._latency[model].observe(seconds)

    def batch(self, model: str, rows: int) -> None:
        self._rows.labels(model).observe(rows)

    def waiting(self, model: str, count: int) -> None:
        self._waiting.labels(model).set(count)

    def serves(self, model: str, role: str, number: int | None) -> None:
        """`number` None: nobody has that role."""
        if number is not None:
            self._versions.labels(model, role).set(number)
        elif (model, role) in self._versions._metrics:
            self._versions.remove(model, role)

    def swapped(self, model: str) -> None:
        self._swaps.labels(model).inc()

    def shadow(self, model: str, outcome: str) -> None:
        """`outcome`: same, different, failed or skipped."""
        self._shadow.labels(model, outcome).inc()

    def kept(self, kind: str, count: int = 1) -> None:
        self._kept.labels(kind).inc(count)

    def dropped(self, why: str, count: int = 1) -> None:
        self._dropped.labels(why).inc(count)

    def page(self) -> bytes:
        return generate_latest(self._page)
