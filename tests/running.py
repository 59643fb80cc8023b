"""A real `tide run` seen from outside: its events, its processes by name, blows, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from springtide.train import control, process, runs
from springtide.train.arena import WORKERS, Row, State, Word
from springtide.train.launched import Launched

TIDE = Path(sys.executable).with_name("tide")
FAULTS = Path(__file__).parent / "chaos" / "faults.py"
HANGS_SECONDS = 120.0  # ends a test that would hang for ever; nothing is asserted of it
Event = dict[str, Any]


@dataclass(frozen=True)
class Cast:
    """Who plays at this moment, by process id; 0 where there is none."""

    supervisor: int
    nursery: int
    working: Mapping[int, int]  # row -> pid, of those that a table names
    parked: Mapping[int, int]  # row -> pid, of the others

    @property
    def workers(self) -> list[int]:
        return [*self.working.values(), *self.parked.values()]

    @property
    def everybody(self) -> list[int]:
        return [pid for pid in (self.supervisor, self.nursery, *self.workers) if pid]


class Running:
    """One `tide run --json`. Its working folder is `home`, and so is all that it keeps."""

    def __init__(
        self, script: Path, *arguments: object, home: Path, name: str = "run", workers: str = "1:4",
        options: tuple[object, ...] = (), command: tuple[object, ...] = (TIDE,), **variables: str,
    ) -> None:  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.name = home, name
        self.report_path, self.errors_path = home / f"{name}.report.json", home / f"{name}.stderr"
        words = (
            *command, "run", "--name", name, "--workers", workers, "--json", "--report", self.report_path, *options,
            script, *arguments,
        )  # fmt: skip
        self.events: list[Event] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._silent = False  # all has been heard
        with self.errors_path.open("a") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in words], env=environment(home, **variables), stdout=subprocess.PIPE,
                stderr=errors, stdin=subprocess.DEVNULL, text=True, start_new_session=True, cwd=home,
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    # --- what it says

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def told(self) -> Iterator[Event]:
        """Events as they come, to the end of the run."""
        while (line := self._next_line()) is not None:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                self.events.append(event)
                yield event

    def _next_line(self) -> str | None:
        if self._silent:
            return None
        try:
            line = self._lines.get(timeout=HANGS_SECONDS)
            self._silent = line is None
            return line
        except queue.Empty:
            raise AssertionError(f"no event in {HANGS_SECONDS:.0f} s\n{self.story()}") from None

    def until(self, kind: str, **wanted: object) -> Event:
        """The first event of that kind from now on with these values. AssertionError: the run ends without it."""
        for event in self.told():
            if event["event"] == kind and all(event.get(key) == value for key, value in wanted.items()):
                return event
        raise AssertionError(f"the run ended without {kind} {wanted or ''}\n{self.story()}")

    def until_step(self, step: int) -> bool:
        """Until that step is committed. False: the run ended before."""
        return any(event["event"] == "step" and event["step"] >= step for event in self.told())

    def of(self, kind: str) -> list[Event]:
        """Events of that kind so far."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def step(self) -> int:
        """The last step heard of."""
        return next((event["step"] for event in reversed(self.events) if event["event"] == "step"), 0)

    def warnings(self) -> str:
        return "\n".join(event["message"] for event in self.of("warning"))

    # --- who plays

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.name

    def cast(self) -> Cast:
        """Who plays now."""
        launched = Launched.read(self.folder)
        nursery = kept(self.folder / "nursery.json")
        arena = runs.open_arena(launched)
        if arena is None:
            return Cast(kept(self.folder / "supervisor.json"), nursery, {}, {})
        named = {worker["id"] for worker in runs.workers(arena)}
        working, parked = {}, {}
        for worker in range(WORKERS):
            pid = arena.rows[worker][Row.PID]
            if pid and process.alive(pid, arena.rows[worker][Row.STARTED]):
                (working if worker in named else parked)[worker] = pid
        supervisor = arena.words[Word.SUPERVISOR]
        os.close(arena.descriptor)
        return Cast(supervisor, nursery, working, parked)

    def main_worker(self) -> int:
        """Process id of the worker whose output is shown."""
        arena = runs.open_arena(Launched.read(self.folder))
        assert arena is not None
        found = int(arena.rows[arena.words[Word.MAIN]][Row.PID])
        os.close(arena.descriptor)
        return found

    def spare_is_ready(self) -> bool:
        """Whether a warm worker waits beside those that work."""
        arena = runs.open_arena(Launched.read(self.folder))
        if arena is None:
            return False
        named = {worker["id"] for worker in runs.workers(arena)}
        found = any(arena.rows[w][Row.STATE] == State.READY for w in range(WORKERS) if w not in named)
        os.close(arena.descriptor)
        return found

    def ask(self, **message: object) -> Event | None:
        """Over the control socket."""
        channel = control.connect(self.folder / "control.sock", HANGS_SECONDS)
        try:
            return channel.ask(message)
        finally:
            channel.close()

    # --- the end

    def finish(self) -> Event:
        """Hear it out. Returns the report, with its exit code as `exit`."""
        for _ in self.told():
            pass
        try:
            code = self.process.wait(HANGS_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"tide run does not end\n{self.story()}") from None
        report = json.loads(self.report_path.read_text()) if self.report_path.exists() else {}
        return {**report, "exit": code}

    def end(self) -> None:
        """After a test that may have failed: nothing of it goes on."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            strike(list(of_home(self.home)))

    @property
    def errors(self) -> str:
        return self.errors_path.read_text()

    def story(self) -> str:
        """For a failed test: what is known of the run."""
        rows = [json.dumps(event) for event in self.events if event["event"] != "step"]
        log = self.folder / "supervisor.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        return "\n".join([f"at step {self.step}", *rows[-60:], self.errors[-2000:], said[-4000:]])


def environment(home: Path, **variables: str) -> dict[str, str]:
    """For a command whose things lie below `home`."""
    return os.environ | {"TIDE_HOME": str(home), "COLUMNS": "200"} | variables


def tide(*words: object, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the real `tide` to its end."""
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [str(TIDE), *map(str, words)], env=environment(home, **variables), capture_output=True, text=True,
        timeout=HANGS_SECONDS, check=False, cwd=home, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def alone(script: Path, *arguments: object, home: Path) -> Event:
    """`python script` without tide: its report."""
    home.mkdir(parents=True, exist_ok=True)
    report = home / "alone.json"
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], env=environment(home, TIDE_REPORT=str(report)),
        capture_output=True, text=True, timeout=HANGS_SECONDS, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Event = json.loads(report.read_text())
    return found


