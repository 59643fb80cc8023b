"""The television: what it does, and what each command makes of that. A pure function; the state lives with the TV."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from springtide.spec.errors import UserError

CHANNELS, LOUDEST, STEP = 12, 20, 2
PROGRAMMES = {
    "news": 1, "weather": 2, "sports": 3, "music": 4, "movies": 5, "cartoons": 6, "documentary": 7, "quiz": 8,
    "theatre": 9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TV:
    """`before` is the channel that was on before this one; volume 0..LOUDEST."""

    on: bool = False
    channel: int = 1
    before: int = 1
    volume: int = 8
    muted: bool = False

    def __str__(self) -> str:
        if not self.on:
            return "off"
        return f"channel {self.channel}, " + ("muted" if self.muted else f"volume {self.volume}")


def press(tv: TV, command: str | None) -> TV:
    """What the television does about a command. What it does not know, or hears while it is off, changes nothing."""
    if command == "turn on":
        return replace(tv, on=True)
    if not tv.on:
        return tv
    match (command or "").split():
        case ["turn", "off"]:
            return replace(tv, on=False)
        case ["channel", number] if number.isdecimal() and 1 <= int(number) <= CHANNELS:
            return _tuned(tv, int(number))
        case [name] if name in PROGRAMMES:
            return _tuned(tv, PROGRAMMES[name])
        case ["next", "channel"]:
            return _tuned(tv, tv.channel % CHANNELS + 1)
        case ["previous", "channel"]:
            return _tuned(tv, (tv.channel - 2) % CHANNELS + 1)
        case ["go", "back"]:
            return _tuned(tv, tv.before)
        case ["louder"]:
            return replace(tv, volume=min(LOUDEST, tv.volume + STEP), muted=False)
        case ["quieter"]:
            return replace(tv, volume=max(0, tv.volume - STEP), muted=False)
        case ["full", "volume"]:
            return replace(tv, volume=LOUDEST, muted=False)
        case ["low", "volume"]:
            return replace(tv, volume=2, muted=False)
        case ["mute"]:
            return replace(tv, muted=not tv.muted)
    return tv


def _tuned(tv: TV, channel: int) -> TV:
    return tv if channel == tv.channel else replace(tv, channel=channel, before=tv.channel)


def numbers(tv: TV) -> list[int]:
    """The state as numbers, in the order of its fields."""
    return [int(value) for value in asdict(tv).values()]


def from_numbers(values: list[float]) -> TV:
    on, channel, before, volume, muted = (round(value) for value in values)
    return TV(bool(on), channel, before, volume, bool(muted))


def from_json(said: Any) -> TV:
    """The state that a request carries. UserError: one sentence."""
    if not isinstance(said, dict) or (unknown := said.keys() - {field.name for field in fields(TV)}):
        known = ", ".join(field.name for field in fields(TV))
        raise UserError(
            f'"tv" must be an object with some of {known}' + (f"; not {min(unknown)}" if isinstance(said, dict) else "")
        )
    limits = {"on": (0, 1), "muted": (0, 1), "channel": (1, CHANNELS), "before": (1, CHANNELS), "volume": (0, LOUDEST)}
    for name, value in said.items():
        low, high = limits[name]
        if not isinstance(value, int) or not low <= value <= high:
            raise UserError(
                f'"tv": {name} is {value!r}; give ' + ("true or false" if high == 1 else f"{low} to {high}")
            )
    return replace(
        TV(), **{name: bool(value) if limits[name] == (0, 1) else int(value) for name, value in said.items()}
    )
