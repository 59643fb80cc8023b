"""Whether a new version builds, tried in a process of its own that can reach nothing of the caller's but its copy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from springtide.serve.registry.folder import Recipe
from springtide.spec.errors import SpringtideError, UserError
from springtide.train import futex, process

_LONGEST_S = 900.0


def inputs(folder: Path, recipe: Recipe) -> tuple[str, ...]:
    """The input names of what is built there. UserError: it does not build, or the weights do not fit it."""
    answer = ask("springtide.serve.checking", {"folder": str(folder), "recipe": msgspec.to_builtins(recipe)})
    return tuple(str(name) for name in answer["inputs"])


def ask(module: str, order: dict[str, Any], longest_s: float = _LONGEST_S) -> dict[str, Any]:
    """What that module answers to an order, in a process that dies with this thread. UserError: its one sentence."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    child = subprocess.Popen(
        # -P: no folder of the caller's is searched for modules; -B: nothing is written beside any.
        [sys.executable, "-P", "-B", "-m", module, str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    try:
        said, complained = child.communicate(json.dumps(order), timeout=longest_s)
    except subprocess.TimeoutExpired:
        raise UserError(f"the model is not built after {longest_s:g} s, and was given up") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    try:
        answer = json.loads(said)
    except ValueError:
        cause = process.cause_of_death(_wait_status(child.returncode), out_of_memory=False)
        last = next(iter(complained.strip().splitlines()[-1:]), "")
        raise SpringtideError(f"the process that builds the model {cause}{f': {last}' if last else ''}") from None
    if "error" in answer:
        raise UserError(str(answer["error"]))
    return dict(answer)


def _wait_status(code: int) -> int:
    return -code if code < 0 else code << 8


def serve(answer: Any) -> int:
    """The other side: reads the order, answers it with `answer(order)`; what user code prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    futex.die_with_parent()
    if os.getppid() != int(sys.argv[1]):  # it was dead before
        return 1
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        said = answer(json.load(sys.stdin))
    except SpringtideError as error:
        said = {"error": str(error)}
    out.write(json.dumps(said))
    out.flush()
    return 0


def _checked(order: dict[str, Any]) -> dict[str, Any]:
    from springtide.serve import build

    recipe = msgspec.convert(order["recipe"], Recipe)
    return {"inputs": build.inputs_of(build.module_in(Path(order["folder"]), recipe, "the model"))}


if __name__ == "__main__":
    raise SystemExit(serve(_checked))
