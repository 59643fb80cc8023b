"""The process of a training job: an elastic run, told in plain lines, with its report in the replica's folder.

`python -m springtide.engines.local.training FOLDER`, started by the shim in the copy of what was submitted. The run is
called as its job is, in a home of the job's own (`TIDE_HOME`), so the next attempt goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import Every, Range
from springtide.train import launcher
from springtide.train.arena import WORKERS
from springtide.train.events import Event, plural, sentence
from springtide.train.options import LaunchOptions
from springtide.train.report import Report, write

LAUNCH, REPORT = "launch.json", "report.json"
INTERRUPTED = 130
_STEP_LINE_S = 10.0


def options(told: dict[str, Any]) -> LaunchOptions:
    """Of what the engine wrote down."""
    every = told["every"]
    return LaunchOptions(
        script=Path(told["script"]).absolute(),
        arguments=tuple(told["arguments"]),
        name=told["name"],
        workers=Range(1, WORKERS),
        start=told["start"],
        checkpoint=told["checkpoint"],
        every=Every(**every) if every else None,
        keep=told["keep"],
    )


class Teller:
    """Prints what a person wants to read of a run; steps only now and then."""

    def __init__(self) -> None:
        self.report = Report()
        self._told_s = time.monotonic()

    def __call__(self, event: Event) -> None:
        self.report.add(event)
        match event["event"]:
            case "output":
                print(event["line"], flush=True)
            case "step":
                self._step(event)
            case "end":
                told = f": {event['message']}" if event.get("message") else ""
                print(f"{event['state']} at step {event['step']}{told}", flush=True)
            case _:
                if line := sentence(event):
                    print(line, flush=True)

    def _step(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._told_s >= _STEP_LINE_S:
            self._told_s = now
            loss = "" if event["loss"] is None else f", loss {event['loss']:.4g}"
            print(f"step {event['step']}{loss}, {plural(event['workers'], 'worker')}", flush=True)


def main() -> int:
    """Started by the shim; the exit code is that of `tide run`."""
    # Until the launcher listens to signals itself nothing has begun that would have to be kept.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    folder, tell = Path(sys.argv[1]), Teller()
    try:
        code = launcher.launch(options(json.loads((folder / LAUNCH).read_text())), tell)
        write(tell.report, folder / REPORT)
    except SpringtideError as error:
        print(error, flush=True)
        return error.exit_code
    return code


if __name__ == "__main__":
    raise SystemExit(main())
