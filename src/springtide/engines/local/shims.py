"""Calling the shim of a job, and putting another in the place of one that is gone."""

from __future__ import annotations

import os
import select
import subprocess
import sys

from springtide.engines.local.orders import environment
from springtide.engines.local.state import Folder, load
from springtide.train import control, process
from springtide.train.control import Channel

_ENDING_S = 1.0


def call(folder: Folder) -> Channel | None:
    """A channel to the shim; None: there is none."""
    try:
        return control.connect(folder.socket, 0.0)
    except OSError:
        return None


def name(folder: Folder) -> tuple[int, int] | None:
    """Pid and start time of the living shim."""
    told = load(folder.shim)
    if told is None or not process.alive(told["pid"], told["started"]):
        return None
    return int(told["pid"]), int(told["started"])


def end(shim: tuple[int, int] | None) -> None:
    """Wait until a shim that is ending has ended, and is in no control group any more."""
    if shim is not None and process.alive(*shim) and (pidfd := process.watch(shim[0])) is not None:
        select.select([pidfd], [], [], _ENDING_S)
        os.close(pidfd)


def spawn(folder: Folder) -> subprocess.Popen[bytes]:
    """A new shim. One that lives and cannot be called is killed before: there is never a second."""
    if (living := name(folder)) is not None and (pidfd := process.watch(living[0])) is not None:
        process.kill(pidfd)
        os.close(pidfd)
    listener = control.listen(folder.socket)
    with listener, (folder.path / "shim.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "springtide.engines.local.shim", str(folder.path), str(listener.fileno())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=environment(),
            pass_fds=[listener.fileno()],
        )  # fmt: skip
