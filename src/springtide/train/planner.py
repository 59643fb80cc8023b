"""Plans the steps of a run on a stream and writes them into the step log, before they are handed out (Stream law).

The shell around `stream_plan`: reads bounds, waits for records, holds the log's lease. `Planner.advance` never waits
long; whoever calls it puts `planned` and `last` where workers see them. No torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from springtide.data.order import checksum
from springtide.data.streams.source import Rules
from springtide.data.streams.stream import Away, Bounds, Expired, Stream, open_stream
from springtide.spec import SpringtideError, UserError
from springtide.train import step_log, stream_plan
from springtide.train.gaps import Gaps
from springtide.train.step_log import Beginning, Offsets, Planned, Writer
from springtide.train.stream_order import numbers
from springtide.train.stream_plan import Spans, Supply

AHEAD, MOST_AHEAD = 64, 4096  # steps that are planned before the first of them is done,
AHEAD_SECONDS = 2.0  # and for so long at the run's pace: more than a new supervisor takes to be there
WAIT_SECONDS = 0.5  # how long a look at the stream may be late for what the stream does not tell
_AWAY_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0  # how long a stream that was there may refuse to answer
_LEASE_SECONDS = 10.0  # how long the process that had the log before may take to die


@dataclass(frozen=True)
class Task:
    """What is to be planned. `beginning`: where the run is; its offsets are None where it has not begun."""

    rules: Rules
    batch_size: int
    steps: int  # of the run; UNLIMITED: until the stream has an end
    log: Path
    run_id: str = ""
    step: int = 0
    offsets: dict[int, int] | None = None
    samples: int = 0
    checksum: int = 0
    handed_out: int = 0  # the last step that workers may have seen
    last: int | None = None  # the last step there will be, where that was said already
    began: float = 0.0  # unix seconds
    ahead: int = AHEAD  # steps that are planned at least before the first of them is done

    @property
    def ratio(self) -> Fraction:
        return Fraction(self.rules.ratio)


class Planner:
    """See the module. `say` gets sentences for the user."""

    def __init__(self, task: Task, say: Callable[[str], object]) -> None:
        self.planned = max(task.step, task.handed_out)  # the last step in the log
        self.last = task.last  # the last there will be, once the stream has an end
        self._task, self._say = task, say
        self._stream: Stream | None = None
        self._log: Writer | None = None
        self._bounds: dict[int, Bounds] = {}
        self._quarantine: tuple[Any, dict[int, Spans]] = None, {}
        self._gaps = None if task.rules.url.startswith("log:") else Gaps()
        self._told_lost: dict[int, int] = {}
        self._away = False
        self._looked = float("-inf")  # when the stream last answered
        self._grew = time.monotonic()
        self._ahead = task.ahead
        self._paced = time.monotonic(), self.planned

    def advance(self, reached: int) -> bool:
        """Plan more where there is more, `reached` being the last step made; whether there was.

        UserError, SpringtideError: there is no such stream, retention overtook the run, the log cannot be written.
        """
        before = self.planned, self.last
        try:
            self._look()
            if self._log is None:
                self._log = self._open_log()
                self.planned = self._log.step
            self._plan(self._log, reached)
        except Away as error:
            self._say_away(error)
        except Expired:
            pass  # in the midst of looking for gaps: the next look at the bounds says how much is lost
        return (self.planned, self.last) != before

    def full(self, reached: int) -> bool:
        """Whether there is nothing to plan until more steps are made, or for ever."""
        return self.over or self.planned >= self._task.steps or self.planned - reached > self._ahead // 2

    @property
    def over(self) -> bool:
        return self.last is not None

    def wait(self) -> None:
        """Until the stream has news, or for a moment."""
        if self._away or self._stream is None:
            time.sleep(_AWAY_SECONDS)  # nobody tells when a broker comes back
            return
        try:
            self._stream.wait({partition: found.end for partition, found in self._bounds.items()}, WAIT_SECONDS)
        except SpringtideError as error:  # whether there is more to it, the next look finds
            if isinstance(error, Away):
                self._say_away(error)

    def close(self) -> None:
        """Give back what is held."""
        if self._log is not None:
            self._log.close()
        if self._stream is not None:
            self._stream.close()

    # --- looking

    def _look(self) -> None:
        try:
            if self._stream is None:
                self._stream = open_stream(self._task.rules.url)
            found = self._stream.bounds()
        except (Away, UserError):
            raise
        except SpringtideError as error:
            if time.monotonic() - self._looked > _PATIENCE_SECONDS:
                raise
            raise Away(str(error)) from None  # it was there a moment ago, so it will be
        self._looked = time.monotonic()
        if self._away:
            self._away, self._grew = False, self._looked
            self._say(f"{self._task.rules.url} is there again")
        if any(found[p].end > self._bounds[p].end if p in self._bounds else True for p in found):
            self._grew = time.monotonic()
        self._bounds = found

    def _say_away(self, error: Away) -> None:
        if not self._away:
            self._say(f"{error}; waiting for it, and training goes on with what is planned")
        self._away = True

    def _all_there(self) -> Supply:
        return Supply({p: (found.first, found.end) for p, found in self._bounds.items()}, self._quarantined())

    def _supply(self, offsets: Offsets) -> Supply:
        supply = self._all_there()
        if self._gaps is not None and self._stream is not None:
            return self._gaps.without(supply, offsets, self._stream, self._ahead * self._task.batch_size)
        return supply

    def _quarantined(self) -> dict[int, Spans]:
        name = self._task.rules.quarantine
        if name is None:
            return {}
        try:
            seen = Path(name).stat()
        except FileNotFoundError:
            return {}
        mark = seen.st_mtime_ns, seen.st_size, seen.st_ino
        if mark != self._quarantine[0]:
            self._quarantine = mark, parse_quarantine(Path(name).read_text(), name)
        return self._quarantine[1]

    # --- the log

    def _open_log(self) -> Writer:
        task, log = self._task, self._leased()
        begun, keep = log.beginning, max(task.step, task.handed_out)
        ours = begun is not None and begun.run_id == task.run_id and begun.step <= task.step and keep <= log.step
        if ours and (task.offsets is None or log.offsets_after(task.step) == task.offsets):
            self._take_back(log, keep)
        else:
            offsets = self._first_offsets() if task.offsets is None else task.offsets
            log.begin(Beginning(task.run_id, task.step, offsets, task.samples, task.checksum))
        return log

    def _leased(self) -> Writer:
        until = time.monotonic() + _LEASE_SECONDS
        while True:
            try:
                return Writer(self._task.log)
            except SpringtideError:
                if time.monotonic() > until:
                    raise
                time.sleep(WAIT_SECONDS / 10)

    def _take_back(self, log: Writer, keep: int) -> None:
        """Steps that nobody has seen are planned anew from the first on that holds what is gone or forbidden now."""
        bounds, forbidden = self._bounds, self._quarantined()
        for step in range(keep + 1, log.step + 1):
            entry = log.entry(step)
            assert entry is not None
            gone = any(p in bounds and begin < bounds[p].first for p, begin, _ in entry.ranges)
            if gone or stream_plan.quarantined(entry.ranges, forbidden):
                log.cut_after(step - 1)
                return

    def _first_offsets(self) -> dict[int, int]:
        start, found = self._task.rules.start, self._bounds
        if start == "latest":
            return {partition: bounds.end for partition, bounds in found.items()}
        first = {partition: bounds.first for partition, bounds in found.items()}
        if isinstance(start, dict):
            for partition, offset in start.items():
                if partition in found and offset > found[partition].end:
                    raise UserError(
                        f"start={{{partition}: {offset}}} is beyond the end of partition {partition} of "
                        f"{self._task.rules.url}, {found[partition].end}; give an offset up to that"
                    )
            return first | start
        return first

    # --- planning

    def _plan(self, log: Writer, reached: int) -> None:
        task, supply = self._task, self._supply(log.offsets)
        self._check_lost(log, supply)
        steps, offsets, ending = list[Planned](), dict(log.offsets), ""
        taken = log.last.records if log.last else 0
        self._pace(reached)
        room = min(reached + self._ahead, task.steps) - log.step if not self.full(reached) else 0
        while len(steps) < room and not ending:
            step = log.step + len(steps) + 1
            count = stream_plan.records_of(step, task.batch_size, task.ratio)
            if task.rules.records is not None and taken + count > task.rules.records:
                ending, supply = f"records={task.rules.records:,}", self._all_there()
            elif (ranges := stream_plan.plan_step(offsets, supply, count, step)) is None:
                ending = self._dried_up()
                break
            else:
                steps.append(Planned(ranges, checksum(numbers(ranges))))
                offsets |= {partition: end for partition, _, end in ranges}
                taken += count
        if steps:
            log.append(steps)
            self.planned = log.step
        if ending:
            self._end(log, self.planned, ending, supply)
        elif task.rules.seconds is not None and time.time() - task.began >= task.rules.seconds and not self.over:
            self._end(log, min(self.planned, reached + 1), f"seconds={task.rules.seconds:g}", self._all_there())

    def _pace(self, reached: int) -> None:
        """How far to plan, from the steps of the last second or more."""
        (since, step), now = self._paced, time.monotonic()
        if now - since >= 1.0:
            rate = (reached - step) / (now - since)
            self._ahead = min(MOST_AHEAD, max(self._task.ahead, int(rate * AHEAD_SECONDS)))
            self._paced = now, reached

    def _dried_up(self) -> str:
        """Why no batch will come any more; empty where one may."""
        if all(found.sealed for found in self._bounds.values()):
            return "the stream is sealed"
        idle = self._task.rules.idle_seconds
        return f"idle_seconds={idle:g}" if idle is not None and time.monotonic() - self._grew >= idle else ""

    def _end(self, log: Writer, last: int, why: str, supply: Supply) -> None:
        self.last = last
        offsets = log.offsets_after(last)
        left = sum(supply.count(partition, offsets.get(partition, 0)) for partition in supply.bounds)
        rest = f"; {left:,} records are left in the stream for the next run" if left else ""
        self._say(f"{self._task.rules.url}: the run ends with step {last:,} ({why}){rest}")

    def _check_lost(self, log: Writer, supply: Supply) -> None:
        url, offsets = self._task.rules.url, log.offsets
        for partition, offset in offsets.items():
            if partition in supply.bounds and offset > supply.bounds[partition][1]:
                raise UserError(
                    f"{url}: partition {partition} ends at {supply.bounds[partition][1]:,}, and the run is at "
                    f"{offset:,} already: it is another stream by now; start anew with --fresh"
                )
        gone = stream_plan.lost(offsets, supply)
        news = {partition: count for partition, count in gone.items() if self._told_lost.get(partition) != count}
        if not news:
            return
        listed = ", ".join(f"{count:,} of partition {partition}" for partition, count in sorted(news.items()))
        lost = f"{url}: retention removed records before the run came to them: {listed}"
        if self._task.rules.expired == "stop":
            raise SpringtideError(f'{lost}; expired="skip" would go on without them')
        self._told_lost |= news
        self._say(f"{lost}; going on without them")


def parse_quarantine(text: str, where: str) -> dict[int, Spans]:
    """`{"0": [[10, 20]]}`: partition -> half open ranges of offsets, put in order. UserError."""
    try:
        found = {int(p): [(int(low), int(high)) for low, high in spans] for p, spans in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f'{where}: this is no list of offsets; write {{"0": [[10, 20]]}}, partition by partition'
        ) from None
    return {partition: stream_plan.merged(spans) for partition, spans in found.items()}


def task_of(description: dict[str, Any], folder: Path) -> Task | None:
    """What a run's description says of a stream; None: it is no run on one."""
    if description.get("stream") is None:
        return None
    rules = Rules(**description["stream"])
    if isinstance(rules.start, dict):  # JSON has texts for keys
        rules = replace(rules, start={int(partition): int(offset) for partition, offset in rules.start.items()})
    return Task(
        rules, int(description["order"]["batch_size"]), int(description["course"]["steps"]), folder / step_log.NAME
    )
