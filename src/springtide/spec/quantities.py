"""Ranges, durations, shares, sizes and chaos as people type them: text in, values out, one sentence where wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from springtide.spec.errors import UserError

MOST_WORKERS = 48  # on one machine: an arena has 64 rows, for these, the parked one and those dying
_SECONDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_STEPS = ("step", "steps")
_NUMBER_AND_UNIT = re.compile(r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d{1,3})?)\s*([a-z%]*)\s*", re.IGNORECASE)
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True, slots=True)
class Range:
    """How many workers a run may have: `minimum <= n <= maximum`, both at least 1."""

    minimum: int
    maximum: int

    def __str__(self) -> str:
        return str(self.minimum) if self.minimum == self.maximum else f"{self.minimum}:{self.maximum}"

    def __contains__(self, count: object) -> bool:
        return isinstance(count, int) and self.minimum <= count <= self.maximum


@dataclass(frozen=True, slots=True)
class Every:
    """How often something is done: after so many seconds or after so many steps (exactly one of the two is set)."""

    seconds: float | None = None
    steps: int | None = None

    def __str__(self) -> str:
        return f"{self.steps}steps" if self.steps is not None else f"{self.seconds:.12g}s"


@dataclass(frozen=True, slots=True)
class Blow:
    """One line of a chaos schedule: what is done, to how many workers, and when (exactly one of the three is set)."""

    kind: Literal["kill", "stop", "supervisor", "join", "leave"]
    count: int | Literal["all"] = 1
    at_step: int | None = None
    every_seconds: float | None = None
    every_steps: int | None = None

    def __str__(self) -> str:
        what = self.kind if self.kind == "supervisor" else f"{self.kind}={self.count}"
        if self.at_step is not None:
            return f"{what},at=step:{self.at_step}"
        return f"{what},every={Every(self.every_seconds, self.every_steps)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence's end that helps after a mistyped word: `; did you mean "kill"?`, or nothing when none is near."""
    found = get_close_matches(word.lower(), list(known), n=1, cutoff=0.55)
    return f'; did you mean "{found[0]}"?' if found else ""


def workers(text: str, where: str = "--workers") -> Range:
    """`"4"`, `"1:4"` or `"1..4"` as a range of workers.

    Raises UserError when it is no range, counts down, asks for none, or for more than `MOST_WORKERS`.
    """
    parts = [part.strip() for part in re.split(r":|\.\.", text.strip())]
    if len(parts) > 2 or not all(re.fullmatch(r"[-+]?\d{1,9}", part) for part in parts):
        raise UserError(f'{where}: "{text}" is no number of workers; write 4, or 1:4 for between one and four')
    minimum, maximum = int(parts[0]), int(parts[-1])
    if minimum < 0 or maximum < 0:
        raise UserError(f'{where}: "{text}" is negative; write 4, or 1:4 for between one and four')
    if minimum > maximum:
        counted = f"{max(1, maximum)}:{minimum}"
        raise UserError(f'{where}: "{text}" counts down; write {counted}')
    if minimum == 0:
        right = str(Range(1, max(1, maximum)))
        raise UserError(f'{where}: "{text}" would leave a run with no worker; the least is one: write {right}')
    if maximum > MOST_WORKERS:
        raise UserError(f'{where}: "{text}" is more than one machine can use; the most is {MOST_WORKERS}')
    return Range(minimum, maximum)


def duration(text: str, where: str = "duration") -> float:
    """Seconds of `"30s"`, `"5m"`, `"1.5 h"`, `"200ms"`; the unit must be there. Raises UserError."""
    example = "write 30s, 5m or 1h"
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if not match:
        raise UserError(f'{where}: "{text}" is no duration; {example}')
    number, unit = float(match[1]), match[2].lower()
    if not unit:
        raise UserError(f'{where}: "{text}" has no unit; write {match[1]}s, or {match[1]}m for minutes')
    if unit not in _SECONDS:
        raise UserError(f'{where}: "{text}": no unit of time is called "{match[2]}"; {example}')
    if number <= 0:
        raise UserError(f'{where}: "{text}" is not more than nothing; {example}')
    if not math.isfinite(number * _SECONDS[unit]):
        raise UserError(f'{where}: "{text}" is longer than time; {example}')
    return number * _SECONDS[unit]


