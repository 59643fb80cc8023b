"""`tide model canary` and `tide model shadow`: a version that is tried out beside the one in production."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from springtide.spec import amounts
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from springtide.serve.registry import Registry
    from springtide.serve.server.rollout import Rollout

_OFF = "off"


@click.command(epilog="Example: tide model canary digits 4 10%, and later tide model canary digits off")
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION|off")
@click.argument("share", metavar="[SHARE]", required=False)
def canary(name: str, version: str, share: str | None) -> None:
    """Let VERSION answer a SHARE of the requests to NAME: 10%. The same key of a request meets the same version."""
    from springtide.serve.registry import Registry
    from springtide.serve.server import rollout

    registry = Registry.open()
    number = _number(registry, name, version)
    if number is not None and share is None:
        raise UserError("SHARE is missing; write the share of the requests that it answers, for example 10%")
    part = amounts.share(share, "SHARE", most=1.0) if share is not None and number is not None else 0.0
    told = _changed(registry, name, replace(rollout.read(registry.root, name), canary=number, share=part))
    if number is None:
        click.echo(f"{name}: production answers all requests; {told}")
    else:
        click.echo(f"{name}: version {number} answers {100 * part:g}% of the requests; {told}")


@click.command(epilog="Example: tide model shadow digits 4, and later tide model shadow digits off")
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION|off")
def shadow(name: str, version: str) -> None:
    """Let VERSION compute what NAME is asked, unseen: its answers are compared and counted (tide_shadow_total)."""
    from springtide.serve.registry import Registry
    from springtide.serve.server import rollout

    registry = Registry.open()
    number = _number(registry, name, version)
    told = _changed(registry, name, replace(rollout.read(registry.root, name), shadow=number))
    click.echo(f"{name}: {'no version' if number is None else f'version {number}'} is a shadow; {told}")


def _number(registry: Registry, name: str, version: str) -> int | None:
    if version == _OFF:
        registry.versions(name)  # or there is no such model
        return None
    return registry.version(name, version).number


def _changed(registry: Registry, name: str, wanted: Rollout) -> str:
    """Write it down, and have each server look. SpringtideError: one cannot follow."""
    from springtide.serve.server import rollout

    rollout.write(registry.root, name, wanted)
    told = rollout.tell(registry, name)
    return f"{told} {'server follows' if told == 1 else 'servers follow'}"
