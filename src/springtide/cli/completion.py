"""`tide completion`: the lines that teach a shell tide's words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from springtide.spec.errors import UserError

_SHELLS = ("bash", "zsh", "fish")
_MOST = 100  # jobs that are over, whose names a shell is offered
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
    """Names of runs that this machine knows."""
    from springtide.spec.home import runs

    folder = runs()
    return sorted(path.name for path in folder.glob(f"{incomplete}*") if path.is_dir()) if folder.is_dir() else []


def job_names(_ctx: Any, _parameter: Any, incomplete: str) -> list[str]:
    """Names of jobs of the pool, of late and over too."""
    return _names_in_pool(incomplete, over=_MOST)


def unfinished_names(ctx: Any, parameter: Any, incomplete: str) -> list[str]:
    """Names of what may be changed: unfinished jobs of the pool, and runs of this machine."""
    return sorted({*_names_in_pool(incomplete, over=0), *run_names(ctx, parameter, incomplete)})


def node_names(_ctx: Any, _parameter: Any, incomplete: str) -> list[str]:
    """Names of the pool's nodes."""
    from springtide.cli import asking

    try:
        nodes = asking.pool().nodes() if asking.has_pool() else []
    except Exception:
        return []
    return sorted(node["name"] for node in nodes if node["name"].startswith(incomplete))


def team_names(_ctx: Any, _parameter: Any, incomplete: str) -> list[str]:
    """Names of teams."""
    from springtide.cli import asking

    try:
        teams = asking.pool().teams() if asking.has_pool() else []
    except Exception:
        return []
    return sorted(team["name"] for team in teams if team["name"].startswith(incomplete))


def _names_in_pool(incomplete: str, over: int) -> list[str]:
    """Whatever is wrong, somebody who presses Tab is not told about it."""
    from springtide.cli import asking

    try:
        rows = asking.recent(asking.pool(), most_over=over) if asking.has_pool() else []
    except Exception:
        return []
    return sorted({row["name"] for row in rows if row["name"].startswith(incomplete)})
