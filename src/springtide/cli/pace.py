"""How fast a run is now and when it will end, from its latest steps."""

from __future__ import annotations

from collections import deque

from springtide.spec.quantities import duration_text
from springtide.train.events import Event, plural
from springtide.train.report import Report

_WINDOW_SECONDS = 10.0


class Pace:
    """The steps of the last ten seconds; rates are 0 until two are known."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._recent: deque[tuple[float, int]] = deque(maxlen=4096)
        self.last: Event = {}
        self.loss: float | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run, 0 while unknown."""
        return self._report.start.get("steps") or 0

    def step(self, event: Event) -> None:
        """Take a committed step."""
        self.last = event
        if event.get("loss") is not None:
            self.loss = event["loss"]
        self._recent.append((event["time"], event.get("samples") or 0))
        while len(self._recent) > 2 and self._recent[0][0] < event["time"] - _WINDOW_SECONDS:
            self._recent.popleft()

    def rates(self, now: float | None = None) -> tuple[float, float]:
        """Steps and samples per second; `now` lets them fall while no step comes."""
        if len(self._recent) < 2:
            return 0.0, 0.0
        span = max(now or 0.0, self._recent[-1][0]) - self._recent[0][0]
        samples = sum(count for _, count in self._recent) - self._recent[0][1]
        return ((len(self._recent) - 1) / span, samples / span) if span > 0 else (0.0, 0.0)

    def left_seconds(self, now: float | None = None) -> float | None:
        """Until the last step, at the present rate."""
        rate, _ = self.rates(now)
        return (self.steps - self.last["step"]) / rate if rate and self.steps else None

    def elapsed(self, event: Event) -> str:
        """When it happened, counted from the start of the run."""
        return duration_text(max(0.0, event["time"] - self._report.began))

    def line(self) -> str:
        """One plain line about the latest step."""
        rate, samples = self.rates()
        left = self.left_seconds()
        parts = [
            f"{self.elapsed(self.last):>8}",
            f"step {self.last['step']:,} of {self.steps:,}" if self.steps else f"step {self.last['step']:,}",
            f"loss {self.loss:.4g}" if self.loss is not None else "",
            f"{samples:,.0f} samples/s" if rate else "",
            plural(self.last.get("workers") or 0, "worker"),
            f"{duration_text(left)} left" if left else "",
        ]
        return "  ".join(part for part in parts if part)
