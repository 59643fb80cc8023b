"""How a replica's process comes to be: forked, held at a gate until its name is on the disk, then made the program."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.engines.local import sockets
from springtide.engines.local.cgroups import Group
from springtide.engines.local.state import Folder, Order

if TYPE_CHECKING:
    from springtide.engines.local.people import Person

LISTEN_FIRST = 3  # systemd's convention: handed sockets begin there
CANNOT_START = 127
WITNESS = "tide-witness"  # what `ps` and `top` call one
STATUS = "status"  # in a replica's folder: how it ended, as its witness saw it
_ERROR, _GATE = 5, 6  # descriptors: by which a child says why it could not become the program, and where it waits
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)
_SPARE = 64  # descriptors are moved up there before they take their places


@dataclass(frozen=True, slots=True)
class Born:
    """A child at its gate."""

    pid: int
    gate: int  # write a byte, and it goes on; close it, and it ends
    error: int  # what it says where it cannot become the program; its end when it has


def fork(order: Order, folder: Folder, group: Group, limited: bool, main: int | None, admin: int | None) -> Born:
    """A child that will be the replica. `limited`: the group limits it, so that rlimits need not."""
    gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    # A signal that comes before the child has let go of its parent's handlers waits until it has.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        _child(order, folder, group if limited else None, (main, admin), gate_read, error_write)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.close(gate_read)
    os.close(error_write)
    os.set_blocking(error_read, False)
    return Born(pid, gate_write, error_read)


def _child(
    order: Order, folder: Folder, group: Group | None, given: tuple[int | None, int | None], gate: int, said: int
) -> None:
    """Never returns."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        names = _place(given, said, gate)
        if os.read(_GATE, 1):
            if order.witnessed:
                _witness(folder.replica(order.replica) / STATUS)
            _become(order, folder, group, names)
    except BaseException as error:
        for descriptor in (_ERROR, 2):
            with contextlib.suppress(OSError):
                os.write(descriptor, f"{_sentence(order, error)}\n".encode())
    finally:
        os._exit(CANNOT_START)


def _witness(told: Path) -> None:
    """Returns in a child; this process stays to write down how that ends, whoever reads it then, and ends the same way.

    An exit status is told to a parent alone, and a parent may be killed: work that is done must not be done again.
    """
    pid = os.fork()
    if pid == 0:
        return
    Path("/proc/self/comm").write_text(WITNESS)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # they are for the program, which got them too
        signal.signal(number, signal.SIG_IGN)
    os.closerange(LISTEN_FIRST, _GATE + 1)
    _, status = os.waitpid(pid, 0)
    aside = told.with_name(f".{told.name}")
    written = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(written, str(status).encode())
    os.fsync(written)
    aside.replace(told)
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        if killer != signal.SIGKILL:
            signal.signal(killer, signal.SIG_DFL)
        os.kill(os.getpid(), killer)
    os._exit(os.waitstatus_to_exitcode(status))


def _become(order: Order, folder: Folder, group: Group | None, names: list[str]) -> None:
    out = os.open(folder.replica(order.replica) / "out", os.O_RDWR)  # both ends: no death of a reader breaks it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if group is not None:
        group.enter_here()
    else:
        order.limits.apply_here()
    cwd = _prepare(order, folder)
    environment = dict(order.environment)
    if names:
        environment.update(LISTEN_FDS=str(len(names)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join(names))
    os.umask(0o022)
    if os.getuid() != 0:
        sockets.let_siblings_take()
    if order.person is not None:
        person(order.person).become((folder.path,))
    os.chdir(cwd)
    os.execvpe(order.argv[0], list(order.argv), environment)


def person(told: Mapping[str, Any]) -> Person:
    """As written down in an order."""
    from springtide.engines.local.people import Person  # not needed by most, and a shim is to stay small

    return Person(int(told["uid"]), int(told["gid"]), Path(told["home"]), Path(told["tmp"]))


def _prepare(order: Order, folder: Folder) -> Path:
    """Its working folder, one for all replicas of a revision, and its scratch. Done here, so that a large folder is
    copied at the job's own cost.
    """
    import shutil

    scratch, work = folder.scratch(order.replica), folder.work(order.revision)
    scratch.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not work.exists():  # under a lock, so that one copies and the others wait
        aside = work.with_name(f".{work.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if order.source is None:
            aside.mkdir()
        else:
            shutil.copytree(order.source, aside, symlinks=True)
        _give(aside, order.person)
        aside.rename(work)
    os.close(lock)
    _give(scratch, order.person)
    return work


def _give(folder: Path, told: Mapping[str, Any] | None) -> None:
    if told is not None:
        person(told).own(folder)


def _place(given: tuple[int | None, int | None], said: int, gate: int) -> list[str]:
    """Put the handed sockets where the program looks for them, and close all else. Returns their names."""
    names = [name for name, descriptor in zip(("main", "admin"), given, strict=True) if descriptor is not None]
    raised = [
        fcntl.fcntl(descriptor, fcntl.F_DUPFD, _SPARE) for descriptor in (said, gate, *given) if descriptor is not None
    ]
    for place, descriptor in zip((_ERROR, _GATE), raised[:2], strict=True):
        os.dup2(descriptor, place, inheritable=False)
    for place, descriptor in enumerate(raised[2:], LISTEN_FIRST):
        os.dup2(descriptor, place)
    os.closerange(LISTEN_FIRST + len(names), _ERROR)
    os.closerange(_GATE + 1, max(int(entry.name) for entry in os.scandir("/proc/self/fd")) + 1)
    return names


def _sentence(order: Order, error: BaseException) -> str:
    program = order.argv[0] if order.argv else "nothing"
    match error:
        case FileNotFoundError() if "/" not in program:
            return f"cannot be started: no program '{program}' is in the PATH; write the path of one that is there"
        case FileNotFoundError():
            return f"cannot be started: there is no {error.filename or program}"
        case PermissionError():
            return f"cannot be started: {error.filename or program} may not be run or read by this user"
        case OSError():
            return f"cannot be started: {error.filename or program}: {error.strerror}"
        case _:
            return f"cannot be started: {type(error).__name__}: {error}"
