"""Answers that go on for as long as somebody listens: logs as text, events as server-sent events.

One task reads new events for all who follow them. Who is too slow to take them is let go, and comes back by
`Last-Event-ID` for what he missed; nobody's slowness holds up another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from springtide.pool.access import Identity
from springtide.pool.api.shapes import EventsQuery
from springtide.pool.logs import Logs
from springtide.pool.records import JobRecord
from springtide.pool.refusals import TooMany
from springtide.pool.rows import event_row
from springtide.pool.service import Jobs
from springtide.pool.store import Event, Store

HEARTBEAT_S = 15.0
LONGEST_S = 600.0  # of one stream: then who listens comes back, and is asked anew who he is
MOST_FOLLOWERS = 200  # of events, and as many of logs
_LOOK_S = 0.2
_PAGE = 500
_QUEUE = 1000


class Broadcast:
    """New events, from the store to everybody who follows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followers: set[asyncio.Queue[Event | None]] = set()
        self._wanted = asyncio.Event()
        self._last = 0
        self.log_threads = anyio.CapacityLimiter(MOST_FOLLOWERS)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Runs beside the application."""
        del app
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            for queue in list(self._followers):
                _let_go(queue)

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[asyncio.Queue[Event | None]]:
        """Every event from now on; None: no more comes. TooMany."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise TooMany(f"{MOST_FOLLOWERS} follow the events already; ask again later", HEARTBEAT_S)
        if not self._followers:
            newest = await run_in_threadpool(self._store.events, newest=True, limit=1)
            self._last = max(self._last, newest[-1].id if newest else 0)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUE)
        self._followers.add(queue)
        self._wanted.set()
        try:
            yield queue
        finally:
            self._followers.discard(queue)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._followers:
                self._wanted.clear()
                continue
            found = await run_in_threadpool(self._store.events, after=self._last, limit=_PAGE)
            for event in found:
                self._last = event.id
                for queue in list(self._followers):
                    if queue.full():
                        self._followers.discard(queue)
                        _let_go(queue)
                    else:
                        queue.put_nowait(event)
            if len(found) < _PAGE:
                await asyncio.sleep(_LOOK_S)


def _let_go(queue: asyncio.Queue[Event | None]) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(None)


async def events(
    jobs: Jobs, broadcast: Broadcast, who: Identity, query: EventsQuery, after: int | None
) -> StreamingResponse:
    """What the asker may see: what came after `after`, if that is given, and then what comes."""
    words: dict[str, Any] = {"job": query.job, "team": query.team, "limit": _PAGE}
    first = await run_in_threadpool(partial(jobs.events, who, **words, after=after))  # also asks whether he may
    job_id = None if query.job is None else (await run_in_threadpool(jobs.find, who, "jobs.show", query.job)).id
    teams = frozenset([query.team]) if query.team is not None else await run_in_threadpool(jobs.office.seen_by, who)

    async def told() -> AsyncIterator[str]:
        async with broadcast.follow() as queue:
            yield ": the pool's events\n\n"
            last, page = after or 0, first if after is not None else None
            while page:
                for row in page["events"]:
                    last = row["id"]
                    yield _sent(row)
                # Once more also behind an empty page: what came before we followed is in neither otherwise.
                page = await run_in_threadpool(partial(jobs.events, who, **words, after=last))
                if not page["events"]:
                    break
            ends_s = time.monotonic() + LONGEST_S
            while time.monotonic() < ends_s:
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                if event.id > last and (teams is None or event.team in teams) and job_id in (None, event.job_id):
                    last = event.id
                    yield _sent(event_row(event))

    return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _sent(row: dict[str, Any]) -> str:
    return f"id: {row['id']}\nevent: {row['kind']}\ndata: {msgspec.json.encode(row).decode()}\n\n"


def lines(
    store: Store, logs: Logs, record: JobRecord, replica: str | None, count: int, threads: anyio.CapacityLimiter
) -> StreamingResponse:
    """A log that grows, until its job is over. TooMany."""
    if not threads.available_tokens:
        raise TooMany(f"{MOST_FOLLOWERS} follow logs already; ask again later", HEARTBEAT_S)
    logs.tail(record, replica, 0)
    stop = threading.Event()

    def over() -> bool:
        now = store.job(record.id)
        return now is None or now.state.over

    found = logs.follow(record, replica, count, stop, over)

    async def told() -> AsyncIterator[str]:
        try:
            while (
                some := await anyio.to_thread.run_sync(_next, found, abandon_on_cancel=True, limiter=threads)
            ) is not None:
                if some:
                    yield "".join(f"{line}\n" for line in some)
        finally:
            stop.set()

    return StreamingResponse(told(), media_type="text/plain")


def _next(found: Iterator[list[str]]) -> list[str] | None:
    return next(found, None)
