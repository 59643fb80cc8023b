"""What `tide doctor` looks at: each check asks the machine itself, and says what its lack would mean."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from springtide.engines.local.cgroups import reachable
from springtide.engines.local.hierarchies import CONTROLLERS
from springtide.spec.home import home
from springtide.spec.quantities import bytes_text
from springtide.train import hardware

_MADV_POPULATE_WRITE = 23
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAKE = 1


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `lacks`: something is missing that few need; `fails`: `tide run` cannot work without it."""

    name: str
    state: Literal["ok", "lacks", "fails"]
    found: str
    means: str = ""


def every_check() -> list[Check]:
    """All of them, in the order in which they are read."""
    return [
        _cores(), _memory(), _python(), _torch(), _gpu(), _architecture(), *_kernel(),
        _cgroups(), _home(), _java(), _go(),
    ]  # fmt: skip


def _cores() -> Check:
    count = hardware.cores()
    if count > 1:
        return Check("cores", "ok", f"{count} of {hardware.cpu()}")
    means = "a second worker protects from losses but does not train faster"
    return Check("cores", "lacks", f"1 of {hardware.cpu()}", means)


def _memory() -> Check:
    total, free = hardware.memory_bytes(), hardware.free_memory_bytes()
    found = f"{bytes_text(total)}, {bytes_text(free)} of it free"
    if free >= 2e9:
        return Check("memory", "ok", found)
    return Check("memory", "lacks", found, "a worker needs about 150 MB beside the model, and torch alone 400 MB")


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    means = "" if good else "Springtide needs 3.11 or newer"
    return Check("python", "ok" if good else "fails", platform.python_version(), means)


def _torch() -> Check:
    version = hardware.torch_version()
    if version is None:
        return Check("torch", "fails", "not installed", "nothing can be trained; `pip install torch` brings it")
    good = tuple(map(int, re.findall(r"\d+", version)[:2])) >= (2, 6)
    return Check("torch", "ok" if good else "fails", version, "" if good else "Springtide needs 2.6 or newer")


def _gpu() -> Check:
    names = hardware.gpus()
    if names:
        return Check("gpu", "ok", ", ".join(names))
    return Check("gpu", "lacks", "none (no NVIDIA driver)", 'training uses the cores; device="cuda" is refused here')


def _architecture() -> Check:
    machine = platform.machine()
    good = platform.system() == "Linux" and machine in _FUTEX
    means = "" if good else "workers wait for each other by futex, known here for Linux on x86_64 and aarch64"
    return Check("system", "ok" if good else "fails", f"{platform.system()} {platform.release()}, {machine}", means)


def _kernel() -> list[Check]:
    asked: list[tuple[str, Callable[[], object], Literal["lacks", "fails"], str]] = [
        (
            "pidfd",
            _pidfd,
            "fails",
            "the death of a worker cannot be learnt from the kernel (Linux 5.3 or newer has it)",
        ),
        ("memfd", _memfd, "fails", "there is no memory that outlives a worker and leaves nothing behind"),
        ("futex", _futex, "fails", "workers cannot wait for each other without burning their cores"),
        (
            "populate",
            _populate,
            "lacks",
            "the first steps after a checkpoint begins are slower (MADV_POPULATE_WRITE: Linux 5.14 or newer)",
        ),
    ]
    checks = []
    for name, ask, without, means in asked:
        try:
            ask()
        except (OSError, AttributeError, KeyError) as error:
            checks.append(Check(name, without, f"missing ({getattr(error, 'strerror', None) or error})", means))
        else:
            checks.append(Check(name, "ok", "works"))
    return checks


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _memfd() -> None:
    memory = os.memfd_create("tide-doctor")
    try:
        os.posix_fallocate(memory, 0, mmap.PAGESIZE)
    finally:
        os.close(memory)


def _futex() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    word = ctypes.c_uint32(0)
    if libc.syscall(_FUTEX[platform.machine()], ctypes.byref(word), _FUTEX_WAKE, 1, None, None, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _populate() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page.madvise(_MADV_POPULATE_WRITE)


def _cgroups() -> Check:
    where = reachable()
    limited = [name for name in CONTROLLERS if name in where.offered]
    if not limited:
        why = next(iter(where.why_not.values()), "no control groups are mounted")
        return Check("cgroups", "lacks", f"none to be had ({why})", "one job's use of memory or cores can harm others")
    found = f"v{where.version}, writable: {', '.join(limited)}"
    missing = [name for name in CONTROLLERS if name not in where.offered]
    if not missing:
        return Check("cgroups", "ok", found)
    return Check("cgroups", "lacks", found, f"jobs of a pool are not limited in {', '.join(missing)}")


def _home() -> Check:
    folder = home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Check(
            "home", "fails", f"{folder} may not be written", "runs have no place; set TIDE_HOME to another folder"
        )
    free = shutil.disk_usage(existing).free
    state: Literal["ok", "lacks"] = "ok" if free > 1e9 else "lacks"
    means = "" if free > 1e9 else "checkpoints may not fit; set TIDE_HOME, or write them elsewhere by --checkpoint"
    return Check("home", state, f"{folder}, {bytes_text(free)} free", means)


def _java() -> Check:
    lack = "Kafka and HDFS cannot be started for the cluster tests; everything else works"
    return _tool("java", ["java", "-version"], lack)


def _go() -> Check:
    return _tool("go", ["go", "version"], "Kubernetes cannot be built for the cluster tests; everything else works")


def _tool(name: str, command: list[str], lack: str) -> Check:
    found = shutil.which(command[0])
    if not found:
        return Check(name, "lacks", "not installed", lack)
    try:
        done = subprocess.run([found, *command[1:]], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return Check(name, "lacks", f"{found} does not answer", lack)
    said = (done.stdout + done.stderr).strip().splitlines() or ["installed"]
    return Check(name, "ok", said[0].removeprefix("go version "))
