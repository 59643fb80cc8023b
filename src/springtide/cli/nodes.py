"""`tide node`: the nodes of the pool, what they hold, and whether new replicas may go there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from springtide.cli import asking, table
from springtide.cli.amounts_text import amount, amount_text
from springtide.cli.completion import node_names
from springtide.cli.words import Words, as_json
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

_RESOURCES = ("cpu", "memory", "gpu")


@click.group(cls=Words, epilog="Example: tide node drain node-2")
def node() -> None:
    """List the nodes of the pool, empty one for repair, and take it back."""


@node.command("list", epilog="Example: tide node list --json")
@as_json
def list_nodes(as_json: bool) -> None:
    """List nodes: what each has, what is held, and by whom."""
    nodes = asking.pool().nodes()
    if as_json:
        asking.say_json(nodes)
    else:
        headers = ("name", "state", *_RESOURCES, "labels", "replicas")
        table.show(headers, [_cells(one) for one in nodes], frozenset(_RESOURCES))


@node.command(epilog="Example: tide node drain node-2; training moves at once, services as others stand in for them.")
@click.argument("name", metavar="NODE", shell_complete=node_names)
@as_json
def drain(name: str, as_json: bool) -> None:
    """Move what runs on NODE elsewhere, and start nothing there."""
    client = asking.pool()
    answer = client.drain(_known(name, client.nodes()))
    _say(answer, f"{answer['name']}: is being emptied; `tide node list` shows what is still there", as_json)


@node.command(epilog="Example: tide node undrain node-2")
@click.argument("name", metavar="NODE", shell_complete=node_names)
@as_json
def undrain(name: str, as_json: bool) -> None:
    """Let replicas go to NODE again."""
    client = asking.pool()
    answer = client.undrain(_known(name, client.nodes()))
    _say(answer, f"{answer['name']}: takes replicas again", as_json)


def total_text(nodes: Sequence[dict[str, Any]]) -> str:
    """`4, of which 1 is drained: 3 of 4 cores, 5Gi of 8Gi of memory held`."""
    drained = sum(bool(one.get("drained")) for one in nodes)
    parts = []
    for name, noun in (("cpu", "cores"), ("gpu", "GPUs"), ("memory", "memory")):
        held, has = (
            sum(amount(name, (one.get(key) or {}).get(name, 0)) for one in nodes) for key in ("held", "resources")
        )
        if has:
            parts.append(f"{amount_text(name, held)} of {amount_text(name, has)} {noun}")
    out = f", of which {drained} drained" if drained else ""
    return f"{len(nodes)}{out}" + (f": {', '.join(parts)} held" if parts else "")


def _known(name: str, nodes: list[dict[str, Any]]) -> str:
    names = [one["name"] for one in nodes]
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names[:8])}"
        raise UserError(f'no node is called "{name}"{hint}')
    return name


def _say(answer: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        asking.say_json(answer)
    else:
        click.echo(sentence)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    held, has = one.get("held") or {}, one.get("resources") or {}
    jobs: dict[str, int] = {}
    for replica in one.get("replicas") or []:
        jobs[replica["job"]] = jobs.get(replica["job"], 0) + 1
    return (
        one["name"],
        "drained" if one.get("drained") and not jobs else "draining" if one.get("drained") else "open",
        *(_of(name, held.get(name), has.get(name)) for name in _RESOURCES),
        " ".join(f"{key}={value}" for key, value in (one.get("labels") or {}).items()) or "-",
        ", ".join(f"{job} x{count}" if count > 1 else job for job, count in sorted(jobs.items())) or "-",
    )


def _of(name: str, held: Any, has: Any) -> str:
    return "-" if not has else f"{amount_text(name, held or 0)} of {amount_text(name, has)}"
