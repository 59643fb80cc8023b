"""Before a launch: the run's folder, the copy of the script, and the checkpoint to go on from."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from springtide.spec import Refused, SpringtideError, UserError, home
from springtide.spec.quantities import Every
from springtide.train import arena as arenas
from springtide.train import checkpoint, copying, process, runs
from springtide.train.launched import Launched
from springtide.train.options import LaunchOptions

DEFAULT_EVERY = Every(seconds=60.0)
DEFAULT_KEEP = 3
_ENDING_SECONDS = 30.0


def prepare(options: LaunchOptions) -> tuple[Launched, list[str]]:
    """The launch, written down in the run's folder, with the arena's descriptor made; and warnings to pass on.

    UserError and Refused are raised before anything of an earlier run was touched.
    """
    with _one_at_a_time():
        return _prepared(options)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Of two that want the same name at the same moment, the second finds the run of the first alive."""
    home.runs().mkdir(parents=True, exist_ok=True)
    lock = os.open(home.runs(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _prepared(options: LaunchOptions) -> tuple[Launched, list[str]]:
    script = Path(options.script)
    if not script.is_file():
        raise UserError(f"{script}: there is no such script" if not script.exists() else f"{script} is no file")
    folder = runs.folder(options.name)
    previous = _previous(folder)
    _clean_sockets()
    root = options.checkpoint or str(folder / "checkpoints")
    warnings: list[str] = []
    resume, run_id = (None, None) if options.fresh else _resumable(root, options, previous, warnings)
    if resume is None:
        _put_aside(folder)
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # output, checkpoints and the control socket are the user's own
    for stale in [
        folder / "nursery.json",
        folder / "shape.json",
        folder / "events.jsonl",
        folder / "result.json",
        *(folder / "workers").iterdir(),
    ]:
        stale.unlink(missing_ok=True)
    if warning := copying.copy_script(script, folder / "script"):
        warnings.append(warning)
    if resume is not None:
        warnings.append(f"going on from {resume}; --fresh would start anew")
    launched = Launched(
        folder=folder, name=options.name, run_id=run_id or secrets.token_hex(6), state="running", launcher=os.getpid(),
        launcher_started=process.started(os.getpid()), arena=arenas.create(), python=sys.executable,
        script=str(script.resolve()), arguments=tuple(options.arguments), minimum=options.workers.minimum,
        maximum=options.workers.maximum, start=options.start or options.workers.maximum, checkpoint=root,
        every=options.every or DEFAULT_EVERY, keep=options.keep or DEFAULT_KEEP, resume=resume, seed=options.seed,
        sample=options.sample, threads=options.threads, began=time.time(),
    )  # fmt: skip
    launched.write()
    return launched, warnings


def _previous(folder: Path) -> Launched | None:
    """The run that had the name before; Refused while it lives."""
    try:
        launched = Launched.read(folder)
    except (OSError, ValueError, TypeError):
        return None
    if runs.living(launched):
        raise Refused(
            f"a run named '{launched.name}' is alive (tide run, pid {launched.launcher}): "
            f"`tide stop {launched.name}` ends it, --name gives this one another name"
        )
    for kept in ("supervisor.json", "nursery.json"):
        _let_end(folder / kept)
    return launched


def _clean_sockets() -> None:
    """A `tide run` that was killed could not remove its socket; nobody listens there."""
    for socket in home.runs().glob("*/control.sock"):
        with suppress(OSError, ValueError, TypeError):
            if not runs.living(Launched.read(socket.parent)):
                socket.unlink()


def _let_end(kept: Path) -> None:
    """A process whose `tide run` was killed ends by itself; give it the time, then kill it."""
    try:
        found = json.loads(kept.read_text())
        if not process.alive(found["pid"], found["started"]):
            return
    except (OSError, ValueError, KeyError):
        return
    pidfd = process.watch(found["pid"])
    if pidfd is not None:
        ready, _, _ = select.select([pidfd], [], [], _ENDING_SECONDS)
        if not ready:
            process.kill(pidfd)
        os.close(pidfd)


def _resumable(
    root: str, options: LaunchOptions, previous: Launched | None, warnings: list[str]
) -> tuple[str | None, str | None]:
    """(path of the checkpoint to go on from, run id): of an interrupted run of that name, never of a finished one."""
    if previous is not None and previous.state == "done":
        return None, None
    try:
        if previous is not None:
            found, damaged = checkpoint.latest(root, run_id=previous.run_id)
        elif options.checkpoint:
            found, damaged = checkpoint.latest(root, name=options.name)
        else:
            return None, None
    except SpringtideError as error:
        raise UserError(f"--checkpoint {root}: {error}") from None
    warnings += damaged
    if found is None or found.manifest is None or found.manifest.finished:
        return None, None
    return found.path, found.manifest.run_id


def _put_aside(folder: Path) -> None:
    """A new run of a name: what the last one left is kept beside it, once."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.previous")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
