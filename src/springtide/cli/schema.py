"""`tide schema`: what may stand in a file, for editors that complete and check."""

from __future__ import annotations

import json

import click


@click.command(
    epilog="Example: tide schema > .jobs.schema.json, and in your editor's YAML settings that file for jobs."
)
@click.option(
    "--kind",
    metavar="jobs|pool|loop",
    default="jobs",
    show_default=True,
    help="For jobs, for a pool's file, or a loop's.",
)
def schema(kind: str) -> None:
    """Print the JSON Schema (draft 2020-12) of job files, of a pool's file, or of a loop's."""
    from springtide.spec.errors import UserError
    from springtide.spec.quantities import nearest
    from springtide.spec.table import FILES
    from springtide.spec.table import schema as of

    kinds = (*FILES, "loop")
    if kind not in kinds:
        raise UserError(
            f'--kind: there is no schema for "{kind}"{nearest(kind, kinds) or "; write jobs, pool or loop"}'
        )

    click.echo(json.dumps(of(kind), indent=2))
