"""What users corrected becomes what is trained on: `python -m springtide.serve.prepare FOLDER`, a stream job of a loop.

Feedback is joined to its request by id; every tenth id, by hash, goes to the held-out stream and never to training.
Each pair comes out exactly once, whatever is killed (`data/streams/processing`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from springtide.data.streams.join import Join
from springtide.data.streams.processing import process
from springtide.serve.loop.holdout import held_out
from springtide.serve.loop.places import Places
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.files import job_file_from_text
from springtide.spec.quantities import nearest

TRAINING, HELD_OUT = "training", "held-out"
WITHIN_RECORDS = 50_000  # between a request and its correction
_SAID = 10  # complaints about single records that are printed
Entry = Mapping[str, Any]
Hook = Callable[[dict[str, Any]], dict[str, Any] | None]


def joined(request: Entry, feedback: Entry) -> dict[str, Any]:
    """A request with its correction, as a `prepare` function is given it."""
    return {
        "id": request["id"], "input": request.get("input"), "output": request.get("output"),
        "correct": feedback.get("correct"), "version": request.get("version"), "time": feedback.get("time"),
    }  # fmt: skip


@dataclass(slots=True)
class Preparing:
    """Makes of a pair the record for training, or the one that is held out. `hook` is the user's function."""

    hook: Hook | None = None
    complaints: list[str] = field(default_factory=list)

    def __call__(self, request: Entry, feedback: Entry) -> tuple[str, dict[str, Any]] | None:
        """The sink's name and the record; None: the user's function drops it, or fails on it."""
        pair = joined(request, feedback)
        try:
            made = self.hook(dict(pair)) if self.hook else {name: pair[name] for name in ("id", "input", "correct")}
        except Exception as error:
            self._complain(f"{pair['id']}: prepare failed: {type(error).__name__}: {error}")
            return None
        if made is None:
            return None
        if not isinstance(made, dict):
            self._complain(f"{pair['id']}: prepare returned {type(made).__name__}; return a dict, or None to drop it")
            return None
        return (HELD_OUT, pair | made) if held_out(str(pair["id"])) else (TRAINING, made)

    def _complain(self, sentence: str) -> None:
        self.complaints.append(sentence)
        if len(self.complaints) <= _SAID:
            print(sentence, flush=True)
        del self.complaints[_SAID + 1 :]


def hook(named: str | None, folder: Path) -> Hook | None:
    """The user's function of `module:function`, from the job's folder. UserError: there is none."""
    if named is None:
        return None
    name, _, function = named.partition(":")
    sys.path.append(str(folder))
    try:
        module: Any = importlib.import_module(name)
    except Exception as error:
        raise UserError(f"prepare: {name} cannot be imported: {type(error).__name__}: {error}") from None
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"prepare: {name} has no function {function}{nearest(function, dir(module))}")
    made: Hook = found
    return made


def main() -> int:
    """Started by the pool; ends when the source is sealed."""
    if len(sys.argv) != 2:
        raise UserError("FOLDER is missing; write python -m springtide.serve.prepare FOLDER")
    there = Places(Path(sys.argv[1]))
    loop = job_file_from_text(there.file.read_text(), str(there.file)).loops[0]
    source, sinks = there.requests(loop), {TRAINING: there.training, HELD_OUT: there.held_out}
    make = Join(Preparing(hook(loop.prepare, Path.cwd())), within_records=WITHIN_RECORDS)
    print(f"joining feedback of {source} to its requests", flush=True)
    process(source, sinks, make, name=f"{loop.name}-prepare", on_bad="skip", expired="skip")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except SpringtideError as error:
        print(error, flush=True)
        raise SystemExit(error.exit_code) from None
