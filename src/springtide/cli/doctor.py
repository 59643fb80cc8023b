"""`tide doctor`: what this machine offers, and what each lack means for who wants to train here."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

_MARKS = {"ok": ("ok", "green"), "lacks": ("lacks", "yellow"), "fails": ("FAILS", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of checks instead.")
def doctor(as_json: bool) -> int:
    """Say what this machine offers, and what each lack means; exit code 1 when `tide run` cannot work here."""
    from springtide.cli.checks import every_check

    checks = every_check()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, colour = _MARKS[check.state]
            found = f"{click.style(f'{mark:<6}', fg=colour)} {check.name:<{width}}  {check.found}"
            click.echo(found + (f"; {check.means}" if check.means else ""))
    return 1 if any(check.state == "fails" for check in checks) else 0
