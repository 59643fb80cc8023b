"""`tide up`, `tide down`, `tide status`: the pool of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking, starting
from springtide.cli.words import as_json
from springtide.spec import home
from springtide.spec.errors import Refused, SpringtideError, Unreachable
from springtide.spec.quantities import duration_text

if TYPE_CHECKING:
    from springtide.pool.client import Client


@click.command(epilog="Example: tide up -d --virtual 4x1cpu,2Gi cuts this machine into four nodes, for a trial.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as the pool answers.")
@click.option("--virtual", metavar="8x1cpu,2Gi", help="Cut this machine into nodes of this size.")
@click.option(
    "--pool", metavar="FILE", help="Nodes, teams and rules; `tide schema --kind pool` says what one may hold."
)
@click.option("--listen", metavar="HOST:PORT", help="Answer there too, to whoever has a token (`tide token new`).")
@click.option("--tls-cert", metavar="FILE", help="Certificate for --listen; a public address needs one.")
@click.option("--tls-key", metavar="FILE", help="Key of the certificate.")
@click.option("--user-per-team", is_flag=True, help="As root: a user id and a private /tmp for each team.")
@click.option("--service", is_flag=True, help="Write a systemd unit for a pool with these options, and start nothing.")
@as_json
def up(detach: bool, service: bool, as_json: bool, **options: Any) -> int:
    """Start the pool of this machine. Without -d it shows what happens; Ctrl-C writes checkpoints and stops all."""
    words = starting.server_words(options)
    if service:
        return _install(words)
    _refuse_a_second()
    server, health = starting.start(words)
    client = asking.pool_here()
    before = max((event["id"] for event in client.events(limit=1)), default=0)
    if as_json:
        asking.say_json({**health, "nodes": client.nodes()})
    else:
        click.echo("\n".join(_greeting(health, client.nodes())))
    return 0 if detach else _shown(server, before)


@click.command(epilog="Example: tide down --keep, where only the server is to be replaced.")
@click.option("--keep", is_flag=True, help="Leave the jobs running; the next `tide up` takes them over.")
@as_json
def down(keep: bool, as_json: bool) -> None:
    """Write checkpoints, stop all jobs and end the pool; the next `tide up` resumes them."""
    client = asking.pool()
    health = client.health()
    pidfd = _pidfd(client, health)
    client.down(keep=keep)
    _wait_for_end(pidfd)
    said = "the jobs go on without it" if keep else "all jobs are stopped, and `tide up` lets them go on"
    if as_json:
        asking.say_json({"pid": health["pid"], "kept": keep})
    else:
        click.echo(f"the pool has ended: {said}")


@click.command(epilog="Example: tide status --json")
@as_json
def status(as_json: bool) -> None:
    """Say how the pool is: its process and address, nodes, jobs by state, and what limits hold."""
    client = asking.pool()
    health, nodes = client.health(), client.nodes()
    states = Counter(row["state"] for row in client.jobs(state="live"))
    if as_json:
        asking.say_json({**health, "nodes": nodes, "jobs": dict(states)})
        return
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none unfinished"
    click.echo("\n".join([*_greeting(health, nodes), _line("jobs", jobs)]))


def _install(words: list[str]) -> int:
    from springtide.cli import unit

    place, enable = unit.install(starting.command(words), home.home())
    click.echo(f"{place} is written; `{enable}` starts the pool now and with the machine")
    return 0


def _refuse_a_second() -> None:
    with suppress(Unreachable):
        health = asking.pool_here().health()
        since = duration_text(_age_s(health))
        raise Refused(f"a pool runs here already (pid {health['pid']}, since {since}); `tide down` ends it")


def _greeting(health: dict[str, Any], nodes: list[dict[str, Any]]) -> list[str]:
    from springtide.cli.nodes import total_text

    teams = (
        "protected from each other, each by a user id of its own"
        if health.get("protected")
        else ("not protected from each other: all jobs run as the same user")
    )
    return [
        _line("pool", f"{health['address']} (pid {health['pid']}, up for {duration_text(_age_s(health))})"),
        _line("nodes", total_text(nodes)),
        *([_line("limits", health["limits"])] if health.get("limits") else []),
        *([_line("note", health["overcommitted"])] if health.get("overcommitted") else []),
        _line("teams", teams),
    ]  # fmt: skip


def _line(what: str, sentence: str) -> str:
    return f"{what:<8}{sentence}"


def _age_s(health: dict[str, Any]) -> float:
    import time

    return max(0.0, time.time() - float(health["since_s"]))


def _pidfd(client: Client, health: dict[str, Any]) -> int | None:
    """Of the server, where it is a process of this machine."""
    from springtide.train import process

    return None if client.address.startswith("http") else process.watch(health["pid"])


def _wait_for_end(pidfd: int | None) -> None:
    if pidfd is None:
        return
    try:
        starting.wait_for_end(pidfd)
    finally:
        os.close(pidfd)


def _shown(server: subprocess.Popen[bytes], before: int) -> int:
    """Events after that one as they come, until the pool ends or Ctrl-C ends it."""
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    signal.signal(signal.SIGHUP, lambda *_: server.terminate())
    try:
        _follow(server, before)
        return _ended(server)
    except KeyboardInterrupt:
        _stop_all(server)
    return 130


def _stop_all(server: subprocess.Popen[bytes]) -> None:
    """Every job stops and the pool ends; another interrupt ends the pool alone."""
    left: list[bool] = []

    def leave(*_: object) -> None:
        left.append(True)
        server.terminate()

    # A handler, since an exception could be lost in whatever is being closed.
    signal.signal(signal.SIGINT, leave)
    click.echo("\nevery job writes a checkpoint and stops; Ctrl-C again leaves those running that still do")
    with suppress(SpringtideError):
        asking.pool_here().down(keep=False)
    server.wait()
    if left:
        click.echo("\nthe pool has ended: what still ran goes on, and `tide up` takes it over")
    else:
        click.echo("the pool has ended: all jobs are stopped, and `tide up` lets them go on")


def _follow(server: subprocess.Popen[bytes], after: int) -> None:
    from springtide.cli.look import event_line

    while server.poll() is None:
        with suppress(SpringtideError):
            for event in asking.pool_here().events(after=after, follow=True):
                after = event["id"]
                click.echo(event_line(event))
        with suppress(subprocess.TimeoutExpired):
            server.wait(1.0)  # a stream that broke begins anew; a server that ended ends this


def _ended(server: subprocess.Popen[bytes]) -> int:
    if server.returncode:
        said = home.home() / "pool" / "start.log"
        raise SpringtideError(f"the pool server ended with exit code {server.returncode}; {said} holds what it said")
    click.echo("the pool has ended")
    return 0
