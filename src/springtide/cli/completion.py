"""`tide completion`: the lines that teach a shell tide's words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from springtide.spec.errors import UserError

_SHELLS = ("bash", "zsh", "fish")
_WHERE = {
    "bash": "tide completion bash > ~/.local/share/bash-completion/completions/tide",
    "zsh": "tide completion zsh > a folder of $fpath, as _tide",
    "fish": "tide completion fish > ~/.config/fish/completions/tide.fish",
}


@click.command(epilog="To keep it: " + _WHERE["bash"])
@click.argument("shell", required=False, shell_complete=lambda *_: list(_SHELLS))
def completion(shell: str | None) -> None:
    """Print what makes SHELL (bash, zsh or fish; default: yours) complete tide's words."""
    from click.shell_completion import get_completion_class

    from springtide.cli.commands import tide

    shell = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(shell) if shell in _SHELLS else None
    if found is None:
        raise UserError(f'SHELL: "{shell}" cannot complete words; write tide completion bash, zsh or fish')
    click.echo(found(tide, {}, "tide", "_TIDE_COMPLETE").source())


def run_names(_ctx: Any, _parameter: Any, incomplete: str) -> list[str]:
    """Names of runs that this machine knows, for the arguments of `tide stop` and the like."""
    from springtide.spec.home import runs

    folder = runs()
    return sorted(path.name for path in folder.glob(f"{incomplete}*") if path.is_dir()) if folder.is_dir() else []
