"""`tide version`: what to put into a report of a fault."""

from __future__ import annotations

import platform

import click

from springtide import __version__


@click.command()
def version() -> None:
    """Print the versions of Springtide, Python and torch."""
    from springtide.train.hardware import torch_version

    torch = torch_version()
    click.echo(
        f"springtide {__version__}, Python {platform.python_version()}, {f'torch {torch}' if torch else 'no torch'}"
    )
