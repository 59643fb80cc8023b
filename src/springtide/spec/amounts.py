"""Amounts of resources, counts, times and names as people write them in job files: text in, values out, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.spec.job import Deadline, Work
from springtide.spec.quantities import Every, Range, nearest

MOST_REPLICAS = 1_000_000
NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(NUMBER)
_WITH_UNIT = re.compile(rf"({NUMBER})\s*([A-Za-zµ/%]*)")
_OTHER_BASE = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BYTES = {f"{prefix}{b}": scale for b in ("b", "") for prefix, scale in _SCALES.items()}
_BYTES |= {f"{prefix}i{b}": 1024.0**n for b in ("b", "") for n, prefix in enumerate("kmgt", 1)}
_BITS = {f"{prefix}{bit}": scale / 8 for bit in ("bit", "bits") for prefix, scale in _SCALES.items()}
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def number(text: str, where: str, example: str = "1.5") -> float:
    """A finite number of 0 or more: `3`, `1.5`, `1e3`."""
    if _OTHER_BASE.fullmatch(text):
        return float(int(text, 0))
    if not _NUMBER.fullmatch(text):
        raise UserError(f'{where}: "{text}" is no number; write {example}')
    return _not_negative(float(text), text, where, example)


def _not_negative(value: float, text: str, where: str, example: str) -> float:
    if value < 0:
        raise UserError(f'{where}: "{text}" is negative; write {example}')
    if not math.isfinite(value):
        raise UserError(f'{where}: "{text}" is too large; write {example}')
    return value


def number_text(value: float) -> int | float:
    """The same number, whole where it is whole."""
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else value


def count(noun: str, example: int, least: int = 1, most: int = 10**9) -> Callable[[str, str], int]:
    """A reader of whole numbers of something."""

    def read(text: str, where: str) -> int:
        value = number(text, where, str(example))
        if not value.is_integer():
            raise UserError(f'{where}: "{text}" is no whole number of {noun}; write {example}')
        if value < least:
            raise UserError(f'{where}: "{text}" is too few {noun}; the least is {least}')
        if value > most:
            raise UserError(f'{where}: "{text}" is too many {noun}; the most is {most}')
        return int(value)

    return read


def port(text: str, where: str) -> int:
    """A port that a service listens on."""
    value = number(text, where, "8080")
    if not value.is_integer() or not 1 <= value <= 65535:
        raise UserError(f'{where}: "{text}" is no port; write one from 1 to 65535, for example 8080')
    return int(value)


def replicas(text: str, where: str) -> Range:
    """`4`, `1..4` or `1:4` replicas."""
    parts = [part.strip() for part in re.split(r":|\.\.", text)]
    if len(parts) > 2 or not all(re.fullmatch(r"[-+]?\d{1,12}", part) for part in parts):
        raise UserError(f'{where}: "{text}" is no number of replicas; write 4, or 1..4 for between one and four')
    low, high = int(parts[0]), int(parts[-1])
    if low < 0 or high < 0:
        raise UserError(f'{where}: "{text}" is negative; write 4, or 1..4 for between one and four')
    if low > high:
        raise UserError(f'{where}: "{text}" counts down; write {max(1, high)}..{low}')
    if low == 0:
        right = "1" if high <= 1 else f"1..{high}"
        raise UserError(f'{where}: "{text}" would leave a job with no replica; the least is one: write {right}')
    if high > MOST_REPLICAS:
        raise UserError(f'{where}: "{text}" is more than a pool can plan; the most is {MOST_REPLICAS}')
    return Range(low, high)


def replicas_text(value: Range) -> int | str:
    """`4`, or `1..4`."""
    return value.minimum if value.minimum == value.maximum else f"{value.minimum}..{value.maximum}"


def cores(text: str, where: str) -> float:
    """Cores: `2`, `0.5`, or `500m` for thousandths."""
    example = "2, 0.5 or 500m"
    match = _WITH_UNIT.fullmatch(text)
    if match and match[2] == "m":
        return _not_negative(float(match[1]) / 1000, text, where, example)
    if match and match[2]:
        raise UserError(f'{where}: "{text}": cores are counted, not measured in "{match[2]}"; write {example}')
    return number(text, where, example)


def gpus(text: str, where: str) -> float:
    """GPUs: a whole number, or a share of one: `0.5`, `500m`, `50%`."""
    match = _WITH_UNIT.fullmatch(text)
    scale = {"m": 1000.0, "%": 100.0}.get(match[2]) if match else None
    value = number(match[1], where) / scale if match and scale else number(text, where, "1, 4 or 0.5")
    if value > 1 and not value.is_integer():
        raise UserError(f'{where}: "{text}" is neither a whole number nor a share of one GPU; write {math.ceil(value)}')
    return value


def memory(text: str, where: str) -> float:
    """Bytes: `256Mi`, `1.5Gi`, `2GB`, `4096`."""
    match = _WITH_UNIT.fullmatch(text)
    scale = _BYTES.get(match[2].lower()) if match else None
    if not match or scale is None:
        hint = nearest(match[2], ("Ki", "Mi", "Gi", "Ti", "kB", "MB", "GB", "TB")) if match else ""
        raise UserError(f'{where}: "{text}" is no amount of memory{hint or "; write 256Mi or 2Gi"}')
    return float(round(_not_negative(float(match[1]) * scale, text, where, "256Mi or 2Gi")))


def memory_text(value: float) -> int | str:
    """`2Gi` where that is exact, else bytes."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if value and value % _BYTES[unit.lower()] == 0:
            return f"{int(value / _BYTES[unit.lower()])}{unit}"
    return int(value)


