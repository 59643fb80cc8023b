"""Starting the pool server: a process of its own that outlives whoever typed `tide up`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from springtide.cli import asking
from springtide.spec import home
from springtide.spec.errors import Refused, SpringtideError, Unreachable, UserError

_PATIENCE_S = 60.0  # for a server that lives and does not answer
_LOOK_S = 0.02
_ERRORS = {2: UserError, 3: Unreachable, 4: Refused}


def server_words(options: dict[str, Any]) -> list[str]:
    """The options of the server as words; what is a file is named from the root, since the server works nowhere."""
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, str(Path(value).absolute()) if name in ("pool", "tls_cert", "tls_key") else str(value)]
    return words


def command(words: list[str]) -> list[str]:
    """The command line of the server. -P: nothing is imported from the folder where it happens to start."""
    return [sys.executable, "-P", "-m", "springtide.pool.server", *words]


def start(words: list[str]) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """The server and its first sign of health. Raises what the server said where it does not start."""
    said = home.home() / "pool" / "start.log"
    try:
        said.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with said.open("wb") as log:
            server = subprocess.Popen(
                command(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env=os.environ | {"TIDE_HOME": str(home.home())},
            )  # fmt: skip
    except OSError as error:
        raise SpringtideError(
            f"{said}: cannot be written ({error.strerror}); set TIDE_HOME to a folder of yours"
        ) from None
    return server, _answering(server, said)


def _answering(server: subprocess.Popen[bytes], said: Path) -> dict[str, Any]:
    client = asking.pool_here()
    for _ in range(int(_PATIENCE_S / _LOOK_S)):
        try:
            server.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise _failure(server.returncode, said)
        try:
            health: dict[str, Any] = client.health()
        except Unreachable:
            continue
        if health["pid"] == server.pid:
            return health
    server.terminate()
    server.wait()
    raise SpringtideError(
        f"the pool did not answer within {_PATIENCE_S:.0f} s and was ended; {said} holds what it said"
    )


def _failure(code: int, said: Path) -> SpringtideError:
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
    sentences = [line.removeprefix("tide: ") for line in lines if line.startswith("tide: ")]
    if sentences:
        at = next(n for n, line in enumerate(lines) if line.startswith("tide: "))
        return _ERRORS.get(code, SpringtideError)("\n".join([sentences[0], *lines[at + 1 :]]))
    last = f": {lines[-1]}" if lines else ""
    return SpringtideError(f"the pool server ended with exit code {code} before it answered{last}; {said} holds all")


def wait_for_end(pidfd: int, timeout_s: float | None = None) -> bool:
    """Until the process is gone; False: the time is over before."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
