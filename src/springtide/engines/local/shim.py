"""The small parent of one job's replicas: it outlives the pool, and is replaced when it dies.

`python -m springtide.engines.local.shim FOLDER DESCRIPTOR`, started by the engine with the listening end of its
control socket. All that it must not forget lies in files (`state`), so it is told little: to look what was ordered, to
stop, to forget, to end. With nothing to do it waits without a timer.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from springtide.engines.local import cgroups, sockets
from springtide.engines.local.body import Body
from springtide.engines.local.limits import Limits
from springtide.engines.local.state import Folder, load, save
from springtide.spec.errors import SpringtideError
from springtide.train import process
from springtide.train.control import Channel, Message
from springtide.train.futex import adopt_orphans

_NOTICES = 50  # kept for an engine that is away


class Shim:
    """See the module."""

    def __init__(self, folder: Folder, listener: socket.socket) -> None:
        about = load(folder.about) or {}
        self.folder, self.service = folder, bool(about.get("service"))
        pool = str(about.get("pool", "pool"))
        self.groups = cgroups.find(pool, folder.path) if about.get("grouped") else cgroups.Groups(pool)
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self.bodies: dict[str, Body] = {}
        self.listeners: dict[int, socket.socket] = {}  # by port
        self._listener = listener
        self._channels: set[Channel] = set()
        self._notices: deque[str] = deque(maxlen=_NOTICES)
        self._statuses: dict[int, int] = {}
        self._ending = self._resting = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Until nothing is left to care for."""
        adopt_orphans()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._listener.setblocking(False)
        self.selector.register(self._listener, selectors.EVENT_READ, "call")
        self.selector.register(self._wake_read, selectors.EVENT_READ, "signal")
        save(self.folder.shim, {"pid": os.getpid(), "started": process.started(os.getpid())})
        self._enter_group()
        self.look()
        while not self._done():
            for key, _ in self.selector.select(self._timeout_s()):
                self._happened(key.data)
            self._pass()
        self._leave()

    def _enter_group(self) -> None:
        """A log flood is paid for by the job that floods."""
        with contextlib.suppress(OSError):
            group = self.groups.group(self.folder.job, "shim")
            group.make(Limits(whole=False))
            group.enter_here()

    def _done(self) -> bool:
        return not self.bodies and (self._ending or self._resting or not self.service)

    def _leave(self) -> None:
        """First nobody can call any more; then, with the process, whoever listens learns that it is over."""
        self.folder.socket.unlink(missing_ok=True)
        self._listener.close()

    def _timeout_s(self) -> float | None:
        due = [body.due_s for body in self.bodies.values() if body.due_s is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _happened(self, what: Any) -> None:
        match what:
            case "call":
                self._accept()
            case "signal":
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            case Channel():
                self._heard(what)
            case Body():
                what.readable()

    def _pass(self) -> None:
        now = time.monotonic()
        for body in list(self.bodies.values()):
            if body.due_s is not None and body.due_s <= now:
                body.passed(now)
            if body.over:
                del self.bodies[body.order.replica]
                self.tell({"replica": body.order.replica})

    def _reap(self) -> None:
        """Take every exit status there is: replicas', and those of orphans that came to us."""
        by_pid = {body.record.pid: body for body in self.bodies.values()}
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid in by_pid:
                    by_pid[pid].ended(status)

    # --- what is to be done

    def look(self) -> None:
        """Start what was ordered and not begun; adopt what another shim began."""
        for order, record in self.folder.records():
            if order.replica not in self.bodies and not record.ended:
                body = Body(self, order, record)
                self.bodies[order.replica] = body
                self._resting = False
                if record.pid:
                    body.adopt()
                else:
                    body.start()
                self.tell({"replica": order.replica})

    def listener(self, port: int) -> socket.socket:
        """The socket of that port: ours, one that a living replica still holds, or a new one. Refused: it is taken."""
        if port not in self.listeners:
            pids = [body.record.pid for body in self.bodies.values() if body.record.lives]
            self.listeners[port] = sockets.take(port, pids) or sockets.bind(port)
        return self.listeners[port]

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection = self._listener.accept()[0]
            connection.setblocking(False)
            channel = Channel(connection)
            self._channels.add(channel)
            self.selector.register(channel, selectors.EVENT_READ, channel)
            self.tell({"all": True})  # what changed before there was anybody to hear it
            while self._notices:
                self.tell({"notice": self._notices.popleft()})

    def _heard(self, channel: Channel) -> None:
        messages = channel.ready() if channel in self._channels else []
        if messages is None:
            self._drop(channel)
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        match message.get("do"):
            case "look":
                self.look()
            case "stop":
                for name in message["replicas"]:
                    if body := self.bodies.get(name):
                        body.stop(float(message["grace_s"]))
            case "kill" if body := self.bodies.get(message["replica"]):
                body.kill(str(message["cause"]))
            case "rest":
                self._resting = True
            case "end":
                self._ending = True
                for body in self.bodies.values():
                    body.kill("was ended with its job")
            case _:
                pass

    def tell(self, message: Message) -> None:
        """To every engine that listens; one that does not read is cut off, and looks at the files when it is back."""
        for channel in list(self._channels):
            try:
                channel.send(message)
            except OSError:
                self._drop(channel)
        if not self._channels and "notice" in message:
            self._notices.append(message["notice"])

    def _drop(self, channel: Channel) -> None:
        if channel in self._channels:
            self._channels.remove(channel)
            self.selector.unregister(channel)
            channel.close()


def main() -> int:
    """Started by the engine."""
    listener = socket.socket(fileno=int(sys.argv[2]))
    try:
        Shim(Folder(Path(sys.argv[1])), listener).run()
    except SpringtideError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
