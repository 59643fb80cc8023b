"""The supervisor's shell: learns what happened, lets `membership`, `vigil` and `keeper` decide, carries it out.

`python -m springtide.train.supervisor FOLDER DESCRIPTOR`, started by the launcher with the arena and the control
socket. No torch; it never forks. All that it must not forget lies in the arena, so a new one takes over from where
the last stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from springtide.spec import Refused, SpringtideError
from springtide.train import membership, opening, planner, process, protocol
from springtide.train.alone import compare
from springtide.train.arena import WORKERS, Arena, Word
from springtide.train.control import Channel, Message
from springtide.train.crew import Crew
from springtide.train.inventory import Inventory
from springtide.train.keeper import Keeper
from springtide.train.launched import Launched
from springtide.train.planning import Planning
from springtide.train.protocol import Course, Header, Kind
from springtide.train.starter import Starter
from springtide.train.tensors import digest

TICK_SECONDS = 0.1
BELL_SECONDS = 0.01
_NURSERIES = 3  # that may be killed before the state of step 0 is there


class Supervisor:
    """See the module."""

    def __init__(self, launched: Launched, listener: int) -> None:
        self.launched = launched
        self.starter = Starter(launched)
        self.crew: Crew | None = None
        self.keeper: Keeper | None = None
        self.planning: Planning | None = None  # of a run on a stream
        self._course = Course(0)
        self._stopping_for: SpringtideError | None = None  # why it ends before its last step
        self.selector = selectors.DefaultSelector()
        self._listener = socket.socket(fileno=listener)
        self._listener.setblocking(False)
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._listener, selectors.EVENT_READ, "call")
        self.selector.register(self._bell_read, selectors.EVENT_READ, "bell")
        launcher = process.watch(launched.launcher)
        if launcher is not None:
            self.selector.register(launcher, selectors.EVENT_READ, "launcher")
        self._tell_lock = threading.Lock()
        self._evaluated = launched.evaluated()
        self._checkpointed = time.monotonic(), 0
        self._statuses: dict[int, int] = {}  # told before there was a crew
        self._result: dict[str, Any] = {}
        self._over = self._revived = False
        self._nurseries = 0  # made anew
        self._oom = process.oom_kills()
        self._starved = 0, 0  # nurseries killed for memory in a row, at that step
        self._exit = 0

    def run(self) -> int:
        """Until the run is over. Returns the exit code of `tide run`."""
        arena = opening.find(self.launched, os.fstat(self.launched.arena).st_size)
        if arena is not None:
            self._take_over(arena)
        self.starter.begin()
        while not self._over:
            for key, _ in self.selector.select(TICK_SECONDS):
                if not self._over:
                    self._happened(key.data, key.fileobj)
            if not self._over:
                self._passed()
        return self._exit

    # --- events

    def _happened(self, what: Any, source: Any) -> None:
        if isinstance(what, int):
            assert self.crew is not None
            self.crew.died(what)
        elif isinstance(what, Channel):
            self._heard(what)
        elif what == "call":
            channel = Channel(self._listener.accept()[0])
            self.selector.register(channel, selectors.EVENT_READ, channel)
        elif what == "bell":
            os.read(self._bell_read, 4096)
        else:
            self.selector.unregister(source)
            self._stop("interrupted", "tide run is gone")

    def _passed(self) -> None:
        """After events, and ten times a second: what time and the arena bring."""
        now = time.monotonic()
        self._watch_nursery()
        crew = self.crew
        if crew is None or self._over:
            return
        crew.arena.words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()
        crew.report_losses(now)
        if self.planning is not None:
            self._hand_out(self.planning, crew)
        if self._over:
            return
        header = crew.arena.now()
        if header is None:
            return
        crew.meet_the_ready()
        self._follow(crew, header)
        if not self._over:
            crew.advance(membership.TimePassed())
            crew.look_after(now)
            crew.measure(now)
            self._keep(crew, header, now)
            if header.kind == Kind.IDLE and not protocol.idles(header, crew.arena.wish(), self._course):
                crew.ring()

    def _hand_out(self, planning: Planning, crew: Crew) -> None:
        """Let the workers have the steps that are in the step log by now."""
        words = crew.arena.words
        planning.reached(crew.step)
        for message in planning.sentences():
            self.tell({"event": "warning", "message": message})
        words[Word.PLANNED] = max(words[Word.PLANNED], planning.planned + 1)
        if planning.last is not None:
            words[Word.LAST] = planning.last + 1
        if planning.failure is not None and self._stopping_for is None:
            self._stopping_for = planning.failure
            if crew.step > planning.begun:
                self._stop("failed", str(planning.failure))
            else:
                self._conclude("failed", str(planning.failure))

    def _follow(self, crew: Crew, header: Header) -> None:
        """Take notice of adopted tables, evaluations, and the end."""
        crew.step = header.step - (header.kind == Kind.TRAIN)
        crew.adopted(header.generation)
        record = self._record(crew.arena, header)
        for found in record.get("recent", []):
            if found["step"] > self._evaluated:
                self._evaluated = found["step"]
                self.tell({"event": "evaluation", **found})
                with (self.launched.folder / "metrics.jsonl").open("a") as lines:
                    lines.write(json.dumps({"step": found["step"], "time": time.time(), **found["metrics"]}) + "\n")
                if found["best"] and self.keeper is not None:
                    self.keeper.best()
        if header.kind == Kind.END or crew.arena.words[Word.DRAINED] == header.tick:
            self._finish(crew, header, record)

    def _record(self, arena: Arena, header: Header) -> dict[str, Any]:
        """What evaluations left for that tick; nothing where it was overwritten meanwhile (it is looked at again)."""
        if not arena.shape.evaluations:
            return {}
        try:
            found = arena.record(header.tick % 2)
        except ValueError:
            found = {}
        now = arena.now()
        return found if now is not None and now.tick == header.tick else {}

    def _keep(self, crew: Crew, header: Header, now: float) -> None:
        assert self.keeper is not None
        self.keeper.look(header)
        every, (last, step) = self.launched.every, self._checkpointed
        due = every.seconds is not None and now - last >= every.seconds
        due = due or (every.steps is not None and crew.step // every.steps > step // every.steps)
        if due and not self.keeper.busy and crew.step > step:
            self._checkpointed = now, crew.step
            self.keeper.ask()

    # --- the end

    def _finish(self, crew: Crew, header: Header, record: dict[str, Any]) -> None:
        """The last step is committed: keep its state once it has been counted, then let the script come to its end."""
        assert self.keeper is not None
        arena, words, step = crew.arena, crew.arena.words, crew.step
        drained = words[Word.DRAINED] == header.tick
        stopped = bool(words[Word.STOP]) and not drained and step < arena.last_step(self._course.steps)
        if words[Word.AUDITED] != step + 1:
            return
        if not words[Word.FINISHED]:
            name = self.keeper.last(header.read, finished=not stopped, record=record)
            inventory = Inventory.parse(arena.description()["inventory"])
            self._result = _counted(arena, header.read) | {
                "step": step, "digest": name or digest(inventory.tensors(arena, header.read)),
            }  # fmt: skip
            (self.launched.folder / "result.json").write_text(json.dumps(self._result))
            words[Word.FINISHED] = 1
            for worker in range(WORKERS):
                arena.summon(worker)
        if stopped and self._stopping_for is not None:
            self._conclude("failed", str(self._stopping_for))
        elif stopped or self._script_done(crew):
            self._conclude("stopped" if stopped else "done", "")

    def _script_done(self, crew: Crew) -> bool:
        """Whether what follows the loop has run to its end in the main worker; one is made where all have died."""
        words = crew.arena.words
        if words[Word.SCRIPT_DONE]:
            return words[Word.MAIN] not in crew.bodies
        if not crew.bodies and not self._revived:
            self._revived = True
            words[Word.MAIN] = 0
            crew.start(0)
        self._revived = self._revived and not crew.bodies
        return False

    def _stop(self, kind: str, why: str) -> None:
        """Checkpoint, then end: at the next step boundary."""
        if self.crew is None or not self._begun():
            self._conclude(kind, why)
        else:
            self.crew.arena.words[Word.STOP] = 1

    def _fail(self, message: str, code: int) -> None:
        if not self._over:
            self._exit = code
            self._conclude("failed", message)

    def _conclude(self, kind: str, message: str) -> None:
        """End everything, and say how it ended."""
        self._over = True
        if kind == "failed" and self._stopping_for is not None:
            self._exit = self._stopping_for.exit_code
        if self.crew is not None:
            self.crew.end()
            self._result = self._result or self._kept_result()
        self.starter.end()
        if self.keeper is not None:
            self.keeper.end()
        self.tell({"event": "end", "state": kind, "step": self.crew.step if self.crew else 0, "digest": None,
                   "samples_twice": None, "samples_lost": None, "message": message, "exit_code": self._exit,
                   **self._result})  # fmt: skip

    def _kept_result(self) -> dict[str, Any]:
        """What an earlier supervisor found out about the final state."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.launched.folder / "result.json").read_text())
            return found
        return {}

    # --- conversations

    def _heard(self, channel: Channel) -> None:
        messages = channel.ready()
        if messages is None:
            self.selector.unregister(channel)
            self.starter.lost(channel)
            channel.close()
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
                return self._introduced(channel, message)
            case "initialised":
                self._open(channel)
            case "forked" if self.crew is not None:
                self.crew.born(int(message["worker"]), int(message["pid"]))
            case "cannot fork" if self.crew is not None:
                self.tell({"event": "warning", "message": f"workers start cold, not by fork: {message['why']}"})
                for worker, pid in self.starter.go_cold():
                    self.crew.born(worker, pid)
            case "exited":
                told = self.crew.statuses if self.crew else self._statuses
                told[int(message["pid"])] = int(message["status"])
            case "resize":
                return self._resize(int(message["workers"]), bool(message.get("now")))
            case "stop":
                self._stop("stopped", str(message.get("why", "")))
                return {"ok": True}
            case other:
                raise Refused(f"the supervisor knows no '{other}'; it answers to resize and stop")
        return None

    def _introduced(self, channel: Channel, message: Message) -> Message:
        """A script's process has read the script: make the arena, or see that it holds the same run."""
        description = message["description"]
        self.starter.spoke(channel, str(message["role"]))
        if self.crew is None:
            resume = self.launched.resumable(description["identity"])
            arena = opening.make(self.launched, description)
            self._set_up(arena)
            self.tell(opening.start_event(self.launched, arena, resume))
            if warning := opening.too_many_workers(self.launched, arena):
                self.tell({"event": "warning", "message": warning})
        else:
            resume, arena = self.launched.resume, self.crew.arena
            if sentence := opening.differences(arena, description["identity"]):
                return {"refused": sentence}
        kept = arena.description()
        return {"shape": kept["shape"], "block_size": kept["block_size"], "resume": resume,
                "initialise": not arena.words[Word.INITIALISED]}  # fmt: skip

    def _open(self, channel: Channel) -> None:
        """The state is in the arena: workers may come."""
        assert self.crew is not None
        self._sign(self.crew.arena)
        header = self.crew.arena.now()
        if header is not None and not self._checkpointed[1]:
            self._checkpointed = time.monotonic(), header.step - (header.kind == Kind.TRAIN)
        self.starter.nursery_ready(channel)
        self.crew.advance(membership.TimePassed())

    def _resize(self, workers: int, now: bool) -> Message:
        name, least, most = self.launched.name, self.launched.minimum, self.launched.maximum
        if not least <= workers <= most:
            raise Refused(f"'{name}' runs with {least} to {most} workers; {workers} is outside, give one between")
        if self.crew is None:
            raise Refused(f"'{name}' is still starting; try again when `tide ps` shows workers")
        before = self.crew.working
        self.crew.arena.words[Word.WANTED] = workers
        self.crew.advance(membership.SizeWanted(workers, now))
        return {"ok": True, "workers": workers, "before": before}

    # --- beginnings

    def _set_up(self, arena: Arena) -> None:
        self.keeper = Keeper(arena, self.launched, self.tell)
        self.crew = Crew(self.launched, arena, self.starter, self.selector, self.tell, self._fail)
        self.crew.statuses.update(self._statuses)
        description = arena.description()
        self._course = Course(**description["course"])
        task = planner.task_of(description, self.launched.folder)
        if task is not None:
            self.planning = Planning(opening.resumed(task, self.launched, arena), self._wake)
        threading.Thread(target=self._listen_to_bell, args=(arena,), daemon=True).start()

    def _take_over(self, arena: Arena) -> None:
        """Be the supervisor of a job that runs already."""
        self._set_up(arena)
        assert self.crew is not None
        header = arena.now()
        self._sign(arena)
        self.crew.adopt(header)
        if header is not None:
            self.crew.step = header.step - (header.kind == Kind.TRAIN)
            self._checkpointed = time.monotonic(), self.crew.step
        self.tell(
            {"event": "supervisor", "pid": os.getpid(), "what": "adopted", "cause": f"{len(self.crew.bodies)} workers"}
        )

    def _sign(self, arena: Arena) -> None:
        words = arena.words
        words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()
        words[Word.SUPERVISOR], words[Word.SUPERVISOR_STARTED] = os.getpid(), process.started(os.getpid())

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell_write, b"!")

    def _listen_to_bell(self, arena: Arena) -> None:
        """Turn the arena's futex into something that can be selected; steps of a millisecond must not wake it each
        time.
        """
        pause = threading.Event()
        while True:
            watch = arena.watch()
            self._wake()
            arena.look_on(watch)
            pause.wait(BELL_SECONDS)

    def _watch_nursery(self) -> None:
        """A nursery that ended with an error ends the run; one that was killed is made anew, unless nothing helps."""
        statuses = self.crew.statuses if self.crew else self._statuses
        ended = self.starter.ended(statuses)
        if ended is None:
            return
        pid, status = ended
        cause = process.cause_of_death(status, self._for_memory(status))
        error = self.launched.error_of(pid)
        if error:
            self.tell({"event": "error", "pid": pid, **error})
            self._fail(error["message"], int(error.get("exit_code", 1)))
        elif not self._begun() and (_own_doing(status) or self._nurseries >= _NURSERIES):
            self._fail(f"the script's first process {cause} before the run began", 1)
        elif self._starved[0] >= _NURSERIES:
            self._fail(f"the process that forks the workers {cause}, {_NURSERIES} times without a step between", 1)
        else:
            self._nurseries += 1
            self.tell({"event": "warning", "message": f"the nursery (pid {pid}) {cause}; a new one starts"})
            self.starter.begin()

    def _for_memory(self, status: int | None) -> bool:
        """Whether a nursery that is gone was killed for memory; counted, as long as no step is made."""
        kills, step = process.oom_kills(), self.crew.step if self.crew else 0
        known, self._oom = max(self._oom, self.crew.oom if self.crew else 0), kills
        if self.crew is not None:
            self.crew.oom = kills
        if kills <= known or _own_doing(status):
            return False
        self._starved = (self._starved[0] + 1 if self._starved[1] == step else 1), step
        return True

    def _begun(self) -> bool:
        return self.crew is not None and bool(self.crew.arena.words[Word.INITIALISED])

    def tell(self, event: dict[str, Any]) -> None:
        """Write an event down; the launcher reads on from where it was."""
        event = {"event": event["event"], "time": event.get("time") or time.time(), **event}
        with self._tell_lock, (self.launched.folder / "events.jsonl").open("a") as lines:
            lines.write(json.dumps(event) + "\n")


def _own_doing(status: int | None) -> bool:
    """Whether a process ended by itself, not by a signal."""
    return status is not None and not os.WIFSIGNALED(status)


def _counted(arena: Arena, buffer: int) -> dict[str, int]:
    """What the workers counted against what the order says."""
    words, position = arena.words, arena.position(buffer)
    expected = words[Word.EXPECTED], words[Word.EXPECTED_SUM] & (1 << 64) - 1
    twice, lost = compare(expected, (position.get("samples", 0), position.get("checksum", 0)))
    return {"samples": position.get("samples", 0), "samples_twice": twice, "samples_lost": lost,
            "skipped": position.get("skipped", 0)}  # fmt: skip


def main() -> int:
    """Started by the launcher."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Supervisor(Launched.read(Path(sys.argv[1])), int(sys.argv[2])).run()


if __name__ == "__main__":
    raise SystemExit(main())