def strike(pids: list[int] | int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to each that still lives."""
    for pid in [pids] if isinstance(pids, int) else pids:
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def of_home(home: Path) -> dict[int, str]:
    """Living processes of runs below `home`: pid -> command line."""
    mark, found = f"TIDE_HOME={home}".encode(), {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Look again and again: for what no kernel event tells an onlooker."""
    limit = time.monotonic() + HANGS_SECONDS
    while not true():
        assert time.monotonic() < limit, f"never: {what}"
        time.sleep(0.02)


def leftovers(home: Path) -> list[str]:
    """What a run should not have left: processes, sockets, shared memory."""
    sockets = [str(path) for path in (home / "runs").glob("*/control.sock")]
    living = [f"{pid}: {command}" for pid, command in of_home(home).items()]
    return sockets + living + _orphaned_memory()


def _orphaned_memory() -> list[str]:
    """Names in /dev/shm that carry the number of a process that is gone, or ours."""
    found = []
    for entry in Path("/dev/shm").iterdir():
        owner = next((part for part in entry.name.split("_") if part.isdigit()), "")
        if "tide" in entry.name or (owner and not Path(f"/proc/{owner}").exists()):
            found.append(str(entry))
    return found


def kept(path: Path) -> int:
    """The process that a file names, if it lives; else 0."""
    try:
        found = json.loads(path.read_text())
        return int(found["pid"]) if process.alive(found["pid"], found["started"]) else 0
    except (OSError, ValueError, KeyError):
        return 0
