"""Feedback joined to the request that it is about, by id, within bounds of space and time.

The state is a pure function of the last records of the partition, as many as the bounds allow. So nobody stores it: who
takes over reads those records again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from springtide.data.streams.stream import Record
from springtide.spec.errors import UserError

_CHAIN = 4  # windows: of a pair, of what its first half had met before, and of what was forgotten by then


@dataclass(frozen=True, slots=True)
class _Half:
    """A request, or feedback that came before its request. `body` None: it is joined already."""

    offset: int
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Join:
    """A function for `process`: `make(request, feedback)` is called once for each pair of the same id.

    Both must lie in one partition (append them with `key=id`), in either order, at most `within_records` records,
    `within_bytes` of them and, where it is set, `within_seconds` apart. Feedback twice, or for a request that is not
    known, joins nothing. Of two requests with one id the later counts.
    """

    make: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    within_records: int = 10_000
    within_seconds: float | None = None
    within_bytes: int = 256 << 20
    id: str = "id"
    kind: str = "kind"
    request: str = "request"
    feedback: str = "feedback"

    def __post_init__(self) -> None:
        if self.within_records < 1 or self.within_bytes < 1:
            raise UserError("join: within_records and within_bytes are at least 1")

    @property
    def replay_records(self) -> int:
        """How many records before a position decide what comes behind it."""
        return _CHAIN * self.within_records

    def fresh(self) -> Callable[[Record, Mapping[str, Any]], Any]:
        """For one partition, from the first record that is replayed on."""
        return _Matcher(self).see


class _Matcher:
    def __init__(self, rules: Join) -> None:
        self._rules = rules
        self._window: deque[tuple[int, float, int]] = deque()  # offset, time and size of the records in reach
        self._window_bytes = 0
        self._requests: OrderedDict[str, _Half] = OrderedDict()  # the oldest first
        self._early: OrderedDict[str, _Half] = OrderedDict()

    def see(self, record: Record, told: Mapping[str, Any]) -> Any:
        """What comes of the next record of the partition."""
        rules = self._rules
        self._move_on(record)
        kind, identity = told.get(rules.kind), told.get(rules.id)
        if identity is None:
            return None
        match kind:
            case rules.request:
                return self._asked(str(identity), _Half(record.offset, told))
            case rules.feedback:
                return self._corrected(str(identity), _Half(record.offset, told))
        return None

    def _asked(self, identity: str, half: _Half) -> Any:
        early = self._early.pop(identity, None)
        self._requests.pop(identity, None)
        self._requests[identity] = half if early is None else _Half(half.offset, None)
        return None if early is None else self._rules.make(half.body or {}, early.body or {})

    def _corrected(self, identity: str, half: _Half) -> Any:
        asked = self._requests.get(identity)
        if asked is None:
            self._early.pop(identity, None)
            self._early[identity] = half
            return None
        if asked.body is None:
            return None
        self._requests[identity] = _Half(asked.offset, None)
        return self._rules.make(asked.body, half.body or {})

    def _move_on(self, record: Record) -> None:
        """Forget what is out of reach of this record."""
        rules, window = self._rules, self._window
        window.append((record.offset, record.time_s, len(record.value)))
        self._window_bytes += len(record.value)
        oldest_s = -float("inf") if rules.within_seconds is None else record.time_s - rules.within_seconds
        while len(window) > 1 and (
            window[0][0] < record.offset - rules.within_records
            or window[0][1] < oldest_s
            or self._window_bytes > rules.within_bytes
        ):
            self._window_bytes -= window.popleft()[2]
        for halves in (self._requests, self._early):
            while halves and next(iter(halves.values())).offset < window[0][0]:
                halves.popitem(last=False)
