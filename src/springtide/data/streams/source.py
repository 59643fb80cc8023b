"""A stream as something to train on: which stream, what is taken of it, and how a record becomes a sample.

A `Source` is a description. Nothing is opened before the first sample is asked for, and a process that was forked opens
what it reads for itself. Samples go by one number each: that of their partition and offset (`number_of`), or, below
zero, their place in the set that is mixed in.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from springtide.data.fingerprint import fingerprint
from springtide.data.order import key_of
from springtide.data.records import BadRecord
from springtide.data.streams.stream import Away, Damaged, Stream, open_stream
from springtide.spec import SpringtideError, UserError

OFFSET_BITS = 48
READ_AHEAD = 512  # records
_WINDOWS = 4  # of a partition
_SILENT_SECONDS = 60.0  # how long a record that is known to be there may be missing
_RETRY_SECONDS = 1.0

Decoder = Callable[[bytes], Any]


def stream(
    url: str,
    *,
    decoder: Decoder | None = None,
    start: str | Mapping[int, int] = "earliest",
    records: int | None = None,
    seconds: float | None = None,
    idle_seconds: float | None = None,
    mix: Any = None,
    ratio: float = 0.0,
    expired: str = "stop",
    quarantine: str | os.PathLike[str] | None = None,
    on_bad: str = "raise",
) -> Source:
    """The records of `log:///path` or `kafka://host:9092/topic` as what `train.Run` trains on, each exactly once.

    A record is a JSON object, unless `decoder` makes the sample of its bytes. The run begins at the `start`: with the
    "earliest" record, with those that come from now on ("latest"), or at {partition: offset}. It ends with `steps=` of
    the run, after `records` or `seconds`, when none has come for `idle_seconds`, or when the stream is sealed. `ratio`
    of the samples are drawn from the dataset `mix`. Where retention overtook the run, it says how much is lost and ends
    (`expired="stop"`) or goes on ("skip"). `quarantine` is a JSON file, {"0": [[10, 20]]}, of offsets by partition that
    are never used. A record that cannot be read ends the run, or (`on_bad="skip"`) is replaced by the next of its
    microbatch. Raises UserError.
    """
    rules = Rules(
        url, _start(start), _above(records, "records"), _above(seconds, "seconds"),
        _above(idle_seconds, "idle_seconds"), str(_ratio(mix, ratio)), _one_of("expired", expired, ("stop", "skip")),
        str(Path(quarantine).absolute()) if quarantine is not None else None,
    )  # fmt: skip
    if decoder is not None and not callable(decoder):
        raise UserError(f"decoder is {type(decoder).__name__}; give a function that makes a sample of bytes")
    return Source(rules, decoder, mix, _one_of("on_bad", on_bad, ("raise", "skip")))


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the stream a run takes; plain values, so that who plans the steps needs nothing else."""

    url: str
    start: str | dict[int, int] = "earliest"
    records: int | None = None
    seconds: float | None = None
    idle_seconds: float | None = None
    ratio: str = "0"  # a fraction
    expired: str = "stop"
    quarantine: str | None = None


