"""What the API answers that is no success: each error of the pool with the status that belongs to it."""

from __future__ import annotations

from springtide.spec.errors import Refused, SpringtideError, UserError


class Malformed(UserError):
    """A request that cannot be read."""


class Unknown(UserError):
    """Something of that name is not there, or not to be seen by who asks."""


class TooLarge(UserError):
    """More bytes than are taken."""


class Unauthenticated(Refused):
    """Nobody knows who asks."""


class Forbidden(Refused):
    """Who asks is known, and may not."""


class Stale(Refused):
    """What is to be changed is another version than the asker saw."""


class TooMany(Refused):
    """More requests than are taken of one asker; `wait_s` later there is room again."""

    def __init__(self, sentence: str, wait_s: float) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


_STATUS: tuple[tuple[type[SpringtideError], int, str], ...] = (
    (Malformed, 400, "Malformed request"),
    (Unknown, 404, "Not found"),
    (TooLarge, 413, "Too large"),
    (Unauthenticated, 401, "Not authenticated"),
    (Forbidden, 403, "Not allowed"),
    (Stale, 412, "Changed meanwhile"),
    (TooMany, 429, "Too many requests"),
    (UserError, 422, "Bad input"),
    (Refused, 409, "Refused"),
    (SpringtideError, 503, "Not possible now"),
)


def status_of(error: SpringtideError) -> tuple[int, str]:
    """Status code and title of an answer about this error."""
    return next((status, title) for kind, status, title in _STATUS if isinstance(error, kind))