def interval(text: str, where: str = "--every") -> Every:
    """`"30s"`, `"5m"`, `"1h"` or `"200steps"`, `"200 steps"`. Raises UserError."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match and unit and unit in _STEPS:
        if not match[1].lstrip("+").isdigit() or int(match[1]) < 1:
            raise UserError(f'{where}: "{text}" is no whole number of steps; write 200steps')
        return Every(steps=int(match[1]))
    if not match:
        raise UserError(f'{where}: "{text}" is no interval; write 30s, 5m or 200steps')
    if not unit:
        raise UserError(f'{where}: "{text}" has no unit; write {match[1]}s or {match[1]}steps')
    if unit not in _SECONDS:
        hint = nearest(unit, [*_STEPS, *_SECONDS]) or "; write 30s, 5m or 200steps"
        raise UserError(f'{where}: "{text}": nothing is measured in "{match[2]}"{hint}')
    return Every(seconds=duration(text, where))


def share(text: str, where: str = "--sample") -> float:
    """`"1%"` or `"0.01"` as a fraction, more than 0 and at most 1. Raises UserError."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if not match or match[2] not in ("", "%"):
        raise UserError(f'{where}: "{text}" is no share; write 1% or 0.01')
    value = float(match[1]) / (100 if match[2] else 1)
    if value <= 0:
        raise UserError(f'{where}: "{text}" leaves no data; write 1% or 0.01')
    if value > 1:
        hint = "the most is 100%" if match[2] else f"write {match[1]}% if you meant hundredths"
        raise UserError(f'{where}: "{text}" is more than everything; {hint}')
    return value


def size(text: str, where: str = "size") -> int:
    """Bytes of `"512MiB"`, `"2GB"`, `"1.5g"` or `"4096"`. Raises UserError."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    unit = match[2].lower() or "b" if match else ""
    if not match or unit not in _SIZES or float(match[1]) < 0:
        raise UserError(f'{where}: "{text}" is no size; write 512MiB, 2GB or 4096')
    return round(float(match[1]) * _SIZES[unit])


def bytes_text(count: float) -> str:
    """A size for people, in decimal units: 999 B, 1.5 kB, 25.6 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """A duration for people: 4 ms, 0.32 s, 12 s, 3 min 05 s, 2 h 10 min, 3 d 4 h."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


_KINDS = ("kill", "stop", "supervisor", "join", "leave")
_CHAOS_EXAMPLE = "write for example kill=1,every=2s or stop=1,at=step:40"


def chaos(text: str, where: str = "--chaos") -> list[Blow]:
    """Blows joined by `;`, each `KIND[=COUNT],at=step:N` or `KIND[=COUNT],every=2s` (or `every=20steps`).

    KIND is kill, stop, supervisor, join or leave; COUNT is a number or, for kill and stop, `all`. Raises UserError.
    """
    blows = [_blow(part.strip(), where) for part in text.split(";") if part.strip()]
    if not blows:
        raise UserError(f"{where}: nothing is said; {_CHAOS_EXAMPLE}")
    return blows


def _blow(text: str, where: str) -> Blow:
    head, *rest = [part.strip() for part in text.split(",")]
    kind, said, count_text = (part.strip() for part in head.partition("="))
    if kind not in _KINDS:
        hint = nearest(kind, _KINDS) or f"; write one of {', '.join(_KINDS)}"
        raise UserError(f'{where}: "{text}": nothing that can be done is called "{kind}"{hint}')
    count = _count(text, kind, count_text if said else "1", where)
    at_step, every = None, None
    for part in rest:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in ("at", "every"):
            hint = nearest(key, ("at", "every")) or "; write at=step:40 or every=2s"
            raise UserError(f'{where}: "{text}": no moment is called "{key}"{hint}')
        if at_step is not None or every is not None:
            raise UserError(f'{where}: "{text}" names two moments; join two blows with ";" instead')
        if key == "every":
            every = interval(value, f'{where}: "{text}": every')
        else:
            at_step = _step(text, value, where)
    if at_step is None and every is None:
        raise UserError(f'{where}: "{text}" does not say when; write {text},at=step:40 or {text},every=2s')
    return Blow(kind, count, at_step, every.seconds if every else None, every.steps if every else None)  # type: ignore[arg-type]


def _count(text: str, kind: str, count: str, where: str) -> int | Literal["all"]:
    if kind == "supervisor" and count != "1":
        raise UserError(f'{where}: "{text}": there is one supervisor; write supervisor without a number')
    if count == "all" and kind in ("kill", "stop"):
        return "all"
    if not re.fullmatch(r"\d{1,9}", count) or not 1 <= int(count) <= MOST_WORKERS:
        right = f"{kind}=1 or {kind}=all" if kind in ("kill", "stop") else f"{kind}=1"
        raise UserError(f'{where}: "{text}": "{count}" is no number of workers; write {right}')
    return int(count)


def _step(text: str, value: str, where: str) -> int:
    match = re.fullmatch(r"(?:step\s*[: ]\s*)?(\d{1,18})", value)
    if not match or int(match[1]) < 1:
        raise UserError(f'{where}: "{text}": "{value}" is no moment; write at=step:40 (steps start at 1)')
    return int(match[1])
