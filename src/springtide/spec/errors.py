"""The one tree of errors, and the exit code that belongs to each."""

from __future__ import annotations


class SpringtideError(Exception):
    """Anything that Springtide says went wrong. The message is one sentence for a person."""

    exit_code = 1


class UserError(SpringtideError):
    """Bad input: what was wrong, where, and what would be right."""

    exit_code = 2


class Refused(SpringtideError):
    """The input makes sense, but it is not allowed now (a run of that name is alive, a size outside the range)."""

    exit_code = 4


class Unreachable(SpringtideError):
    """No pool answers at the address that was asked."""

    exit_code = 3