def rate(text: str, where: str) -> float:
    """Bytes per second: `200MB/s`, `1Gbit/s`, `1Gbps`."""
    example = "write 200MB/s or 1Gbit/s"
    match = _WITH_UNIT.fullmatch(text)
    if not match:
        raise UserError(f'{where}: "{text}" is no rate; {example}')
    if not match[2] and float(match[1]) == 0:
        return 0.0
    unit = re.sub(r"bps$", "bit/s", match[2])
    amount, per, second = unit.partition("/")
    if not per or second != "s":
        raise UserError(f'{where}: "{text}" does not say per second; {example}')
    if re.fullmatch(r"[kKMGTmgt]b", amount):
        big = amount[0].upper()
        raise UserError(f'{where}: "{text}" may be bits or bytes; write {match[1]}{big}bit/s or {match[1]}{big}B/s')
    scale = _BITS.get(amount.lower(), _BYTES.get(amount.lower()) if amount else None)
    if scale is None:
        raise UserError(f'{where}: "{text}": nothing per second is called "{amount}"; {example}')
    return _not_negative(float(match[1]) * scale, text, where, "200MB/s or 1Gbit/s")


def rate_text(value: float) -> str:
    """`200MB/s` where that is exact, else bytes per second."""
    return f"{int(value / 1e6)}MB/s" if value and value % 1e6 == 0 else f"{number_text(value)}B/s"


def share(text: str, where: str, most: float = 1.0) -> float:
    """A share: `70%` or `0.7`."""
    match = _WITH_UNIT.fullmatch(text)
    if not match or match[2] not in ("", "%"):
        raise UserError(f'{where}: "{text}" is no share; write 70% or 0.7')
    value = _not_negative(float(match[1]) / (100 if match[2] else 1), text, where, "70% or 0.7")
    if value > most:
        hint = f"; write {match[1]}% if you meant hundredths" if not match[2] and value <= 100 * most else ""
        raise UserError(f'{where}: "{text}" is more than {most:.0%}{hint}')
    return value


def use(text: str, where: str) -> float:
    """A share that is more than nothing."""
    value = share(text, where)
    if value == 0:
        raise UserError(f'{where}: "{text}" is not more than nothing; write 70% or 0.7')
    return value


def positive(text: str, where: str, example: str = "50") -> float:
    """A number that is more than nothing."""
    value = number(text, where, example)
    if value == 0:
        raise UserError(f'{where}: "{text}" is not more than nothing; write {example}')
    return value


def seconds_text(value: float) -> str:
    """A duration that reads back as exactly the same number: `2h`, `30s`, `0.25s`."""
    for unit, length in (("h", 3600), ("m", 60)):
        if value >= length and value % length == 0 and value < 1e12:
            return f"{int(value / length)}{unit}"
    return f"{number_text(value)}s"


def every_text(value: Every) -> str:
    """`30s` or `200steps`."""
    return f"{value.steps}steps" if value.steps is not None else seconds_text(value.seconds or 0.0)


def work(text: str, where: str) -> Work:
    """`2h` of one replica alone, or `4000steps`."""
    amount = quantities.interval(text, where)
    return Work(seconds=amount.seconds, steps=amount.steps)


def work_text(value: Work) -> str:
    """`2h` or `4000steps`."""
    return every_text(Every(seconds=value.seconds, steps=value.steps))


def deadline(text: str, where: str) -> Deadline:
    """`in 3h`, or `2026-11-24T18:00` (local time where no zone is named)."""
    example = "write 2026-11-24T18:00, or in 3h"
    if not re.match(r"\d{4}-?\d\d", text):
        return Deadline(within_s=quantities.duration(text.removeprefix("in ").strip(), where))
    if re.fullmatch(r"[\d-]+", text):
        raise UserError(f'{where}: "{text}" has no time of day; write {text}T18:00')
    try:
        return Deadline(at_s=datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        raise UserError(f'{where}: "{text}" is no time; {example}') from None


def deadline_text(value: Deadline) -> str:
    """`in 3h`, or the time in UTC."""
    if value.at_s is not None:
        return datetime.fromtimestamp(value.at_s, UTC).isoformat().replace("+00:00", "Z")
    return f"in {seconds_text(value.within_s or 0.0)}"


def name(text: str, where: str) -> str:
    """A name that can be part of an address: small letters, digits and hyphens, at most 63."""
    if not _NAME.fullmatch(text):
        right = re.sub(r"[^a-z0-9]+", "-", text.lower())[:63].strip("-")
        hint = f"; write {right}" if right else "; write for example digits-2"
        raise UserError(f'{where}: "{text}" is no name: it takes small letters, digits and hyphens, at most 63{hint}')
    return text


def variable(text: str, where: str) -> str:
    """The name of an environment variable."""
    if not _VARIABLE.fullmatch(text):
        raise UserError(f'{where}: "{text}" is no name of a variable; it takes letters, digits and _')
    return text


def words(text: str, where: str) -> str:
    """Any text that a process can be given; also none."""
    if "\0" in text:
        raise UserError(f"{where}: the text holds a zero byte, which no process can be given")
    return text


def word(text: str, where: str) -> str:
    """Any text but an empty one."""
    if not text.strip():
        raise UserError(f"{where}: there is only blank text; write something or remove the line")
    return words(text, where)


def stream(text: str, where: str) -> str:
    """The URL of a stream."""
    if not re.fullmatch(r"[a-z]+://\S+", text):
        raise UserError(f'{where}: "{text}" is no stream; write log:///data/requests or kafka://host:9092/topic')
    return text
