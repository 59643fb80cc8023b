"""Errors as problem+json (RFC 9457): one sentence, the one that the command prints, and its exit code."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from springtide.pool.refusals import TooMany, Unauthenticated, status_of
from springtide.spec.errors import SpringtideError

MEDIA_TYPE = "application/problem+json"
_EXIT_CODES = {400: 2, 404: 2, 405: 2, 413: 2, 415: 2, 422: 2, 401: 4, 403: 4, 409: 4, 412: 4, 429: 4}


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The answer about something that went wrong."""
    body = {
        "type": "about:blank", "title": title, "status": status, "detail": detail,
        "exit_code": _EXIT_CODES.get(status, 1),
    }  # fmt: skip
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


def of(error: SpringtideError) -> Response:
    """The answer about one of the pool's own errors."""
    status, title = status_of(error)
    headers = {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(max(1, round(error.wait_s)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(status, title, str(error), headers)
