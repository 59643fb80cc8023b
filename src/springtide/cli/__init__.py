"""`tide`: the command.

Topmost room: it parses, calls the rooms below and shows what they say. It may import all of them but never torch, and
each sub-command only when it is called, so that `tide --help` answers at once. Begin with `commands`, `run`, `show`.
"""

from springtide.cli.commands import main

__all__ = ["main"]
