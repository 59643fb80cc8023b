"""Commands that have commands: `tide node drain`, `tide token new`. Without one, they list."""

from __future__ import annotations

from typing import Any

import click

from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest


class Words(click.Group):
    """A command whose next word says what to do; with no further word it does `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not any(word in self.commands or word in ctx.help_option_names for word in args[:1]) and (
            not args or args[0].startswith("-")
        ):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args[0] not in self.commands:
            hint = nearest(args[0], self.commands) or f"; it has {', '.join(self.commands)}"
            raise UserError(f'{ctx.command_path} has no command "{args[0]}"{hint}')
        return super().resolve_command(ctx, args)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
