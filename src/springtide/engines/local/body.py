"""One replica as its shim holds it: begun once, listened to, told to end, and buried with its exit code on the disk."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from springtide.engines.local import logs, spawn
from springtide.engines.local.cgroups import Groups
from springtide.engines.local.state import Folder, Order, Record, boot
from springtide.spec.errors import SpringtideError
from springtide.train import control, process
from springtide.train.control import Message

UNSEEN = "ended while its parent was being replaced; how is not known"
_READ_BYTES = 1 << 16
_OOM_S = 0.02  # between being told that memory ran out, and looking whether somebody was killed for it
_SETTLE_S = 0.01  # between looks whether what a replica left behind is dead
_AGAIN_S = 1.0  # between tries to write on a full disk


class Parent(Protocol):
    """What a body needs of its shim."""

    folder: Folder
    groups: Groups
    selector: selectors.BaseSelector

    def listener(self, port: int) -> socket.socket: ...

    def tell(self, message: Message) -> None: ...


class Body:
    """See the module. The selector gets its descriptors with itself as data; `due_s` is when `passed` is wanted."""

    def __init__(self, shim: Parent, order: Order, record: Record) -> None:
        self.shim, self.order, self.record = shim, order, record
        self.due_s: float | None = None  # of the monotonic clock
        self.over = False
        self._group = shim.groups.group(shim.folder.job, order.replica)
        self._limited = bool(shim.groups.version)
        self._log: logs.Writer | None = None
        self._bucket = logs.Bucket(at_s=time.monotonic())
        self._out = self._pidfd = self._error = -1
        self._held_until_s: float | None = None
        self._flooded = self._unwritten = self._unsaved = self._dead = False
        self._status: int | None = None
        self._oom = 0
        self._memory = -1  # readable once memory ran out, where the kernel kills one process and leaves the others
        self._oom_at_s: float | None = None

    # --- beginnings

    def start(self) -> None:
        """Begin the program; its name is on the disk before its first instruction."""
        if self.record.asked:
            self._bury(None, "was stopped before it began")
            return
        admin: socket.socket | None = None
        try:
            self._make_group()
            self._open()
            main = self.shim.listener(self.order.port) if self.order.handed and self.order.port else None
            admin = self._admin() if self.order.service else None
            born = spawn.fork(
                self.order, self.shim.folder, self._group, self._limited, main.fileno() if main else None,
                admin.fileno() if admin else None,
            )  # fmt: skip
        except SpringtideError as error:
            self._bury(spawn.CANNOT_START, f"cannot be started: {error}")
            return
        except OSError as error:
            self._bury(spawn.CANNOT_START, f"cannot be started: {error.filename or 'this machine'}: {error.strerror}")
            return
        finally:
            if admin is not None:
                admin.close()
        self._error = born.error
        self._watch_memory()
        self._note(pid=born.pid, start=process.started(born.pid), boot=boot(), started_s=time.time())
        if not self._unsaved:
            os.write(born.gate, b"!")
        os.close(born.gate)

    def adopt(self) -> None:
        """Another shim began it: go on where that one was."""
        self._open()
        self._oom = self._group.oom_kills()
        pidfd = process.watch(self.record.pid) if self.record.lives else None
        if pidfd is None or not self.record.lives:
            if pidfd is not None:
                os.close(pidfd)
            self.ended(None)
            return
        self._watch_memory()
        self._pidfd = pidfd
        self.shim.selector.register(pidfd, selectors.EVENT_READ, self)
        self.due_s = self.record.kill_at_s

    def _make_group(self) -> None:
        try:
            self._group.make(self.order.limits)
        except OSError as error:
            self._limited = False
            self.shim.tell({"notice": f"replica {self.order.replica} runs without a control group: {error.strerror}"})
        self._oom = self._group.oom_kills()

    def _watch_memory(self) -> None:
        """Of training a worker may die alone: the run replaces it."""
        if self._limited and self.order.limits.whole and (watched := self._group.watch_memory()) is not None:
            self._memory = watched
            self.shim.selector.register(watched, selectors.EVENT_READ, self)

    def _open(self) -> None:
        path = self._path / "out"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._out = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._log = logs.Writer(self.shim.folder.logs, self.order.replica)
        self.shim.selector.register(self._out, selectors.EVENT_READ, self)

    def _admin(self) -> socket.socket:
        return control.listen(self._path / "admin.sock")

    @property
    def _path(self) -> Path:
        return self.shim.folder.replica(self.order.replica)

    # --- its output

    def readable(self) -> None:
        """Something of it can be read, or it was adopted and is dead."""
        if self._pidfd >= 0 and not self.record.lives:
            self.ended(None)
        if self._memory >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._memory)
                # The kernel tells of it before it has chosen whom to kill.
                self._oom_at_s = time.monotonic() + _OOM_S
                self._plan()
        if not self._dead:
            self._read(time.monotonic())

    def _read(self, now: float) -> int:
        """One block of its output into its log."""
        block = b""
        if self._out >= 0 and self._held_until_s is None:
            with contextlib.suppress(BlockingIOError):
                block = os.read(self._out, _READ_BYTES)
                if not block and not self._dead:
                    self._mute()
        if block:
            self._write(block)
            if not self._dead and (pause_s := self._bucket.take(len(block), now)):
                self._hold(now + pause_s)
        return len(block)

    def _write(self, block: bytes) -> None:
        assert self._log is not None
        try:
            self._log.write(block)
        except OSError as error:
            if not self._unwritten:
                self._unwritten = True
                self.shim.tell({"notice": f"what replica {self.order.replica} writes is lost: {error.strerror}"})

    def _hold(self, until_s: float) -> None:
        """Read no further for a while: the pipe fills, and the writer waits."""
        self._held_until_s = until_s
        self.shim.selector.unregister(self._out)
        self._plan()
        if not self._flooded:
            self._flooded = True
            rate = logs.FLOOD_BYTES_PER_S // 1_000_000
            told = f"replica {self.order.replica} writes more than {rate} MB/s of log and is held back"
            self.shim.tell({"notice": told})

    def _mute(self) -> None:
        """It has closed its output: a pipe that nobody holds would be readable for ever."""
        self.shim.selector.unregister(self._out)
        os.close(self._out)
        self._out = -1

    # --- its end

    def stop(self, grace_s: float) -> None:
        """Tell it to end; when the grace is over it is made to."""
        if self.record.asked or self._dead:
            return
        self._note(asked=True, kill_at_s=time.monotonic() + grace_s)
        self._plan()
        if not self.record.lives:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                if not self.order.main_only:
                    os.killpg(self.record.pid, signal.SIGTERM)
                    return
            except ProcessLookupError:  # it has not made its group yet
                pass
            os.kill(self.record.pid, signal.SIGTERM)

    def kill(self, cause: str) -> None:
        """Make it end, for a reason."""
        if not self._dead:
            self._note(doom=cause)
            self._kill_all()

    def ended(self, status: int | None) -> None:
        """Its main process is dead; None: nobody saw how."""
        if self._dead:
            return
        self._dead, self._status = True, self._witnessed() if status is None else status
        if self._held_until_s is None and self._out >= 0:
            self.shim.selector.unregister(self._out)
        self._held_until_s = None
        if self._pidfd >= 0:
            self.shim.selector.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._settle()

    def passed(self, now: float) -> None:
        """The time that it asked for has come."""
        if self._unsaved:
            self._save()
        if self.record.ended:
            return
        if self._dead:
            self._settle()
            return
        if self._held_until_s is not None and self._held_until_s <= now:
            self._held_until_s = None
            self.shim.selector.register(self._out, selectors.EVENT_READ, self)
        if self._oom_at_s is not None and self._oom_at_s <= now:
            self._oom_at_s = None
            if self._group.oom_kills() > self._oom:
                self._kill_all()
        if self.record.kill_at_s is not None and self.record.kill_at_s <= now:
            self._note(kill_at_s=None, doom=self.record.doom or "did not end in time and was killed")
            self._kill_all()
        self._plan()

    def _plan(self) -> None:
        due = [at for at in (self._held_until_s, self._oom_at_s, self.record.kill_at_s) if at is not None]
        self.due_s = min(due) if due else None

    def _settle(self) -> None:
        """Bury it once nothing of it lives; what it left running is ended with it."""
        if left := self._others():
            self._kill(left)
            self.due_s = time.monotonic() + _SETTLE_S
            return
        while self._read(time.monotonic()):
            pass
        self._bury(*self._told())

    def _told(self) -> tuple[int | None, str]:
        """Exit code and cause, from all that is known."""
        status, said = self._status, self._said()
        if said:
            return spawn.CANNOT_START, said
        code = None if status is None or os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if self._group.oom_kills() > self._oom and (killed or code):
            limit = self.order.limits.memory_bytes
            return code, f"was killed by the kernel: out of memory (limit {_bytes_text(limit)})"
        if self.record.doom and (status is None or os.WIFSIGNALED(status)):
            return code, self.record.doom
        if status is None:
            return None, UNSEEN if self.record.boot == boot() else "was ended by a restart of the machine"
        return code, process.cause_of_death(status, False)

    def _witnessed(self) -> int | None:
        """The wait status that a witness wrote down; None: there was none, or it was killed as well."""
        with contextlib.suppress(OSError, ValueError):
            return int((self._path / spawn.STATUS).read_text())
        return None

    def _said(self) -> str:
        """Why it could not become the program."""
        text = b""
        if self._error >= 0:
            with contextlib.suppress(OSError):
                text = os.read(self._error, 4096)
            os.close(self._error)
            self._error = -1
        return text.decode(errors="replace").strip()

    def _bury(self, code: int | None, cause: str) -> None:
        for descriptor in (self._out, self._error, self._memory):
            if descriptor >= 0:
                with contextlib.suppress(KeyError, ValueError):
                    self.shim.selector.unregister(descriptor)
                os.close(descriptor)
        self._out = self._error = self._memory = -1
        if self._log is not None:
            self._log.close()
        for name in ("out", "admin.sock"):
            (self._path / name).unlink(missing_ok=True)
        self._group.remove()
        tail = tuple(logs.tail(self.shim.folder.logs, self.order.replica, logs.TAIL_LINES))
        self.record = replace(self.record, ended_s=time.time(), code=code, cause=cause, tail=tail, kill_at_s=None)
        self.due_s = None
        self._save()

    def _note(self, **known: object) -> None:
        self.record = replace(self.record, **known)  # type: ignore[arg-type]
        self._save()

    def _save(self) -> None:
        """On the disk, or again in a while where it is full; only then is an end an end."""
        try:
            self.shim.folder.write_record(self.order.replica, self.record)
            self._unsaved = False
        except OSError:
            self._unsaved, self.due_s = True, time.monotonic() + _AGAIN_S
            return
        self.over = self.record.ended
        self.shim.tell({"replica": self.order.replica})

    # --- all of its processes

    def _kill_all(self) -> None:
        self._kill(self._others())
        if self.record.lives:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.record.pid, signal.SIGKILL)

    def _kill(self, pids: list[int]) -> None:
        self._group.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _others(self) -> list[int]:
        """Living processes of this replica beside its main one."""
        found = self._group.pids() if self._limited else marked(f"{self.shim.folder.job}/{self.order.replica}")
        return [pid for pid in found if pid != self.record.pid]


def marked(name: str) -> list[int]:
    """Processes whose environment says that they belong to that replica: where there are no control groups."""
    mark, found = f"TIDE_REPLICA={name}".encode(), []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _bytes_text(size: int | None) -> str:
    if size is None:
        return "of the machine"
    for unit, scale in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size >= scale:
            return f"{size / scale:g}{unit}"
    return f"{size}"
