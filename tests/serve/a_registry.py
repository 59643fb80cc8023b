"""Registries for tests: a model of one number, its weights in files, and forks that are killed at any instant."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file

from springtide.serve import checking
from springtide.serve.registry import Registry, Version

SCALE = '''
import torch

class Scale(torch.nn.Module):
    """y = scale * x"""

    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(float(scale)))

    def forward(self, x):
        return self.scale * x


def build(scale=1.0):
    return Scale(scale)
'''


def write(folder: Path, **files: str) -> Path:
    """`name="text"` becomes name.py; two underscores are a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__init__', 'INIT').replace('__', '/').replace('INIT', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def weights(path: Path, **tensors: object) -> Path:
    """A .safetensors file; numbers become tensors of no dimension."""
    found = {name.replace("__", "."): torch.as_tensor(value) for name, value in tensors.items()}
    save_file(found, path)
    return path


def scale(registry: Registry, folder: Path, value: float, name: str = "scale", **words: object) -> Version:
    """A version that multiplies by that number."""
    write(folder, scale_model=SCALE)
    file = weights(folder / f"{value}.safetensors", scale=float(value))
    return registry.add(name, file, build="scale_model:build", code_from=folder, **words)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Versions are registered without the process that builds them, where hundreds are."""
    with mock.patch.object(checking, "inputs", lambda folder, recipe: ("x",)):
        yield


def forked(do: Callable[[], object]) -> int:
    """The pid of a fork that does it and ends: 0 if all went well, else what went wrong is on stderr."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        do()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Its wait status."""
    return os.waitpid(pid, 0)[1]


# What changes files: between two of these, nothing that a reader could see happens.
TOUCHES = frozenset(("chmod", "close", "execute", "executemany", "executescript", "fsync", "mkdir", "open", "rename",
                     "replace", "rmdir", "unlink", "write"))  # fmt: skip


def killed_at(count: int, do: Callable[[], object]) -> bool:
    """Does it in a fork that is killed before or after its `count`-th call that touches a file; whether it came so far.

    Odd counts are before a call, even ones after it; so with 1, 2, 3 and so on no instant is left out.
    """

    def until() -> None:
        left = count

        def look(_frame: object, event: str, function: object) -> None:
            nonlocal left
            if event in ("c_call", "c_return") and getattr(function, "__name__", "") in TOUCHES:
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(look)
        try:
            do()
        finally:
            sys.setprofile(None)

    status = ended(forked(until))
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL
