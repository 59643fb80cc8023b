"""A script's process and its supervisor: introduction, the nursery's forks, heartbeat, and taking leave."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch

from springtide.data.order import OrderLike
from springtide.spec import SpringtideError, UserError
from springtide.train import control, futex, process
from springtide.train.arena import Arena, Row, Shape, State, Word
from springtide.train.control import Channel, Message
from springtide.train.protocol import Kind
from springtide.train.vigil import BEAT_SECONDS

if TYPE_CHECKING:
    from springtide.train.assembly import Assembly
    from springtide.train.worker import Worker

_ORPHAN_SECONDS = 5.0


def join(assembly: Assembly) -> tuple[Arena, int]:
    """Introduce this process to the supervisor. Returns the arena and the row of the worker that it is.

    In a nursery, this returns in each fork; the nursery itself stays inside until it is no longer needed.
    """
    launch = assembly.launch
    channel, reply = _introduce(assembly)
    assembly.adopt_block_size(int(reply["block_size"]))
    arena = Arena(launch.arena, Shape(**reply["shape"]))
    if reply["initialise"]:
        assembly.initialise(arena, reply["resume"])
    if launch.role == "cold":
        channel.close()
        return arena, launch.worker
    why = _cannot_fork(assembly.given.device)
    if why:
        _say(channel, {"do": "initialised"})
        _say(channel, {"do": "cannot fork", "why": why})
        channel.receive()
        _go()
    _warm_up()
    return arena, _serve(assembly, channel)


def report_for_work(arena: Arena, me: int) -> None:
    """Say that this worker is warm: imports, model, data and the arena's pages are there."""
    row = arena.rows[me]
    futex.populate(arena.base, arena.at.fixed)
    _await_recognition(arena, me)
    row[Row.BEAT] = time.monotonic_ns()
    threading.Thread(target=_beat, args=(arena, me), daemon=True, name="heartbeat").start()
    row[Row.STATE] = State.READY
    arena.tell(time.monotonic_ns())


def _await_recognition(arena: Arena, me: int) -> None:
    """Wait until the supervisor has written this process into the row: a fork that it does not know is nobody's."""
    row, mine = arena.rows[me], os.getpid()
    while row[Row.PID] != mine:
        seen = row[Row.WAKE]
        if row[Row.PID] not in (0, mine) or not _led(arena):
            _go()
        if row[Row.PID] != mine:
            arena.park(me, seen, _ORPHAN_SECONDS)


def leave(worker: Worker, order: OrderLike, step: int) -> None:
    """At the end of the loop. Returns in the main worker; the others wait, lest it die, and end with the script.

    A run that was stopped before its last step ends in all workers: what follows the loop is for a finished run. So
    does a worker that no table names any more.
    """
    arena, row = worker.arena, worker.row
    if worker.now.kind != Kind.END and not worker.drained:
        _go()
    stopped = arena.words[Word.STOP] and not worker.drained and step < arena.last_step(worker.job.recipe.course.steps)
    row[Row.STATE] = State.ENDED
    while True:
        seen = row[Row.WAKE]
        if worker.main:
            _audit(arena, order, step)
            arena.tell(time.monotonic_ns())
            if not stopped and not arena.words[Word.SCRIPT_DONE]:
                return
        if arena.words[Word.FINISHED] and (stopped or arena.words[Word.SCRIPT_DONE]):
            _go()
        arena.park(worker.me, seen)


def _audit(arena: Arena, order: OrderLike, step: int) -> None:
    """Write down what the order says must have been counted by now."""
    count, total = order.expected(step)
    arena.words[Word.EXPECTED] = count
    arena.words[Word.EXPECTED_SUM] = total - (1 << 64) if total >= 1 << 63 else total
    arena.words[Word.AUDITED] = step + 1


def _introduce(assembly: Assembly) -> tuple[Channel, Message]:
    """Say what this process holds to the supervisor, or, if it dies over that, to its successor."""
    launch = assembly.launch
    ready = {"do": "ready", "role": launch.role, "description": assembly.description()}
    reply = None
    while reply is None:
        try:
            channel = control.connect(Path(launch.control))
        except OSError:  # the launcher keeps the socket: the run is over
            _go()
        with suppress(OSError):
            reply = channel.ask(ready)
        if reply is None:
            channel.close()
    if sentence := reply.get("refused") or reply.get("error"):
        raise UserError(str(sentence)) if reply.get("exit_code", 2) == 2 else SpringtideError(str(sentence))
    return channel, reply


