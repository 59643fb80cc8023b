"""The supervisor's workers: births, deaths, what is said about them, and carrying out what `membership` decides."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from springtide.train import membership, opening, process, vigil
from springtide.train.arena import WORKERS, Arena, Role, Row, State, Word
from springtide.train.launched import Launched
from springtide.train.membership import Membership, Phase
from springtide.train.protocol import Header
from springtide.train.starter import Starter

SPEEDS_SECONDS = 2.0
STATUS_SECONDS = 0.5  # how long the launcher may take to tell an exit status
_FAILURES_OF_ONE_MICROBATCH = 3
_FAILED_STARTS = 3

Tell = Callable[[dict[str, Any]], None]
Fail = Callable[[str, int], None]  # sentence, exit code


@dataclass
class Body:
    """A worker's process as the supervisor holds it."""

    pid: int
    pidfd: int
    doomed: str = ""  # why it was killed here
    done: int = 0
    busy: int = 0


@dataclass(frozen=True)
class Loss:
    """A death of which the exit status may not have been told yet."""

    worker: int
    body: Body
    time: float
    step: int
    workers: int
    phase: Phase | None
    until: float
    out_of_memory: bool


class Crew:
    """See the module. `selector` gets a pidfd for each worker, with the worker's number as data."""

    def __init__(
        self,
        launched: Launched,
        arena: Arena,
        starter: Starter,
        selector: selectors.BaseSelector,
        tell: Tell,
        fail: Fail,
    ) -> None:
        self.launched, self.arena, self.starter = launched, arena, starter
        self.bodies: dict[int, Body] = {}
        self.statuses: dict[int, int] = {}
        self.step = 0  # the last committed
        self._selector, self._tell, self._fail = selector, tell, fail
        self._state: Membership = opening.membership(arena, None)
        self._vigil = vigil.Vigil(arena.description()["hang_timeout_seconds"])
        self._losses: list[Loss] = []
        self._failures: dict[tuple[int, int], int] = {}
        self._failed_starts = 0
        self.oom = process.oom_kills()  # so many are accounted for
        self._measured = time.monotonic()
        self._rings = 0

    # --- decisions

    @property
    def final(self) -> bool:
        """Nobody is replaced any more once the last state is kept."""
        return bool(self.arena.words[Word.FINISHED])

    @property
    def working(self) -> int:
        return len(self._state.working)

    def advance(self, event: membership.Event) -> None:
        """Let `membership` decide, and do it."""
        if self.final:
            return
        self._state, instructions = membership.advance(self._state, event, time.monotonic())
        for instruction in instructions:
            self._carry_out(instruction)

    def adopted(self, generation: int) -> None:
        """A header names that generation."""
        if generation > self._state.adopted:
            self.advance(membership.TableAdopted(generation))

    def _carry_out(self, instruction: membership.Instruction) -> None:
        arena = self.arena
        match instruction:
            case membership.Start(worker):
                self.start(worker)
            case membership.Assign(generation, blocks, chunks):
                table = arena.table(generation)
                for item, heir in blocks.items():
                    table.blocks[item] = heir
                for item, heir in chunks.items():
                    table.chunks[item] = heir
                arena.ring(self._unique())
            case membership.Propose(generation, table, cause):
                arena.table(generation).write(generation, list(table.blocks), list(table.chunks))
                arena.words[Word.GENERATION] = generation
                self._tell_generation(cause, len(table.named()))
            case membership.Summon(worker):
                arena.rows[worker][Row.ROLE] = Role.WORK
                arena.summon(worker)
            case membership.Dismiss(worker):
                arena.rows[worker][Row.ROLE] = Role.LEAVE
                arena.summon(worker)
                arena.ring(self._unique())
            case membership.Kill(workers, cause):
                for worker in workers:
                    self.bodies[worker].doomed = "was killed to make room"
                    process.kill(self.bodies[worker].pidfd)
                if cause:
                    self._tell_generation(cause, len(self._state.working))
            case membership.SetMain(worker):
                arena.words[Word.MAIN] = worker
                arena.summon(worker)

    def ring(self) -> None:
        """Wake who waits in a table."""
        self.arena.ring(self._unique())

    def _unique(self) -> int:
        self._rings += 1
        return (self._rings ^ os.getpid() << 12) << 6 | WORKERS - 1

    # --- births

    def start(self, worker: int) -> None:
        """Make a worker for that row."""
        row = self.arena.rows[worker]
        for word in range(len(row)):
            row[word] = 0
        row[Row.STATE] = State.STARTING
        pid = self.starter.ask(worker)
        if pid is not None:
            self.born(worker, pid)

    def born(self, worker: int, pid: int) -> None:
        """A process for that row exists."""
        self.starter.came(worker)
        row, started = self.arena.rows[worker], process.started(pid)
        if row[Row.PID] == pid:
            return
        if self._state.members.get(worker) != Phase.STARTING or worker in self.bodies:
            self._refuse(pid)
            return
        self._hold(worker, pid, started)
        row[Row.STARTED], row[Row.PID] = started, pid
        self.arena.summon(worker)

    def _refuse(self, pid: int) -> None:
        """A fork that an earlier supervisor asked for, whose row is no longer free.

        It waits to be taken, and is not.
        """
        pidfd = process.watch(pid)
        if pidfd is not None:
            process.kill(pidfd)
            os.close(pidfd)

    def meet_the_ready(self) -> None:
        """Those who started and are warm now."""
        for worker in self._state.in_phase(Phase.STARTING):
            if worker in self.bodies and self.arena.rows[worker][Row.STATE] == State.READY:
                self._failed_starts = 0
                self._tell({"event": "worker", "worker": worker, "pid": self.bodies[worker].pid, "what": "started"})
                self.advance(membership.WorkerReady(worker))

    def adopt(self, header: Header | None) -> None:
        """Take over the living workers of an earlier supervisor."""
        state = opening.membership(self.arena, header)
        named = {worker for table in state.tables.values() for worker in table.named()}
        members = {}
        for worker in range(WORKERS):
            row = self.arena.rows[worker]
            if row[Row.PID]:  # who died meanwhile is found dead at the first look
                self._hold(worker, row[Row.PID], row[Row.STARTED])
                members[worker] = _phase(row, worker in named)
        self._state = replace(state, members=members, main=self.arena.words[Word.MAIN])
        # The earlier one may have died between writing into a table and waking who is named there.
        for worker in members:
            self.arena.summon(worker)
        self.arena.ring(self._unique())

    def _hold(self, worker: int, pid: int, started: int) -> None:
        pidfd = process.watch(pid) if process.alive(pid, started) else None
        if pidfd is None:  # dead and reaped already: a pipe whose other end is closed is readable, as a dead process is
            pidfd, closed = os.pipe()
            os.close(closed)
        self.bodies[worker] = Body(pid, pidfd)
        self._selector.register(pidfd, selectors.EVENT_READ, worker)

    # --- deaths

    def died(self, worker: int) -> None:
        """A worker is confirmed dead: its work passes on first, words about it come later."""
        body = self.bodies.pop(worker)
        self._selector.unregister(body.pidfd)
        os.close(body.pidfd)
        phase, oom = self._state.members.get(worker), process.oom_kills()
        self._losses.append(
            Loss(
                worker, body, time.time(), self.step + 1, self.working, phase, time.monotonic() + STATUS_SECONDS,
                out_of_memory=oom > self.oom,
            )
        )  # fmt: skip
        self.oom = oom
        row = self.arena.rows[worker]
        row[Row.PID] = row[Row.STATE] = 0
        self._failed_starts += phase == Phase.STARTING
        self.advance(membership.WorkerLost(worker))
        words = self.arena.words
        if self.final and worker == words[Word.MAIN] and self.bodies and not words[Word.SCRIPT_DONE]:
            # What follows the loop goes on in another that waits at its end.
            words[Word.MAIN] = min(self.bodies)
            self.arena.summon(min(self.bodies))

    def report_losses(self, now: float) -> None:
        """Say what happened once the exit status is known, or was waited for long enough."""
        for loss in list(self._losses):
            status = self.statuses.pop(loss.body.pid, None)
            if status is None:
                status = _reap(loss.body.pid)
            if status is not None or now >= loss.until:
                self._losses.remove(loss)
                self._explain(loss, status)

    def _explain(self, loss: Loss, status: int | None) -> None:
        error = self.launched.error_of(loss.body.pid)
        left = not error and (loss.phase in (Phase.LEAVING, Phase.DOOMED) or (self.final and status == 0))
        self._tell({"event": "worker", "time": loss.time, "worker": loss.worker, "pid": loss.body.pid,
                    "what": "left" if left else "lost"})  # fmt: skip
        who = f"worker {loss.worker} (pid {loss.body.pid})"
        if error:
            self._user_error(loss, error, who)
        elif not left:
            killed = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
            cause = loss.body.doomed or process.cause_of_death(status, loss.out_of_memory and killed)
            if loss.phase == Phase.WORKING:
                self._tell_generation(f"{who} {cause}", loss.workers, loss.time, loss.step)
            if self._failed_starts >= _FAILED_STARTS:
                self._fail(f"{self._failed_starts} workers in a row died before they were ready; the last {cause}", 1)

    def _tell_generation(self, cause: str, workers: int, at: float | None = None, step: int | None = None) -> None:
        self.arena.words[Word.CHANGES] += 1
        self._tell({"event": "generation", "time": at or time.time(), "generation": self.arena.words[Word.CHANGES],
                    "step": self.step + 1 if step is None else step, "workers": workers, "cause": cause})  # fmt: skip

    def _user_error(self, loss: Loss, error: dict[str, Any], who: str) -> None:
        """An exception of the user's own: told each time; the third at the same microbatch ends the run."""
        self._tell({"event": "error", "time": loss.time, "worker": loss.worker, "pid": loss.body.pid, **error})
        if error.get("exit_code") == 2 or not error.get("step"):
            self._fail(error["message"], int(error.get("exit_code", 1)))
            return
        at = int(error["step"]), int(error.get("microbatch") or 0)
        self._failures[at] = self._failures.get(at, 0) + 1
        if self._failures[at] >= _FAILURES_OF_ONE_MICROBATCH:
            times = self._failures[at]
            self._fail(f"the script failed {times} times at step {at[0]}, microbatch {at[1]}: {error['message']}", 1)
        elif loss.phase == Phase.WORKING:
            self._tell_generation(f"{who}: {error['message']}", loss.workers, loss.time, loss.step)

    # --- time

    def look_after(self, now: float) -> None:
        """Kill who has stopped or hangs; the kernel tells when they are dead."""
        looks = {}
        for worker, body in self.bodies.items():
            row, seen = self.arena.rows[worker], process.stat(body.pid)
            if seen is not None and row[Row.BEAT] and not body.doomed:
                looks[worker] = vigil.Look(row[Row.BEAT] / 1e9, row[Row.SINCE] / 1e9, seen.state, seen.cpu_ticks)
        self._vigil, condemned = vigil.look(self._vigil, looks, now)
        for worker, why in condemned.items():
            self.bodies[worker].doomed = why
            process.kill(self.bodies[worker].pidfd)

    def measure(self, now: float) -> None:
        """Every so often: how fast each worker is."""
        if now - self._measured < SPEEDS_SECONDS:
            return
        self._measured = now
        speeds = {}
        for worker, body in self.bodies.items():
            row = self.arena.rows[worker]
            done, busy = row[Row.DONE] - body.done, row[Row.BUSY] - body.busy
            body.done, body.busy = row[Row.DONE], row[Row.BUSY]
            if done > 0 and busy > 0 and worker in self._state.working:
                speeds[worker] = done / busy * 1e9
                self._vigil = vigil.measured(self._vigil, busy / done / 1e9)
        if speeds:
            self.advance(membership.SpeedsMeasured(speeds))

    def end(self) -> None:
        """Nobody is left."""
        for body in self.bodies.values():
            process.kill(body.pidfd)


def _phase(row: memoryview[int], named: bool) -> Phase:
    if row[Row.ROLE] == Role.LEAVE and not named:
        return Phase.LEAVING
    if named:
        return Phase.WORKING
    return Phase.PARKED if row[Row.STATE] in (State.READY, State.ENDED) else Phase.STARTING


def _reap(pid: int) -> int | None:
    """The exit status of a worker that is this process's own child."""
    with contextlib.suppress(ChildProcessError):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
    return None
