"""What a script run by `python` itself prints for a user's mistake: where, one sentence, and its exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from springtide.spec import SpringtideError

_HERE = str(Path(__file__).parent.parent)


def install() -> None:
    """From here on, errors that are sentences are printed as such; every other keeps its traceback."""
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, SpringtideError):
            before(kind, error, trace)
            return
        print(f"{place(trace)}{error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code)

    sys.excepthook = show


def place(trace: TracebackType | None) -> str:
    """The line of the user's own that led to it, as `train.py:12: `."""
    for frame in reversed(traceback.extract_tb(trace)):
        if not frame.filename.startswith(_HERE) and Path(frame.filename).is_file():
            return f"{Path(frame.filename).name}:{frame.lineno}: "
    return ""
