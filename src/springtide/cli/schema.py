"""`tide schema`: what may stand in a file, for editors that complete and check."""

from __future__ import annotations

import json

import click


@click.command(
    epilog="Example: tide schema > .jobs.schema.json, and in your editor's YAML settings that file for jobs."
)
@click.option(
    "--kind", metavar="jobs|pool", default="jobs", show_default=True, help="For files of jobs, or for a pool's file."
)
def schema(kind: str) -> None:
    """Print the JSON Schema (draft 2020-12) of job files or of a pool's file."""
    from springtide.spec.errors import UserError
    from springtide.spec.quantities import nearest
    from springtide.spec.table import FILES
    from springtide.spec.table import schema as of

    if kind not in FILES:
        raise UserError(f'--kind: there is no schema for "{kind}"{nearest(kind, FILES) or "; write jobs or pool"}')

    click.echo(json.dumps(of(kind), indent=2))
