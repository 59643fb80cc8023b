"""The supervisor's shell: learns what happened, lets `membership`, `vigil` and `keeper` decide, carries it out.

`python -m springtide.train.supervisor FOLDER`, started by the launcher with the arena and the control socket. No torch; it
never forks. Everything that it must not forget lies in the arena, so a new one takes over from where the last stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from springtide.spec import Refused, SpringtideError
from springtide.train import arena as arenas
from springtide.train import hardware, membership, process, protocol, vigil
from springtide.train.alone import compare
from springtide.train.arena import TABLES, WORKERS, Arena, Role, Row, Shape, State, Word
from springtide.train.control import Channel, Message
from springtide.train.inventory import Inventory
from springtide.train.keeper import Destination, Keeper
from springtide.train.manifest import Order
from springtide.train.membership import Membership, Phase, Table
from springtide.train.protocol import Header, Kind
from springtide.train.launched import Launched
from springtide.train.starter import Starter

TICK_SECONDS = 0.1
SPEEDS_SECONDS = 2.0
_FAILURES_OF_ONE_MICROBATCH = 3
_FAILED_STARTS = 3


@dataclass
class Body:
    """A worker's process as the supervisor holds it."""

    pid: int
    pidfd: int
    doomed: str = ""  # why it was killed here
    done: int = 0
    busy: int = 0


@dataclass
class _Loss:
    """A death whose exit status has not been told yet."""

    worker: int
    pid: int
    time: float
    step: int
    workers: int
    doomed: str
    phase: Phase | None
    until: float
    out_of_memory: bool = False


