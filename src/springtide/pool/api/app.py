"""The ASGI application: what happens to every request, before and after the handler of its route."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Receive, Scope, Send

from springtide.pool import access
from springtide.pool.access import Identity
from springtide.pool.answers import LONGEST_KEY, Kept, Repeated
from springtide.pool.api import openapi, problems, streams
from springtide.pool.api.gate import Gate
from springtide.pool.api.metrics import Metrics
from springtide.pool.api.routes import ROUTES, Asked, Desk, Route
from springtide.pool.logs import Logs
from springtide.pool.office import Office
from springtide.pool.refusals import Malformed, TooLarge
from springtide.pool.rows import Row
from springtide.spec.errors import SpringtideError

MOST_BODY_BYTES = 16 * 2**20
SILENT_S = 60.0  # between two parts of a body
JSON = "application/json"
_log = logging.getLogger("springtide.pool.api")
Answer = Callable[[Request, Route, Identity], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Services:
    """All that the application works with."""

    office: Office
    desk: Desk
    gate: Gate
    logs: Logs
    metrics: Metrics
    broadcast: streams.Broadcast


def make_app(services: Services) -> ASGIApp:
    """The application over some services."""
    answers: Mapping[str, Answer] = {
        "jobs.logs": _Streams(services).logs,
        "events.list": _Streams(services).events,
        "sources.put": _Streams(services).source,
        "sources.head": _Streams(services).source_there,
        "metrics": _Streams(services).metrics,
        "openapi": _document,
    }

    def endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
        answer = answers.get(route.operation, _Plain(services).answer)

        async def called(request: Request) -> Response:
            response = await _guarded(services, request, route, answer)
            services.metrics.answered(route.operation, response.status_code)
            return response

        return called

    app = Starlette(
        routes=[Path(route.path, endpoint(route), methods=[route.method]) for route in ROUTES],
        exception_handlers={HTTPException: _not_here},
        lifespan=services.broadcast.lifespan,
    )
    return _Door(app, services.gate)


class _Door:
    """No request for another host comes in, whatever its path."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._gate.check_host(scope)
            except SpringtideError as error:
                await problems.of(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        detail = f"{request.method} cannot be done here; possible is {headers.get('Allow', 'something else')}"
        return problems.problem(405, "Method not allowed", detail, headers)
    return problems.problem(error.status_code, "Not found", f"there is nothing at {request.url.path[:200]}", headers)


async def _guarded(services: Services, request: Request, route: Route, answer: Answer) -> Response:
    """Who asks, how often and whether at all; then the answer, and every error as a problem."""
    who = access.NOBODY
    try:
        if access.RULES[route.operation].on is access.On.NOTHING:
            return await answer(request, route, who)
        who = await run_in_threadpool(services.gate.identify, request.scope)
        services.gate.rates.take(who)
        access.require(who, route.operation, access.Tree())
        return await answer(request, route, who)
    except SpringtideError as error:
        if route.changes and who is not access.NOBODY:
            with contextlib.suppress(SpringtideError):
                what = f"{route.operation} {_object(request)}: refused ({type(error).__name__}: {error})"
                await run_in_threadpool(services.office.audit.note, who.name, what[:1000])
        return problems.of(error)
    except Exception:
        fault = secrets.token_hex(4)
        _log.exception("fault %s: %s %r", fault, request.method, request.url.path)
        detail = f"this is a fault of the pool itself; its log has all about it under {fault}"
        return problems.problem(500, "Fault", detail)


def _object(request: Request) -> str:
    return " ".join(str(value) for value in request.path_params.values())[:200]


class _Plain:
    """JSON in, JSON out."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, request: Request, route: Route, who: Identity) -> Response:
        content = await body(request, MOST_BODY_BYTES) if route.body is not None else b""
        query = read_query(request, route)
        given = None if route.body is None else _decoded(content, route, request.headers.get("content-type"))
        key = request.headers.get("idempotency-key") if route.changes and route.keeps else None
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise Malformed(f"an Idempotency-Key has from 1 to {LONGEST_KEY} letters")
        sealing = Sealing(self._services.office, request, route, who, key, content)
        return await run_in_threadpool(self._carried_out, request, route, query, given, sealing)

    def _carried_out(self, request: Request, route: Route, query: Any, given: Any, sealing: Sealing) -> Response:
        assert route.handler is not None
        if kept := sealing.kept():
            return Response(kept.body, kept.status, media_type=JSON)
        version = request.headers.get("if-match")
        asked = Asked(sealing.who, request.path_params, query, given, version, sealing)
        try:
            row = route.handler(self._services.desk, asked)
        except Repeated:
            again = sealing.kept()
            assert again is not None  # it was there a moment ago, and is kept for a day
            return Response(again.body, again.status, media_type=JSON)
        status = 200 if row.get("jobs") == [] and route.operation == "jobs.submit" else route.status
        headers = {"ETag": f'"{row["version"]}"'} if isinstance(row.get("version"), int) else None
        return Response(msgspec.json.encode(row), status, headers, JSON)


class Sealing:
    """Writes the answer to a key, and the audit's line, into the transaction of what is answered."""

    def __init__(
        self, office: Office, request: Request, route: Route, who: Identity, key: str | None, content: bytes
    ) -> None:
        self.who = who
        self._office, self._route, self._key = office, route, key
        self._object = _object(request)
        head = f"{request.method} {request.url.path}?{request.url.query}\n{request.headers.get('if-match')}\n"
        self._digest = hashlib.sha256(head.encode() + content).digest()

    def kept(self) -> Kept | None:
        """The answer that this request has had already."""
        return None if self._key is None else self._office.answers.find(self.who.name, self._key, self._digest)

    def __call__(self, answer: Row, team: str | None = None, job: str | None = None) -> None:
        if self._key is not None:
            kept = Kept(self._route.status, msgspec.json.encode(answer).decode())
            self._office.answers.keep(self.who.name, self._key, self._digest, kept)
        self._office.audit.note(
            self.who.name, f"{self._route.operation} {self._object or job or ''}".strip(), team, job
        )


class _Streams:
    """Answers that are no plain JSON."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def logs(self, request: Request, route: Route, who: Identity) -> Response:
        """Lines as text; with follow=1 until the job is over."""
        query = read_query(request, route)
        desk, logs = self._services.desk, self._services.logs
        record = await run_in_threadpool(desk.jobs.find, who, "jobs.logs", request.path_params["job"])
        if not query.follow:
            lines = await run_in_threadpool(logs.tail, record, query.replica, query.lines)
            return Response("".join(f"{line}\n" for line in lines), media_type="text/plain")
        store, threads = self._services.office.store, self._services.broadcast.log_threads
        return await run_in_threadpool(streams.lines, store, logs, record, query.replica, query.lines, threads)

    async def events(self, request: Request, route: Route, who: Identity) -> Response:
        """A page of events, or with follow=1 a stream of them."""
        query = read_query(request, route)
        if not query.follow:
            return await _Plain(self._services).answer(request, route, who)
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdecimal() and len(last) < 18 else query.after
        return await streams.events(self._services.desk.jobs, self._services.broadcast, who, query, after)

    async def source(self, request: Request, route: Route, who: Identity) -> Response:
        """A tar file comes in, at most as large as a folder may be."""
        del route
        digest, sources = request.path_params["digest"], self._services.office.sources
        if await run_in_threadpool(sources.has, digest):
            await run_in_threadpool(sources.touch, digest)
            return Response(msgspec.json.encode({"digest": digest}), 200, media_type=JSON)
        with await run_in_threadpool(sources.receive, digest) as coming:
            async for chunk in _chunks(request):
                await run_in_threadpool(coming.feed, chunk)
            new = await run_in_threadpool(coming.finish)
        await run_in_threadpool(self._services.office.audit.note, who.name, f"sources.put {digest}")
        return Response(msgspec.json.encode({"digest": digest}), 201 if new else 200, media_type=JSON)

    async def source_there(self, request: Request, route: Route, who: Identity) -> Response:
        """Whether it need not be sent."""
        del route, who
        digest, sources = request.path_params["digest"], self._services.office.sources
        if not await run_in_threadpool(sources.has, digest):
            return Response(status_code=404)
        await run_in_threadpool(sources.touch, digest)
        return Response(status_code=200)

    async def metrics(self, request: Request, route: Route, who: Identity) -> Response:
        """As Prometheus reads them."""
        del request, route, who
        text = await run_in_threadpool(self._services.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _document(request: Request, route: Route, who: Identity) -> Response:
    del request, route, who
    return Response(openapi.text(), media_type=JSON)


async def body(request: Request, most_bytes: int) -> bytes:
    """TooLarge: it has more bytes than that; the rest is not read."""
    sentence = f"this body is larger than {most_bytes >> 20} MiB; send less at once"
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most_bytes:
        raise TooLarge(sentence)
    parts: list[bytes] = []
    size = 0
    async for chunk in _chunks(request):
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(sentence)
        parts.append(chunk)
    return b"".join(parts)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Malformed: nothing came for long, so nobody holds a place here by saying nothing."""
    coming = request.stream()
    while True:
        try:
            yield await asyncio.wait_for(anext(coming), SILENT_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Malformed(f"the body stopped coming for {SILENT_S:g} s; send it again") from None


def read_query(request: Request, route: Route) -> Any:
    """Malformed: a name that is not there, or a value that is none."""
    given = dict(request.query_params)
    words = {
        key: {"1": "true", "0": "false"}.get(value, value) if key == "follow" else value for key, value in given.items()
    }
    try:
        return msgspec.convert(words, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"behind the question mark: {_worded(error)}") from None


def _decoded(content: bytes, route: Route, media: str | None) -> Any:
    if media is not None and media.partition(";")[0].strip().lower() != JSON:
        raise Malformed(f'the body is "{media[:80]}"; send {JSON}')
    try:
        return msgspec.json.decode(content or b"{}", type=route.body)
    except msgspec.ValidationError as error:
        raise Malformed(f"in the body: {_worded(error)}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error}") from None


def _worded(error: Exception) -> str:
    """`jobs[0].job: ...` instead of a sentence that ends in where."""
    what, _, where = str(error).rpartition(" - at `")
    words = what or str(error)
    place = where.strip("`").removeprefix("$").lstrip(".") if what else ""
    return f"{place + ': ' if place else ''}{words[:1].lower()}{words[1:]}"