class Source:
    """See the module; made by `stream`."""

    def __init__(self, rules: Rules, decoder: Decoder | None, mix: Any, on_bad: str) -> None:
        self.rules, self.mix, self.on_bad = rules, mix, on_bad
        self.pure = decoder is None and (mix is None or bool(getattr(mix, "pure", False)))
        self.bad = 0  # records that were replaced
        self._decode = decoder or self._json
        self._named = "json" if decoder is None else f"{decoder.__module__}.{decoder.__qualname__}"
        self._stream: Stream | None = None
        self._process = 0
        self._windows: dict[int, deque[_Window]] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Names the stream and how it is read; what is in it makes no difference."""
        mixed = fingerprint(self.mix) if self.mix is not None else ""
        return f"{key_of(self.rules.url, self._named, mixed, self.rules.ratio, self.on_bad):016x}"

    def __getitem__(self, number: int) -> Any:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """The samples of one microbatch. BadRecord: one cannot be read."""
        samples = list[Any]()
        missing = list[int]()
        for place, number in enumerate(numbers):
            try:
                samples.append(self._sample(number))
            except BadRecord as error:
                if self.on_bad == "raise" or len(missing) + 1 == len(numbers):
                    raise
                samples.append(error)
                missing.append(place)
        for place in missing:
            after = [*samples[place + 1 :], *samples[:place]]
            samples[place] = next(found for found in after if not isinstance(found, BadRecord))
        self.bad += len(missing)
        return samples

    def unfit(self, numbers: Sequence[int], error: Exception) -> UserError:
        """What to say where collating failed: the samples of these numbers do not go together."""
        mine = sorted(number for number in numbers if number >= 0)
        if not mine:
            return UserError(f"samples of the set that is mixed in cannot be made into one batch ({_line(error)})")
        mixed = ", with samples of the set that is mixed in" if len(mine) < len(numbers) else ""
        first, last = mine[0], mine[-1]
        until = f" to {last & _OFFSET:,}" if first >> OFFSET_BITS == last >> OFFSET_BITS else f" to {self.where(last)}"
        where = self.where(first).replace(", offset ", ", offsets ")
        return UserError(f"{where}{until}: the records cannot be made into one batch{mixed} ({_line(error)})")

    def where(self, number: int) -> str:
        """For a sentence."""
        if number < 0:
            return f"sample {-1 - number} of the set that is mixed in"
        return f"{self.rules.url}, partition {number >> OFFSET_BITS}, offset {number & _OFFSET:,}"

    def _sample(self, number: int) -> Any:
        if number < 0:
            return self.mix[-1 - number]
        value = self._value(number >> OFFSET_BITS, number & _OFFSET)
        if value is None:
            raise BadRecord(f'{self.where(number)}: there is no record here; on_bad="skip" would pass over it')
        try:
            return self._decode(value)
        except BadRecord:
            raise
        except Exception as error:
            shown = value[:40] + (b"..." if len(value) > 40 else b"")
            why = f"not a JSON object ({error})" if self._named == "json" else f"nothing for {self._named} ({error})"
            raise BadRecord(
                f'{self.where(number)}: the record {shown!r} is {why}; on_bad="skip" would pass over it'
            ) from None

    def _json(self, value: bytes) -> dict[str, Any]:
        found: dict[str, Any] = _OBJECTS.decode(value)
        return found

    # --- reading

    def _value(self, partition: int, offset: int) -> bytes | None:
        """None: no record has that offset."""
        windows = self._windows.setdefault(partition, deque(maxlen=_WINDOWS))
        if self._process != os.getpid():
            self._stream, self._process = None, os.getpid()
        for window in windows:
            if window.first <= offset < window.end:
                return window.values.get(offset)
        windows.append(self._read(partition, offset))
        return windows[-1].values.get(offset)

    def _read(self, partition: int, offset: int) -> _Window:
        pause, waited, told = threading.Event(), 0.0, False
        while waited < _SILENT_SECONDS:
            try:
                if self._stream is None:
                    self._stream = open_stream(self.rules.url)
                found = self._stream.read(partition, offset, limit=READ_AHEAD)
                if found:
                    return _Window(offset, found[-1].offset + 1, {record.offset: record.value for record in found})
                self._stream.wait({partition: offset}, _RETRY_SECONDS)
                waited += _RETRY_SECONDS
            except Damaged as error:
                raise BadRecord(f'{error}; on_bad="skip" would pass over it') from None
            except Away as error:  # what a step takes is settled, so there is nothing to do but wait
                if not told:
                    print(f"tide: {error}; waiting for it", file=sys.stderr, flush=True)
                told = True
                pause.wait(_RETRY_SECONDS)
        raise SpringtideError(
            f"{self.rules.url}: partition {partition} has no record at {offset:,}, which was there when the step was "
            "planned; is it another stream by now?"
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """Records that were read together: all that there are in [first, end)."""

    first: int
    end: int
    values: dict[int, bytes]


_OFFSET = (1 << OFFSET_BITS) - 1
_OBJECTS = msgspec.json.Decoder(dict[str, Any])


def number_of(partition: int, offset: int) -> int:
    """The number by which a sample goes."""
    return partition << OFFSET_BITS | offset


def short(number: int) -> str:
    """A sample in a list of them: `partition:offset`."""
    return f"mix:{-1 - number}" if number < 0 else f"{number >> OFFSET_BITS}:{number & _OFFSET}"


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _start(start: str | Mapping[int, int]) -> str | dict[int, int]:
    if isinstance(start, Mapping):
        if all(isinstance(word, int) and word >= 0 for pair in start.items() for word in pair):
            return dict(start)
    elif start in ("earliest", "latest"):
        return start
    raise UserError(f'start={start!r}; write "earliest", "latest" or {{partition: offset}}')


def _above(value: Any, name: str) -> Any:
    whole = name == "records"
    fits = isinstance(value, int) if whole else isinstance(value, int | float)
    if value is not None and (isinstance(value, bool) or not fits or not value > 0):
        raise UserError(f"{name}={value!r}; give a {'whole ' if whole else ''}number above 0")
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{name}={value!r}; write {' or '.join(repr(word) for word in known)}")
    return str(value)


def _ratio(mix: Any, ratio: Any) -> Fraction:
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
        raise UserError(
            f"ratio={ratio!r} is no share of the samples; give a number from 0 to below 1 (0.25 is a quarter)"
        )
    if (mix is None) != (ratio == 0):
        raise UserError("mix= and ratio= belong together: a dataset, and which share of the samples comes from it")
    if mix is not None and not (hasattr(mix, "__len__") and hasattr(mix, "__getitem__") and len(mix)):
        raise UserError(f"mix is {type(mix).__name__}; give a map-style dataset with samples")
    return Fraction(str(ratio))