def _serve(assembly: Assembly, channel: Channel) -> int:
    """The nursery's life: fork when asked. In each fork, returns the row."""
    _say(channel, {"do": "initialised"})
    forked: dict[int, tuple[int, int]] = {}  # row -> (pid, start), of whom a supervisor that died may not have heard
    while True:
        message = channel.receive()
        if message is None:
            channel = _reintroduce(assembly, channel)
            for worker, (pid, started) in forked.items():
                if process.alive(pid, started):
                    _say(channel, {"do": "forked", "worker": worker, "pid": pid})
        elif message.get("do") == "fork":
            threads = _threads()
            if threads != 1:
                _say(channel, {"do": "cannot fork", "why": f"the script left {threads - 1} threads running"})
                channel.receive()
                _go()
            worker = int(message["worker"])
            pid = _fork()
            if pid == 0:
                _become(assembly, worker)
                channel.close()
                return worker
            forked[worker] = pid, process.started(pid)
            _say(channel, {"do": "forked", "worker": worker, "pid": pid})


def _reintroduce(assembly: Assembly, channel: Channel) -> Channel:
    """The supervisor is gone: call its successor, which the launcher starts; without a launcher there is none."""
    channel.close()
    try:
        channel, _ = _introduce(assembly)
    except SpringtideError:
        _go()
    _say(channel, {"do": "initialised"})
    return channel


def _say(channel: Channel, message: Message) -> None:
    """To a supervisor that may be dead: then the next `receive` ends the conversation."""
    with suppress(OSError):
        channel.send(message)


def _fork() -> int:
    """Fork twice, so that the worker is nobody's child here: its exit status goes to the launcher. 0 in the worker."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        worker = os.fork()
        if worker == 0:
            os.close(reader)
            os.close(writer)
            return 0
        os.write(writer, str(worker).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 32)
    os.close(reader)
    os.waitpid(middle, 0)
    return int(told)


def _become(assembly: Assembly, worker: int) -> None:
    """A session and a log of its own."""
    os.setsid()
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(
        f"{assembly.launch.folder}/workers/worker-{worker}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _cannot_fork(device: str) -> str:
    """Why workers cannot be forked from here; empty where they can."""
    if device != "cpu" or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "a process that uses the GPU cannot be forked"
    threads = _threads()
    return f"the script left {threads - 1} threads running" if threads != 1 else ""


def _warm_up() -> None:
    """Do once what torch does at the first backward pass, so that no fork has to."""
    weight = torch.ones(8, 8, requires_grad=True)
    torch.nn.functional.cross_entropy(torch.ones(4, 8) @ weight, torch.zeros(4, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]


def _beat(arena: Arena, me: int) -> None:
    """Heartbeat; and what a worker does beside its steps: populate the third buffer, end when nobody leads any more."""
    row, words = arena.rows[me], arena.words
    alone_since: float | None = None
    ticker = threading.Event()
    while True:
        row[Row.BEAT] = time.monotonic_ns()
        if words[Word.THIRD] and not row[Row.POPULATED]:
            futex.populate(arena.base + arena.at.buffers[2], arena.shape.state_bytes)
            row[Row.POPULATED] = 1
        alone_since = None if _led(arena) else alone_since or time.monotonic()
        if alone_since is not None and time.monotonic() - alone_since > _ORPHAN_SECONDS:
            os._exit(1)
        ticker.wait(BEAT_SECONDS)


def _led(arena: Arena) -> bool:
    """Whether the launcher or a supervisor lives."""
    words = arena.words
    return process.alive(words[Word.LAUNCHER], words[Word.LAUNCHER_STARTED]) or process.alive(
        words[Word.SUPERVISOR], words[Word.SUPERVISOR_STARTED]
    )


def _go() -> NoReturn:
    """End this process without running what follows the loop."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
