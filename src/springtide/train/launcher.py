"""What `tide run` does: starts the supervisor and starts it again, passes on exit statuses, shows what happens.

No torch. This process holds the arena and the control socket, and is the parent of last resort of all that the run
starts: whatever else dies, it knows, and when it ends, nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from springtide.spec import UserError
from springtide.train import control, futex, preparing, process, runs
from springtide.train.arena import MAGIC, WORKERS, Arena, Row, Shape, Word
from springtide.train.chaos import Chaos, Target
from springtide.train.launched import Launched
from springtide.train.options import LaunchOptions
from springtide.train.protocol import NOBODY, Kind
from springtide.train.tail import Tail

Event = dict[str, Any]
TICK_SECONDS = 0.1
SUPERVISOR_SILENCE_SECONDS = 1.0
_HUNG_SECONDS = 10.0
_RESTARTS, _RESTARTS_SECONDS = 5, 20.0
_ENDING_SECONDS = 30.0


def launch(options: LaunchOptions, on_event: Callable[[Event], None]) -> int:
    """Run a script elastically until it ends. Returns the exit code: 0, 1, 2 or 130 (interrupted).

    `on_event` is called in this thread, with each event and, ten times a second, a "tick". UserError and Refused are
    raised before anything was started.
    """
    if not futex.SUPPORTED:
        raise UserError(f"elastic training needs Linux on x86-64 or ARM, this is {sys.platform} on {futex.MACHINE}")
    launched, warnings = preparing.prepare(options)
    return _Launcher(launched, options, on_event).run(warnings)


class _Launcher:
    def __init__(self, launched: Launched, options: LaunchOptions, on_event: Callable[[Event], None]) -> None:
        self.launched, self.options, self.on_event = launched, options, on_event
        self.listener = control.listen(launched.socket)
        self.arena: Arena | None = None
        self.supervisor = 0
        self._supervisor_started = 0
        self._started_at = 0.0  # when this supervisor was started
        self._restarts: list[float] = []
        self._told_at_loss = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._interrupts = 0
        self._answered = 0
        self._end: Event | None = None
        self._told = 0  # step
        self._per_epoch: float | None = None  # steps, once the arena says so
        self._ticked = 0.0
        self._events = Tail(launched.folder / "events.jsonl")
        self._output: dict[str, Tail] = {}
        self._main = NOBODY
        self._chaos = Chaos(options.chaos, options.seed or 0, self._resize, self._tell_chaos)

    def run(self, warnings: list[str]) -> int:
        futex.adopt_orphans()
        previous = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            for message in warnings:
                self._tell({"event": "warning", "message": message})
            self._start_supervisor()
            while self._end is None:
                self._once()
            return self._finish(self._end)
        finally:
            self._clean()
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _once(self) -> None:
        select.select([self._wake_read], [], [], TICK_SECONDS)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self._reap()
        self._attach()
        self._read()
        self._interrupt()
        self._guard()
        now = time.monotonic()
        if now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self._tick(now)

    # --- reading

    def _attach(self) -> None:
        """Map the arena once the supervisor has made it."""
        if self.arena is not None or not os.fstat(self.launched.arena).st_size:
            return
        try:
            arena = Arena(self.launched.arena, Shape(**self.launched.shape()))
        except (OSError, ValueError):
            return
        if arena.words[Word.MAGIC] == MAGIC:
            self.arena = arena
            threading.Thread(target=self._listen_to_bell, daemon=True).start()

    def _listen_to_bell(self) -> None:
        """Wake the loop when something was committed, but not for each of a thousand steps a second."""
        assert self.arena is not None
        pause = threading.Event()
        while True:
            watch = self.arena.watch()
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"!")
            self.arena.look_on(watch)
            pause.wait(0.02)

    def _read(self) -> None:
        """Steps from the ring, events from the supervisor's file, output of the worker that is shown."""
        for line in self._events.lines():
            with contextlib.suppress(ValueError):
                self._event(json.loads(line))
        self._read_steps()
        for line in self._shown_lines():
            self.on_event({"event": "output", "time": time.time(), "line": line})

    def _event(self, event: Event) -> None:
        if event["event"] == "end":
            self._read_steps()
            for line in self._shown_lines():
                self.on_event({"event": "output", "time": time.time(), "line": line})
            self._end = event
            return
        if event["event"] == "start":
            self._told = int(event["resumed_step"])
        self.on_event(event)

    def _read_steps(self) -> None:
        if self.arena is None or (now := self.arena.now()) is None:
            return
        committed = now.step - (now.kind == Kind.TRAIN)
        per_epoch = self._steps_per_epoch()
        for record in self.arena.steps_after(self._told, committed):
            if not record.stamped and record.step == committed and now.kind == Kind.TRAIN:
                return  # its time of commit is being written
            self._told = record.step
            loss = None if record.loss != record.loss else record.loss
            self.on_event({
                "event": "step", "step": record.step, "time": record.time, "loss": loss, "workers": record.workers,
                "epoch": round(record.step / per_epoch, 4) if per_epoch else None, "samples": record.samples,
            })  # fmt: skip

    def _steps_per_epoch(self) -> float:
        """0: a stream has no epochs."""
        assert self.arena is not None
        if self._per_epoch is None:
            self._per_epoch = float(self.arena.description()["steps_per_epoch"] or 0)
        return self._per_epoch

    def _shown_lines(self) -> Iterator[str]:
        """Output of the script before the loop, then of the main worker."""
        folder = self.launched.folder / "workers"
        yield from self._tail(folder / "nursery-0.log").lines()
        if self.arena is None:
            return
        # All are read, so that the one that becomes the main one is shown from there on and not from its beginning; and
        # the main one to its last line, though its row may be empty by now.
        before, self._main = self._main, self.arena.words[Word.MAIN]
        found = {
            worker: list(self._tail(folder / f"worker-{worker}.log").lines())
            for worker in range(WORKERS)
            if self.arena.rows[worker][Row.PID] or worker in (before, self._main)
        }
        for main in dict.fromkeys((before, self._main)):
            yield from found.get(main, [])

    def _tail(self, path: Path) -> Tail:
        return self._output.setdefault(path.name, Tail(path))

    # --- doing

    def _tick(self, now: float) -> None:
        if self.arena is None:
            return
        workers = runs.workers(self.arena)
        self.on_event({"event": "tick", "time": time.time(), "workers": workers})
        target = Target({w["id"]: w["pid"] for w in workers}, self.supervisor, self.arena.words[Word.WANTED])
        if self._end is None and self._told:
            for blow in self._chaos.due(self._told, now):
                self._chaos.strike(blow, target)

    def _tell_chaos(self, what: str) -> None:
        self._tell({"event": "chaos", "step": self._told + 1, "what": what})

    def _resize(self, workers: int) -> None:
        least, most = self.launched.minimum, self.launched.maximum
        self._ask({"do": "resize", "workers": max(least, min(workers, most))})

    def _tell(self, event: Event) -> None:
        self.on_event({"event": event["event"], "time": time.time(), **event})

    def _ask(self, message: Event) -> None:
        """Say something to the supervisor; if it is away, its successor will hear it."""
        channel = control.connect(self.launched.socket)
        channel.send(message)
        channel.close()

    def _signalled(self, number: int, frame: object) -> None:
        del frame
        self._interrupts += 1 if number == signal.SIGINT else 2 if self._interrupts else 1

    def _interrupt(self) -> None:
        """Ctrl-C once: checkpoint and end. Twice: end."""
        if self._interrupts > self._answered:
            self._answered = self._interrupts
            if self._interrupts == 1:
                self._tell({"event": "warning", "message": "stopping after a checkpoint; Ctrl-C again ends at once"})
                self._ask({"do": "stop", "why": "interrupted"})
            else:
                self._end = self._without_result("interrupted", "ended at once", 130)

    # --- the supervisor and other processes

    def _start_supervisor(self) -> None:
        with (self.launched.folder / "supervisor.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "springtide.train.supervisor", str(self.launched.folder),
                 str(self.listener.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=[self.launched.arena, self.listener.fileno()],
            )  # fmt: skip
        child.returncode = 0  # it is waited for with all others, in _reap
        self._started_at = time.monotonic()
        self.supervisor, self._supervisor_started = child.pid, process.started(child.pid)
        (self.launched.folder / "supervisor.json").write_text(
            json.dumps({"pid": child.pid, "started": self._supervisor_started})
        )

    def _reap(self) -> None:
        """Take every exit status there is: the supervisor's for oneself, the others' for the supervisor."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self.supervisor:
                    self._supervisor_ended(status)
                elif self._end is None:
                    self._ask({"do": "exited", "pid": pid, "status": status})

    def _supervisor_ended(self, status: int) -> None:
        self._read()
        if self._end is not None:
            self.supervisor = 0
            return
        now, cause = time.monotonic(), process.cause_of_death(status, False)
        if os.WIFSIGNALED(status) and self._told > self._told_at_loss:
            self._restarts = []  # killed from outside, as often as anybody likes, while the run goes on
        self._restarts = [at for at in self._restarts if now - at < _RESTARTS_SECONDS] + [now]
        self._told_at_loss = self._told
        self._tell({"event": "supervisor", "pid": self.supervisor, "what": "lost", "cause": cause})
        if len(self._restarts) > _RESTARTS:
            log = (self.launched.folder / "supervisor.log").read_text(errors="replace").strip().splitlines()
            told = f"the supervisor {cause} {len(self._restarts)} times: {log[-1] if log else ''}"
            self._end = self._without_result("failed", told, 1)
            self.supervisor = 0
            return
        self._start_supervisor()
        self._tell({"event": "supervisor", "pid": self.supervisor, "what": "started", "cause": cause})

    def _guard(self) -> None:
        """A supervisor that was stopped, or that no longer comes round, is killed; _reap starts the next."""
        if not self.supervisor:
            return
        signed = self.arena is not None and self.arena.words[Word.SUPERVISOR] == self.supervisor
        beat = self.arena.words[Word.SUPERVISOR_BEAT] / 1e9 if self.arena is not None and signed else 0.0
        silent = time.monotonic() - max(beat, self._started_at)
        if silent < SUPERVISOR_SILENCE_SECONDS:
            return
        seen = process.stat(self.supervisor)
        if seen is not None and (seen.state in ("T", "t") or (signed and silent > _HUNG_SECONDS)):
            os.kill(self.supervisor, signal.SIGKILL)

    # --- the end

    def _without_result(self, state: str, message: str, exit_code: int) -> Event:
        return {"event": "end", "time": time.time(), "state": state, "step": self._told, "digest": None,
                "samples_twice": None, "samples_lost": None, "message": message, "exit_code": exit_code}  # fmt: skip

    def _finish(self, end: Event) -> int:
        self._clean()
        state = str(end["state"])
        if self._interrupts and state == "stopped":
            state = "interrupted"
        from dataclasses import replace

        replace(self.launched, state=state).write()
        self.on_event({**end, "state": state})
        if state == "interrupted":
            return 130
        return int(end.get("exit_code", 1)) if state == "failed" else 0

    def _clean(self) -> None:
        """Nothing that this run started is left."""
        if self.supervisor and self._end is not None and not self._interrupts > 1:
            self._await(self.supervisor)
        while found := self._descendants():  # again and again: one of them may have forked meanwhile
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        self.supervisor = 0
        self.listener.close()
        self.launched.socket.unlink(missing_ok=True)

    def _await(self, pid: int) -> None:
        pidfd = process.watch(pid)
        if pidfd is not None:
            select.select([pidfd], [], [], _ENDING_SECONDS)
            os.close(pidfd)

    def _descendants(self) -> list[int]:
        """All processes below this one; orphans among them are its children."""
        parents: dict[int, list[int]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (seen := process.stat(int(entry.name))) is not None:
                parents.setdefault(seen.parent, []).append(int(entry.name))
        found, waiting = [], [os.getpid()]
        while waiting:
            children = parents.get(waiting.pop(), [])
            found += children
            waiting += children
        return found
