"""Runs the user's script in a process of the run: `python -m springtide.train.script FOLDER`.

The script and its local modules come from the copy made at the start; the script is told its own path all the same, so
that data beside it are found and a traceback points at the user's file.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from springtide.spec import SpringtideError, UserError
from springtide.train.launched import Launched


def main() -> int:
    """Exit status 0, or 1 or 2 with the reason in `workers/PID.error.json`."""
    launched = Launched.read(Path(sys.argv[1]))
    try:
        _seed(launched.seed)
        _execute(launched)
        return _after(launched)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if code == 0:
            return _after(launched)
        _tell(launched, leaving, f"the script left with exit code {code}")
        return 1
    except BaseException as error:
        _tell(launched, error, _sentence(error))
        return 1


def _execute(launched: Launched) -> None:
    original = Path(launched.script)
    copy = launched.folder / "script"
    sys.argv = [launched.script, *launched.arguments]
    sys.path[0:1] = [str(copy), str(original.parent)]
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(original), __builtins__=__builtins__)
    sys.modules["__main__"] = module
    code = compile((copy / original.name).read_text(), str(original), "exec")
    exec(code, module.__dict__)


def _seed(seed: int | None) -> None:
    """Before the first line. Torch starts from a fixed seed by itself, so it is set only where one was given."""
    import numpy as np

    word = seed or 0
    random.seed(word)
    np.random.seed(word & 0xFFFF_FFFF)
    if seed is not None:
        import torch

        torch.manual_seed(seed)


def _after(launched: Launched) -> int:
    """The script came to its end."""
    run = _run()
    if run is None or not run.was_iterated:
        name = Path(launched.script).name
        what = "makes no train.Run" if run is None else "never iterates its train.Run (for x, y in run: ...)"
        _tell(launched, UserError(), f"{name} {what}; without one there is nothing to train elastically")
        return 2
    run.close()
    sys.stdout.flush()
    sys.stderr.flush()
    return 0


def _run() -> Any:
    loaded = sys.modules.get("springtide.train.run")
    return loaded.active() if loaded else None


def _tell(launched: Launched, error: BaseException, message: str) -> None:
    """Leave word for the supervisor, and the traceback in this worker's log."""
    told = "".join(traceback.format_exception(error)) if not isinstance(error, SpringtideError) else ""
    if told:
        print(told, file=sys.stderr, flush=True)
    run = _run()
    where = run.where() if run is not None and not isinstance(error, UserError) else {}
    code = error.exit_code if isinstance(error, SpringtideError) else 1
    document = {"message": message, "traceback": _trimmed(told), "exit_code": code, **where}
    path = launched.folder / "workers" / f"{os.getpid()}.error.json"
    path.with_suffix(".new").write_text(json.dumps(document))
    path.with_suffix(".new").replace(path)


def _trimmed(told: str) -> str:
    """The user's own frames."""
    lines = told.splitlines()
    return "\n".join(line for line in lines if "springtide/train/script.py" not in line)[-20000:]


def _sentence(error: BaseException) -> str:
    if isinstance(error, SpringtideError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)
    place = next(
        (f"{Path(f.filename).name}:{f.lineno}: " for f in reversed(last) if "springtide" not in f.filename), ""
    )
    text = str(error).strip().splitlines()
    return f"{place}{type(error).__name__}{': ' + text[0] if text else ''}"


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