class Supervisor:
    """See the module."""

    def __init__(self, launched: Launched, listener: int) -> None:
        import socket

        self.launched = launched
        self.arena: Arena | None = None
        self.state: Membership | None = None
        self.keeper: Keeper | None = None
        self.starter = Starter(launched)
        self.bodies: dict[int, Body] = {}
        self.vigil = vigil.Vigil()
        self.selector = selectors.DefaultSelector()
        self._listener = socket.socket(fileno=listener)
        self._listener.setblocking(False)
        self.selector.register(self._listener, selectors.EVENT_READ, "call")
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._bell_read, selectors.EVENT_READ, "bell")
        self._launcher = process.watch(launched.launcher)
        if self._launcher is not None:
            self.selector.register(self._launcher, selectors.EVENT_READ, "launcher")
        self._losses: list[_Loss] = []
        self._statuses: dict[int, int] = {}
        self._failures: dict[tuple[int, int], int] = {}
        self._failed_starts = 0
        self._oom = process.oom_kills()
        self._step = 0
        self._evaluated = 0
        self._checkpointed = (time.monotonic(), 0)
        self._speeds_at = time.monotonic()
        self._ending = ""  # why the run is to end, once it is
        self._over = False
        self._waiting: list[Channel] = []
        self._exit = 0
        self._rings = 0
        self._reviving = False
        self._result: dict[str, Any] = {}
        self._message = ""
        self._tell_lock = threading.Lock()

    # --- the loop

    def run(self) -> int:
        """Until the run is over. Returns the exit code of `tide run`."""
        self._adopt()
        self.starter.begin()
        while not self._over:
            for key, _ in self.selector.select(TICK_SECONDS):
                self._happened(key.data, key.fileobj)
            self._passed()
        return self._exit

    def _happened(self, what: Any, source: Any) -> None:
        if what == "call":
            connection, _ = self._listener.accept()
            channel = Channel(connection)
            self.selector.register(channel, selectors.EVENT_READ, channel)
        elif what == "bell":
            os.read(self._bell_read, 4096)
        elif what == "launcher":
            self.selector.unregister(source)
            self._launcher = None
            self._end("interrupted", "tide run is gone")
        elif isinstance(what, int):
            self._died(what)
        elif isinstance(what, Channel):
            self._heard(what)

    def _passed(self) -> None:
        """After events, and ten times a second: whatever time or the arena brings."""
        now = time.monotonic()
        if self.arena is not None:
            self.arena.words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()
        self._report_losses(now)
        self._watch_starter()
        if self.arena is None or self.state is None:
            return
        self._meet_the_ready()
        header = self._header()
        if header is None:
            return
        self._follow(header)
        if self._over or self.state is None:
            return
        self._advance(membership.TimePassed())
        self._look_after(now)
        self._measure(now)
        self._keep(header, now)

    def _header(self) -> Header | None:
        assert self.arena is not None
        if not self.arena.words[Word.INITIALISED]:
            return None
        for _ in range(100):
            if (found := protocol.current(self.arena.chunk_flags, self.arena.header)) is not None:
                return found
        return None

    # --- what the arena says

    def _follow(self, header: Header) -> None:
        """Take notice of adopted tables, evaluations, and the end."""
        assert self.arena is not None and self.state is not None
        self._step = header.step - (header.kind == Kind.TRAIN)
        if header.generation > self.state.adopted:
            self._advance(membership.TableAdopted(header.generation))
        record = self.arena.record(header.tick % 2) if self.arena.shape.evaluations else {}
        for found in record.get("recent", []):
            if found["step"] > self._evaluated:
                self._evaluated = found["step"]
                self.tell({"event": "evaluation", "step": found["step"], "metrics": found["metrics"], "best": found["best"]})
                self._write_metrics(found)
                if found["best"] and self.keeper is not None:
                    self.keeper.best()
        drained = self.arena.words[Word.DRAINED] == header.tick
        if header.kind == Kind.END or drained:
            self._finish(header, self._step, record)

    def _finish(self, header: Header, step: int, record: dict[str, Any]) -> None:
        """The last step is committed: keep its state once it has been counted, let the workers go."""
        assert self.arena is not None and self.keeper is not None
        words = self.arena.words
        stopped = bool(words[Word.STOP]) and step < self.launched.steps(self.arena.description())
        if words[Word.AUDITED] != step + 1 and self._living():
            return
        if not words[Word.FINISHED]:
            digest = self.keeper.last(step, header.read, finished=not stopped, record=record)
            if digest is None:
                from springtide.train.tensors import digest as name

                digest = name(Inventory.parse(self.arena.description()["inventory"]).tensors(self.arena, header.read))
            self._result = self._counted(header.read, step) | {"step": step, "digest": digest}
            words[Word.FINISHED] = 1
            for worker in range(WORKERS):
                self.arena.summon(worker)
        if not stopped and not self._script_done():
            return
        kind = self._ending or ("stopped" if stopped else "done")
        self._conclude(kind, self._message)

    def _counted(self, buffer: int, step: int) -> dict[str, int]:
        assert self.arena is not None
        words, position = self.arena.words, self.arena.position(buffer)
        if words[Word.AUDITED] != step + 1:
            return {}
        expected = words[Word.EXPECTED], words[Word.EXPECTED_SUM] & (1 << 64) - 1
        twice, lost = compare(expected, (position.get("samples", 0), position.get("checksum", 0)))
        return {"samples": position.get("samples", 0), "samples_twice": twice, "samples_lost": lost,
                "skipped": position.get("skipped", 0)}  # fmt: skip

    def _script_done(self) -> bool:
        """Whether the main worker has run what follows the loop, to its end; a new one is made where all have died."""
        assert self.arena is not None
        main = self.arena.words[Word.MAIN]
        if self.arena.words[Word.SCRIPT_DONE]:
            return main not in self.bodies
        if not self.bodies and not self._reviving:
            self._reviving = True
            self.arena.words[Word.MAIN] = 0
            self._carry_out(membership.Start(0))
        return False

    def _living(self) -> list[int]:
        return [worker for worker, body in self.bodies.items() if not body.doomed]

    # --- membership

    def _advance(self, event: membership.Event) -> None:
        assert self.state is not None
        if self._ended():
            return
        self.state, instructions = membership.advance(self.state, event, time.monotonic())
        for instruction in instructions:
            self._carry_out(instruction)

    def _ended(self) -> bool:
        """Nobody is replaced any more once the state is final."""
        return self.arena is not None and bool(self.arena.words[Word.FINISHED])

    def _carry_out(self, instruction: membership.Instruction) -> None:
        assert self.arena is not None
        arena = self.arena
        match instruction:
            case membership.Start(worker):
                row = arena.rows[worker]
                for word in range(len(row)):
                    row[word] = 0
                row[Row.STATE] = State.STARTING
                pid = self.starter.ask(worker)
                if pid is not None:
                    self._born(worker, pid)
            case membership.Assign(generation, blocks, chunks):
                table = arena.table(generation)
                for item, heir in blocks.items():
                    table.blocks[item] = heir
                for item, heir in chunks.items():
                    table.chunks[item] = heir
                arena.ring(self._unique())
            case membership.Propose(generation, table):
                arena.table(generation).write(generation, list(table.blocks), list(table.chunks))
                arena.words[Word.GENERATION] = generation
                self._tell_generation(f"{len(table.named())} workers", len(table.named()))
            case membership.Summon(worker):
                arena.rows[worker][Row.ROLE] = Role.WORK
                arena.summon(worker)
            case membership.Dismiss(worker):
                arena.rows[worker][Row.ROLE] = Role.LEAVE
                arena.summon(worker)
                arena.ring(self._unique())
            case membership.SetMain(worker):
                arena.words[Word.MAIN] = worker
                arena.summon(worker)

    def _unique(self) -> int:
        self._rings += 1
        return self._rings << 6 | WORKERS - 1

    def _meet_the_ready(self) -> None:
        assert self.arena is not None and self.state is not None
        for worker in self.state.in_phase(Phase.STARTING):
            if worker in self.bodies and self.arena.rows[worker][Row.STATE] == State.READY:
                self._failed_starts = 0
                self.tell({"event": "worker", "worker": worker, "pid": self.bodies[worker].pid, "what": "started"})
                self._advance(membership.WorkerReady(worker))

    def _born(self, worker: int, pid: int) -> None:
        """A process for that row exists."""
        assert self.arena is not None
        pidfd = process.watch(pid)
        if pidfd is None:  # dead and reaped already: a pipe whose other end is closed reads as a dead process does
            pidfd, closed = os.pipe()
            os.close(closed)
        row = self.arena.rows[worker]
        row[Row.PID], row[Row.STARTED] = pid, process.started(pid)
        self.bodies[worker] = Body(pid, pidfd)
        self.selector.register(pidfd, selectors.EVENT_READ, worker)

    def _died(self, worker: int) -> None:
        """A worker is confirmed dead: membership first, words about it later."""
        assert self.arena is not None and self.state is not None
        body = self.bodies.pop(worker)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(body.pidfd)
        os.close(body.pidfd)
        phase = self.state.members.get(worker)
        oom = process.oom_kills()
        loss = _Loss(
            worker, body.pid, time.time(), self._step + 1, len(self.state.working), body.doomed, phase,
            time.monotonic() + 0.5, out_of_memory=oom > self._oom,
        )  # fmt: skip
        self._oom = oom
        row = self.arena.rows[worker]
        ended = row[Row.STATE] == State.ENDED
        row[Row.PID] = row[Row.STATE] = 0
        self._reviving = False
        self._advance(membership.WorkerLost(worker))
        if phase == Phase.STARTING:
            self._failed_starts += 1
        self._losses.append(loss)
        if ended and self._ended():
            self._end_of_script(loss)

    def _report_losses(self, now: float) -> None:
        """Say what happened once the exit status is known, or half a second has passed."""
        for loss in list(self._losses):
            status = self._statuses.pop(loss.pid, None)
            if status is None:
                status = self._reap(loss.pid)
            if status is None and now < loss.until:
                continue
            self._losses.remove(loss)
            self._explain(loss, status)

    def _reap(self, pid: int) -> int | None:
        """The exit status of a worker that is this supervisor's own child."""
        with contextlib.suppress(ChildProcessError):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status
        return None

    def _explain(self, loss: _Loss, status: int | None) -> None:
        error = self._error_of(loss)
        left = loss.phase == Phase.LEAVING or (self._ended() and status == 0)
        what = "left" if left and not error else "lost"
        self.tell({"event": "worker", "time": loss.time, "worker": loss.worker, "pid": loss.pid, "what": what})
        if error:
            self._user_error(loss, error)
        elif loss.phase in (Phase.WORKING, Phase.STARTING) and not left:
            sigkill = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
            cause = loss.doomed or process.cause_of_death(status, loss.out_of_memory and sigkill)
            if loss.phase == Phase.WORKING:
                self._tell_generation(f"worker {loss.worker} (pid {loss.pid}) {cause}", loss.workers, loss.time, loss.step)
            if self._failed_starts >= _FAILED_STARTS:
                self._fail(f"{self._failed_starts} workers in a row died before they were ready; the last {cause}", 1)

    def _tell_generation(self, cause: str, workers: int, at: float | None = None, step: int | None = None) -> None:
        assert self.arena is not None
        self.arena.words[Word.CHANGES] += 1
        self.tell({"event": "generation", "time": at or time.time(), "generation": self.arena.words[Word.CHANGES],
                   "step": self._step + 1 if step is None else step, "workers": workers, "cause": cause})  # fmt: skip

    # --- errors of the user's code

    def _error_of(self, loss: _Loss) -> Message | None:
        path = self.launched.folder / "workers" / f"{loss.pid}.error.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        path.unlink(missing_ok=True)
        return found if isinstance(found, dict) else None

    def _user_error(self, loss: _Loss, error: Message) -> None:
        """An exception of the user's own: told each time, the third one at the same microbatch ends the run."""
        at = error.get("step") or 0, error.get("microbatch") or 0
        self._failures[at] = self._failures.get(at, 0) + 1
        self.tell({"event": "error", "time": loss.time, "worker": loss.worker, "pid": loss.pid, **error})
        if error.get("exit_code") == 2 or not error.get("step"):
            self._fail(error["message"], int(error.get("exit_code", 1)))
        elif self._failures[at] >= _FAILURES_OF_ONE_MICROBATCH:
            self._fail(
                f"the script failed {self._failures[at]} times at step {at[0]}, microbatch {at[1]}: {error['message']}", 1
            )
        elif loss.phase == Phase.WORKING:
            self._tell_generation(f"worker {loss.worker} (pid {loss.pid}): {error['message']}", loss.workers, loss.time, loss.step)

    def _end_of_script(self, loss: _Loss) -> None:
        """The state is final; a main worker that died before its script ended has a successor waiting, if any lives."""
        assert self.arena is not None
        if loss.worker == self.arena.words[Word.MAIN] and self.bodies:
            heir = min(self.bodies)
            self.arena.words[Word.MAIN] = heir
            self.arena.summon(heir)

    def _fail(self, message: str, code: int) -> None:
        if not self._ending:
            self._ending, self._message, self._exit = "failed", message, code
            self._conclude("failed", message)

    # --- time

    def _look_after(self, now: float) -> None:
        assert self.arena is not None
        looks = {}
        for worker, body in self.bodies.items():
            row, seen = self.arena.rows[worker], process.stat(body.pid)
            if seen is not None and row[Row.BEAT] and not body.doomed:
                looks[worker] = vigil.Look(row[Row.BEAT] / 1e9, row[Row.SINCE] / 1e9, seen.state, seen.cpu_ticks)
        self.vigil, condemned = vigil.look(self.vigil, looks, now)
        for worker, why in condemned.items():
            self.bodies[worker].doomed = why
            process.kill(self.bodies[worker].pidfd)

    def _measure(self, now: float) -> None:
        """Every so often: how fast each worker is."""
        if now - self._speeds_at < SPEEDS_SECONDS:
            return
        assert self.arena is not None and self.state is not None
        self._speeds_at = now
        speeds = {}
        for worker, body in self.bodies.items():
            row = self.arena.rows[worker]
            done, busy = row[Row.DONE] - body.done, row[Row.BUSY] - body.busy
            body.done, body.busy = row[Row.DONE], row[Row.BUSY]
            if done > 0 and busy > 0 and worker in self.state.working:
                speeds[worker] = done / busy * 1e9
                self.vigil = vigil.measured(self.vigil, busy / done / 1e9)
        if speeds:
            self._advance(membership.SpeedsMeasured(speeds))

    def _keep(self, header: Header, now: float) -> None:
        assert self.keeper is not None
        self.keeper.look(header)
        every, (last, step) = self.launched.every, self._checkpointed
        due = every.seconds is not None and now - last >= every.seconds
        due = due or (every.steps is not None and self._step // every.steps > step // every.steps)
        if due and not self.keeper.busy and self._step > step:
            self._checkpointed = now, self._step
            self.keeper.ask()

    # --- conversations

    def _heard(self, channel: Channel) -> None:
        messages = channel.ready()
        if messages is None:
            self.selector.unregister(channel)
            channel.close()
            self.starter.lost(channel)
            return
        for message in messages:
            try:
                answer = self._answer(channel, message)
            except SpringtideError as error:
                answer = {"error": str(error), "exit_code": error.exit_code}
            if answer is not None:
                with contextlib.suppress(OSError):
                    channel.send(answer)

    def _answer(self, channel: Channel, message: Message) -> Message | None:
        match message.get("do"):
            case "ready":
                return self._prepare(channel, message)
            case "initialised":
                self._welcome()
                self.starter.nursery_ready(channel)
                return {"ok": True}
            case "forked":
                self._born(message["worker"], message["pid"])
                return None
            case "cannot fork":
                self.tell({"event": "warning", "message": f"workers start cold (slower): {message['why']}"})
                for worker, pid in self.starter.go_cold():
                    self._born(worker, pid)
                return None
            case "exited":
                self._statuses[message["pid"]] = message["status"]
                return None
            case "resize":
                return self._resize(int(message["workers"]))
            case "stop":
                self._end("stopped", message.get("why", ""))
                return {"ok": True}
        raise Refused(f"the supervisor knows no '{message.get('do')}'; it answers to resize and stop")

    def _resize(self, workers: int) -> Message:
        least, most = self.launched.minimum, self.launched.maximum
        if not least <= workers <= most:
            raise Refused(f"{self.launched.name} runs with {least} to {most} workers; {workers} is outside: give one between")
        if self.arena is None or self.state is None:
            raise Refused(f"{self.launched.name} is still starting; try again when `tide ps` shows workers")
        self.arena.words[Word.WANTED] = workers
        before = len(self.state.working)
        self._advance(membership.SizeWanted(workers))
        return {"ok": True, "workers": workers, "before": before}

    def _end(self, kind: str, why: str) -> None:
        """Checkpoint, then end: at the next step boundary."""
        self._ending, self._message = kind, why
        if self.arena is None or not self.arena.words[Word.INITIALISED]:
            self._conclude(kind, why)
            return
        self.arena.words[Word.STOP] = 1

    # --- beginnings and ends

    def _adopt(self) -> None:
        """Take over a job that runs already, from what its arena says."""
        size = os.fstat(self.launched.arena).st_size
        if size == 0:
            return
        arena = Arena(self.launched.arena, Shape(**self.launched.shape()))
        if arena.words[Word.MAGIC] != arenas.MAGIC:
            return
        self._settle(arena)
        assert self.state is not None
        members: dict[int, Phase] = {}
        named = {w for table in self.state.tables.values() for w in table.named()}
        for worker in range(WORKERS):
            row = arena.rows[worker]
            if row[Row.PID] and process.alive(row[Row.PID], row[Row.STARTED]):
                self._hold(worker, row[Row.PID])
                ready = row[Row.STATE] in (State.READY, State.ENDED)
                leaving = row[Row.ROLE] == Role.LEAVE
                members[worker] = (
                    Phase.LEAVING if leaving else Phase.WORKING if worker in named
                    else Phase.PARKED if ready else Phase.STARTING
                )  # fmt: skip
        from dataclasses import replace

        self.state = replace(self.state, members=members, main=arena.words[Word.MAIN])
        self._welcome()
        self.tell({"event": "supervisor", "pid": os.getpid(), "what": "adopted", "cause": f"{len(members)} workers"})

    def _hold(self, worker: int, pid: int) -> None:
        pidfd = process.watch(pid)
        if pidfd is not None:
            self.bodies[worker] = Body(pid, pidfd)
            self.selector.register(pidfd, selectors.EVENT_READ, worker)

    def _prepare(self, channel: Channel, message: Message) -> Message:
        """A script's process has read the script: make the arena, or see that it is the same run."""
        description = message["description"]
        self.starter.spoke(channel, message["role"])
        if self.arena is None:
            self._check_memory(Shape(**description["shape"]))
            resume = self.launched.resumable(description["identity"])
            shape = Shape(**description["shape"])
            arenas.allocate(self.launched.arena, shape)
            self.launched.keep_shape(description["shape"])
            arena = Arena(self.launched.arena, shape)
            arena.words[Word.WANTED], arena.words[Word.MAIN] = self.launched.start, protocol.NOBODY
            for item in range(shape.blocks):
                arena.tables[0].blocks[item] = protocol.NOBODY
            for item in range(shape.chunks):
                arena.tables[0].chunks[item] = protocol.NOBODY
            arena.words[Word.LAUNCHER] = self.launched.launcher
            arena.words[Word.LAUNCHER_STARTED] = self.launched.launcher_started
            arena.describe(description)
            self._settle(arena)
            self._tell_start(description, resume)
        else:
            resume = self.launched.resume
            mine = self.arena.description()["identity"]
            if wrong := [key for key in mine if mine[key] != description["identity"].get(key)]:
                listed = ", ".join(f"{key} {mine[key]} in the run, {description['identity'].get(key)} here" for key in wrong)
                return {"refused": f"this process does not hold the same run: {listed}; seed what is random before Run"}
        assert self.arena is not None
        kept = self.arena.description()
        return {"shape": kept["shape"], "block_size": kept["block_size"], "resume": resume,
                "initialise": not self.arena.words[Word.INITIALISED]}  # fmt: skip

    def _settle(self, arena: Arena) -> None:
        """Set up what belongs to an arena: membership as its tables say, keeper, the bell."""
        self.arena = arena
        description = arena.description()
        generation = arena.words[Word.GENERATION]
        header = self._header()
        adopted = header.generation if header else generation
        tables = {
            number: Table(tuple(arena.table(number).blocks), tuple(arena.table(number).chunks))
            for number in range(max(0, adopted), generation + 1)
            if number > generation - TABLES
        }
        weights = tuple(description["chunk_bytes"])
        self.state = Membership(
            arena.words[Word.WANTED], weights, tables, adopted
        )
        self.vigil = vigil.Vigil(description["hang_timeout_seconds"])
        to = Destination(
            self.launched.checkpoint, self.launched.name, self.launched.run_id, Order(**description["order"]),
            description["config"], self.launched.keep,
        )  # fmt: skip
        self.keeper = Keeper(arena, Inventory.parse(description["inventory"]), to, self.tell)
        self._step = self._evaluated = 0
        if header:
            self._step = header.step - (header.kind == Kind.TRAIN)
            self._evaluated = self.launched.evaluated()
        self._checkpointed = time.monotonic(), self._step
        threading.Thread(target=self._listen_to_bell, daemon=True).start()

    def _listen_to_bell(self) -> None:
        """Turns the arena's futex into something that can be selected; not more often than a tick is worth."""
        assert self.arena is not None
        while True:
            watch = self.arena.watch()
            with contextlib.suppress(BlockingIOError):
                os.write(self._bell_write, b"!")
            self.arena.look_on(watch)

    def _welcome(self) -> None:
        """The state is in the arena: workers may come."""
        assert self.arena is not None and self.state is not None
        words = self.arena.words
        words[Word.SUPERVISOR], words[Word.SUPERVISOR_STARTED] = os.getpid(), process.started(os.getpid())
        words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()
        self._advance(membership.TimePassed())

    def _watch_starter(self) -> None:
        """Whether the script's first process still lives; if it ended with an error, so does the run."""
        ended = self.starter.ended(self._statuses)
        if ended is None:
            return
        pid, status = ended
        error = self._error_of(_Loss(0, pid, time.time(), 0, 0, "", None, 0.0))
        if error:
            self.tell({"event": "error", "pid": pid, **error})
            self._fail(error["message"], int(error.get("exit_code", 1)))
        elif self.arena is None or not self.arena.words[Word.INITIALISED]:
            self._fail(f"the script's first process {process.cause_of_death(status, False)} before the run began", 1)
        else:
            self.tell({"event": "warning", "message": f"the nursery (pid {pid}) is gone; a new one starts"})
            self.starter.begin()

    def _check_memory(self, shape: Shape) -> None:
        size, free = arenas.Regions(shape).fixed, hardware.free_memory_bytes()
        if size > free:
            slots = shape.blocks * shape.slot_bytes
            raise SpringtideError(
                f"the arena needs {size / 1e9:.2f} GB (two states of {shape.state_bytes / 1e9:.2f} GB, {shape.blocks} gradient "
                f"slots of {slots / shape.blocks / 1e9:.2f} GB) and {free / 1e9:.2f} GB are free: fewer microbatches, a "
                "smaller model, or a larger machine"
            )

    def _tell_start(self, description: dict[str, Any], resume: str | None) -> None:
        assert self.arena is not None
        M, most = description["order"]["microbatches"], self.launched.start
        self.tell({
            "event": "start", "name": self.launched.name, "run_id": self.launched.run_id, "workers": most,
            "minimum": self.launched.minimum, "maximum": self.launched.maximum, "microbatches": M,
            "batch_size": description["order"]["batch_size"], "steps": description["course"]["steps"],
            "steps_per_epoch": description["steps_per_epoch"], "parameters": description["parameters"],
            "arena_bytes": self.arena.at.fixed, "resumed_step": self.launched.resumed_step(resume),
            "threads": description["config"]["threads"],
        })  # fmt: skip
        if most > M:
            self.tell({"event": "warning", "message": f"{most} workers share {M} microbatches a step, so {most - M} have "
                       f"none to compute; train.Run(microbatches={most}) would use them all, with other sums"})  # fmt: skip

    def _write_metrics(self, found: dict[str, Any]) -> None:
        with (self.launched.folder / "metrics.jsonl").open("a") as lines:
            lines.write(json.dumps({"step": found["step"], "time": time.time(), **found["metrics"]}) + "\n")

    def _conclude(self, kind: str, message: str) -> None:
        """End everything, and say how it ended."""
        for body in self.bodies.values():
            process.kill(body.pidfd)
        self.starter.end()
        self.tell({"event": "end", "state": kind, "step": self._step, "digest": None, "samples_twice": 0, "samples_lost": 0,
                   "message": message, "exit_code": self._exit, **self._result})  # fmt: skip
        self._over = True

    def tell(self, event: dict[str, Any]) -> None:
        """Write an event down; the launcher reads on from where it was."""
        event = {"event": event["event"], "time": event.get("time") or time.time(), **event}
        with self._tell_lock, (self.launched.folder / "events.jsonl").open("a") as lines:
            lines.write(json.dumps(event) + "\n")


def main() -> int:
    """Started by the launcher: FOLDER, the arena's and the listener's descriptors."""
    folder, listener = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Supervisor(Launched.read(folder), listener).run()


if __name__ == "__main__":
    raise SystemExit(main())
