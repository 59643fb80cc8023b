"""How the words after `tide run` are divided between Springtide and the script."""

from __future__ import annotations

import click

EPILOG = """Options stand before SCRIPT or directly behind it; the first other word behind it begins the script's own
arguments, and so does `--`: tide run train.py --workers 1:4 --lr 0.1 gives --lr 0.1 to the script."""


class RunCommand(click.Command):
    """`[OPTIONS] SCRIPT [OPTIONS] [--] [ARGS]`: nothing that belongs to the script is parsed or reordered."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        return super().parse_args(ctx, divided(self, ctx, args))

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] SCRIPT [ARGS]...")


def divided(command: click.Command, ctx: click.Context, args: list[str]) -> list[str]:
    """The same words with all of ours in front of the script, so that a parser that stops there sees them."""
    flags = {
        name: option.is_flag or option.count
        for option in command.get_params(ctx)
        if isinstance(option, click.Option)
        for name in option.opts
    }
    ours: list[str] = []
    script: list[str] = []
    at = 0
    while at < len(args):
        word = args[at]
        name, equals, _ = word.partition("=")
        if name in flags:
            taken = 1 if flags[name] or equals else 2
            ours += args[at : at + taken]
            at += taken
        elif word == "--" or script:
            break
        elif word.startswith("-") and word != "-":
            ours.append(word)
            at += 1
        else:
            script.append(word)
            at += 1
    rest = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
    return [*ours, "--", *script, *rest] if script or rest else ours
