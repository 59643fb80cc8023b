"""The group of sub-commands, loaded when they are called, and the one place where an error becomes a sentence."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from typing import Any

import click

from springtide import __version__
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.quantities import nearest

# What for -> name -> module and what it does: enough for `tide --help`, without importing any of them.
_GROUPS = {
    "The pool": {
        "up": ("pool", "Start the pool of this machine."),
        "down": ("pool", "Write checkpoints, stop all, and end the pool."),
        "status": ("pool", "Say how the pool is."),
        "node": ("nodes", "List, drain and undrain nodes."),
    },
    "Jobs": {
        "submit": ("submit", "Put jobs into the pool, or change those that are in it."),
        "resize": ("change", "Give a job or a run more or fewer replicas."),
        "pause": ("change", "Let jobs write a checkpoint and stop; the same as stop."),
        "resume": ("change", "Let paused jobs go on."),
        "stop": ("change", "Let jobs or runs write a checkpoint and stop."),
        "cancel": ("change", "End jobs for good."),
        "retry": ("change", "Submit jobs that failed or were cancelled again."),
        "bid": ("price", "Change what a spot job pays at most, or ask what a bid would have bought."),
    },
    "Models": {
        "model": ("model", "Register versions of models, promote them, roll back."),
        "serve": ("serve", "Serve models on this machine, without a pool."),
        "loop": ("loop", "Say where loops are, and release what they quarantined."),
    },
    "Look": {
        "ps": ("ps", "List the jobs of the pool and the runs of this machine."),
        "top": ("top", "Watch nodes, jobs and queue live."),
        "logs": ("look", "Print what a job's replicas wrote."),
        "explain": ("look", "Say why a job is as it is, and what would change it."),
        "events": ("look", "Print what happened."),
        "usage": ("usage", "Say who asked for, was given, and used how much."),
        "price": ("price", "Print what spot jobs pay, now and of late."),
    },
    "Who shares it": {
        "team": ("teams", "List teams, and set their guarantees, weights and budgets."),
        "token": ("tokens", "Make, list and revoke tokens."),
        "secret": ("secrets", "Set, list and remove a team's secrets."),
    },
    "On this machine, without a pool": {
        "run": ("run", "Train elastically on this machine (or in the pool, with --pool)."),
        "checkpoints": ("checkpoints", "List and verify checkpoints."),
        "stream": ("stream", "List, print and fill streams of records."),
        "simulate": ("simulate", "Play a trace of a cluster under one or more policies."),
        "doctor": ("doctor", "Say what this machine offers, and what each lack means."),
    },
    "For shells and editors": {
        "schema": ("schema", "Print the JSON Schema of job files, for editors."),
        "completion": ("completion", "Print what makes your shell complete tide's words."),
        "version": ("version", "Print the versions of Springtide, Python and torch."),
    },
}
_COMMANDS = {name: home for group in _GROUPS.values() for name, (home, _) in group.items()}
_ELSEWHERE = {  # what other tools call it
    **dict.fromkeys(("kill", "delete", "rm", "scancel"), "cancel"),
    **dict.fromkeys(("ls", "list", "jobs", "squeue"), "ps"),
    **dict.fromkeys(("apply", "create", "sbatch"), "submit"),
    **dict.fromkeys(("start", "init"), "up"),
    **dict.fromkeys(("shutdown", "halt"), "down"),
    **dict.fromkeys(("describe", "why"), "explain"),
    **dict.fromkeys(("scale",), "resize"),
    **dict.fromkeys(("continue", "unpause"), "resume"),
}


class Commands(click.Group):
    """Sub-commands by name, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"springtide.cli.{_COMMANDS[cmd_name]}"), cmd_name)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            meant = f'; did you mean "{_ELSEWHERE[name]}"?' if name in _ELSEWHERE else nearest(name, _COMMANDS)
            hint = meant or "; `tide --help` lists all"
            raise UserError(f'tide has no command "{name}"{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for purpose, group in _GROUPS.items():
            with formatter.section(purpose):
                # One column for all groups: padded to the longest name.
                formatter.write_dl([(f"{name:<11}", what) for name, (_, what) in group.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`tide COMMAND --help` tells more. Exit codes: 0 done, 1 failed, 2 bad input, 3 no pool answers, "
    "4 refused, 130 interrupted.",
)
@click.version_option(__version__, prog_name="tide", message="%(prog)s %(version)s")
def tide() -> None:
    """Deep learning on the machines a company already shares: training fills every idle core and survives its loss."""


def main() -> None:
    """Run `tide` and leave with its exit code; no traceback reaches the user."""
    try:
        code = tide.main(prog_name="tide", standalone_mode=False)
    except SpringtideError as error:
        code = _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        code = _help(error)
    except click.ClickException as error:
        code = _say(_sentence(error), 2)
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        code = 0
    except Exception as error:
        code = _bug(error)
    _flush()
    sys.exit(code if isinstance(code, int) else 0)


def _flush() -> None:
    """Who read us (head, less) may have seen enough: then nothing more can be said, not even at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str, code: int) -> int:
    click.echo(f"tide: {message}", err=True)
    return code


def _help(error: click.exceptions.NoArgsIsHelpError) -> int:
    click.echo(error.format_message())
    return 0


def _sentence(error: click.ClickException) -> str:
    """What click found wrong with the words typed, in the words of this house."""
    context: click.Context | None = getattr(error, "ctx", None)
    command = context.info_name if context and context.parent else "tide"
    usage = (
        " ".join([context.command_path, *context.command.collect_usage_pieces(context)]) if context else "tide --help"
    )
    match error:
        case click.NoSuchOption():
            known = [name for parameter in context.command.params for name in parameter.opts] if context else []
            hint = nearest(error.option_name, [*known, "--help"]) or f"; `{usage.split(' [')[0]} --help` lists all"
            return f"{command} has no option {error.option_name}{hint}"
        case click.BadOptionUsage():
            wanted = "takes no value" if "does not take" in error.message else "needs a value after it"
            return f"{error.option_name} {wanted}; `tide --help` and `tide COMMAND --help` say which"
        case click.MissingParameter() if error.param:
            name = error.param.metavar or (error.param.name or "").upper()
            return f"{name.removesuffix('...')} is missing; write {usage}"
        case click.BadParameter() if error.param:
            first = error.param.opts[0]
            name = first if first.startswith("-") else error.param.metavar or first.upper()
            return f"{name}: {error.message.rstrip('.')}"
    if found := re.search(r"unexpected extra arguments? \((.+)\)", error.format_message()):
        return f"{command} takes no more words, and {found[1]} is too much; write {usage}"
    return f"{command}: {error.format_message().rstrip('.')}"


def _bug(error: Exception) -> int:
    """Keep the traceback where its id leads, and say so in one sentence."""
    import secrets
    import traceback

    from springtide.spec.home import home

    bug = secrets.token_hex(4)
    path = home() / "logs" / f"{bug}.txt"
    text = "".join([f"tide {__version__}: {' '.join(sys.argv[1:])}\n", *traceback.format_exception(error)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        click.echo(text, err=True)
        return _say(f"this is a bug in Springtide ({bug}); the lines above say where it happened", 1)
    return _say(f"this is a bug in Springtide ({bug}): {type(error).__name__}; {path} says where it happened", 1)
