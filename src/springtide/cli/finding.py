"""What a name on the command line means: a job of the pool or a run of this machine, shortened where that is unique."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from springtide.cli import asking
from springtide.spec import home
from springtide.spec.errors import Refused, SpringtideError, Unreachable, UserError
from springtide.spec.quantities import nearest

if TYPE_CHECKING:
    from springtide.pool.client import Client

Where = Literal["pool", "local"]
_OVER = ("done", "failed", "cancelled", "stopped", "interrupted")
_MOST_SAID = 5
_OVER_KNOWN = 100  # jobs that are over, whose names may be shortened too


@dataclass(frozen=True, slots=True)
class Target:
    """What a word stands for. `key` is what the pool or the folder of runs knows it by."""

    where: Where
    name: str
    key: str
    over: bool = False


def find(word: str, client: Client | None, *, local: bool = True) -> Target:
    """The job or run that `word` names, `pool/NAME` or `local/NAME` where both have one of that name.

    UserError: there is none, or several begin so. Refused: the pool and this machine both have it.
    """
    where, name = _divided(word)
    runs = _local_runs() if local and where != "pool" else []
    exact = [target for target in runs if target.name == name]
    if client is not None and where != "local":
        try:
            exact += _exact_job(client, name)
        except Unreachable:
            if not exact:  # a run of this machine needs no pool
                raise
    if exact:
        return _one_of_both(word, exact)
    return meant(word, name, [*runs, *(_jobs(client) if client is not None and where != "local" else ())])


def meant(word: str, name: str, known: Sequence[Target]) -> Target:
    """The only one of `known` whose name begins with `name`; those that are over only where no other does."""
    beginning = {target.name: target for target in known if target.name.startswith(name)}
    living = {name: target for name, target in beginning.items() if not target.over}
    found = living or beginning
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f'"{word}" is the beginning of {_said(found)}; write more of it')
    names = {target.name for target in known}
    hint = nearest(name, names) or (f"; known: {_said(names)}" if names else "; there is none yet")
    raise UserError(f'no job or run is called "{word}"{hint}')


def _divided(word: str) -> tuple[Where | None, str]:
    where, slash, name = word.partition("/")
    if not slash:
        return None, word
    if where == "pool" or where == "local":
        return ("pool" if where == "pool" else "local"), name
    raise UserError(f'"{word}" names no job; write a name, or local/{name} or pool/{name} where both have one')


def _one_of_both(word: str, exact: Sequence[Target]) -> Target:
    living = [target for target in exact if not target.over]
    if len(living) > 1:
        raise Refused(f'"{word}" is a job of the pool and a run of this machine; write pool/{word} or local/{word}')
    return (living or sorted(exact, key=lambda target: target.where != "pool"))[0]


def _exact_job(client: Client, name: str) -> list[Target]:
    try:
        row = client.job(name)
    except UserError:
        return []
    return [_job(row)]


def _jobs(client: Client) -> Iterable[Target]:
    return map(_job, asking.recent(client, most_over=_OVER_KNOWN))


def _job(row: asking.Row) -> Target:
    return Target("pool", row["name"], row["id"], row["state"] in _OVER)


def _local_runs() -> list[Target]:
    if not home.runs().is_dir():
        return []
    from springtide.train import runs

    return [Target("local", row["name"], row["name"], row["state"] in _OVER) for row in runs.listing()]


def in_pool(word: str, client: Client) -> str:
    """What the pool knows the job by that `word` names."""
    return find(word, client, local=False).key


def everywhere(words: Iterable[str]) -> tuple[Client | None, list[Target]]:
    """What the words name, in the pool if there is one and on this machine; all of them or UserError."""
    client = asking.pool() if asking.has_pool() else None
    try:
        return client, [find(word, client) for word in words]
    except UserError:
        if client is None and not _local_runs():
            raise _no_pool() from None
        raise


def _no_pool() -> SpringtideError:
    return Unreachable("no pool answers here and no run is known; `tide up` starts a pool, `tide run` a run")


def _said(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _MOST_SAID} more" if len(known) > _MOST_SAID else ""
    return ", ".join(known[:_MOST_SAID]) + more
