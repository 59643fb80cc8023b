"""The pool from a program: the commands of `tide` as methods, plain dicts as answers, one sentence for each error."""

from __future__ import annotations

import json
import os
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2

from springtide.pool.packing import Packed, pack
from springtide.spec import home
from springtide.spec.errors import Refused, SpringtideError, Unreachable, UserError
from springtide.spec.files import jobs as read_jobs
from springtide.spec.files import to_data
from springtide.spec.job import Job
from springtide.spec.sharing import Pool, Team

ADDRESS, TOKEN = "TIDE_POOL", "TIDE_TOKEN"
_TIMEOUT = httpx2.Timeout(120.0, connect=5.0)
_LISTENING = httpx2.Timeout(None, connect=5.0)
_EVENTS = httpx2.Timeout(60.0, connect=5.0)  # a heartbeat comes every 15 s
_PATH_LIMIT = 100  # of the kernel's 108
_ERRORS = {2: UserError, 3: Unreachable, 4: Refused}
_CHUNK_BYTES = 1 << 20
_AGAIN_S = 1.0  # before a stream that broke is taken up again
Answer = dict[str, Any]


class Client:
    """A pool: by default the one of this user on this machine, else `TIDE_POOL` (a socket's path, or a URL).

    `token` is by default `TIDE_TOKEN`. Every method raises UserError (bad input), Refused (not allowed now),
    Unreachable (no pool answers) or SpringtideError, with the pool's own sentence.
    """

    def __init__(self, address: str | Path | None = None, token: str | None = None) -> None:
        self.address = str(address or os.environ.get(ADDRESS) or home.home() / "pool" / "pool.sock")
        token = token or os.environ.get(TOKEN)
        self._folder = -1
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.address.startswith(("http://", "https://")):
            # No proxy and no netrc of the environment; whom to trust is the system's matter, or SSL_CERT_FILE's.
            trusted = ssl.create_default_context() if self.address.startswith("https") else False
            self._http = httpx2.Client(
                base_url=self.address, headers=headers, timeout=_TIMEOUT, trust_env=False, verify=trusted
            )
        else:
            transport = httpx2.HTTPTransport(uds=self._short(self.address))
            self._http = httpx2.Client(
                base_url="http://pool", headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=False
            )

    def close(self) -> None:
        self._http.close()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- the pool

    def health(self) -> Answer:
        return self._get("/health")

    def nodes(self) -> list[Answer]:
        return self._rows("/nodes", "nodes")

    def drain(self, node: str) -> Answer:
        return self._ask("PATCH", f"/nodes/{_quoted(node)}", {"drained": True})

    def undrain(self, node: str) -> Answer:
        return self._ask("PATCH", f"/nodes/{_quoted(node)}", {"drained": False})

    def down(self, keep: bool = False) -> Answer:
        """Returns when the pool has taken it up; it is gone when `health` raises Unreachable."""
        return self._ask("POST", "/down", {"keep": keep})

    def metrics(self) -> str:
        """As Prometheus reads them."""
        return self._sent("GET", "/metrics").text

    # --- jobs

    def jobs(
        self, team: str | None = None, state: str | None = None, kind: str | None = None, name: str | None = None,
        limit: int | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Rows as of `tide ps --json`, the newest first; `state` may be "live". All of them where no limit is given."""
        found: list[Answer] = []
        words = {"team": team, "state": state, "kind": kind, "name": name}
        cursor: str | None = None
        while True:
            page = self._get("/jobs", **words, cursor=cursor, limit=min(limit or 1000, 1000))
            found += page["jobs"]
            cursor = page["next"]
            if cursor is None or (limit is not None and len(found) >= limit):
                return found[:limit]

    def job(self, name: str) -> Answer:
        return self._get(f"/jobs/{_quoted(name)}")

    def submit(
        self, jobs: str | Path | Job | Sequence[Job], dry_run: bool = False, key: str | None = None,
        forecast: bool = False,
    ) -> Answer:  # fmt: skip
        """Jobs, or those of a file, all or none; their folders are taken along. An unfinished name is updated.

        The answer holds `jobs` (rows with an `outcome`), `warnings` and `forecasts`; a dry run submits nothing.
        """
        chosen = _chosen(jobs)
        packed: dict[str, Packed] = {}
        try:
            for job in chosen:
                if job.folder is not None and job.folder not in packed:
                    packed[job.folder] = pack(Path(job.folder))
            for one in packed.values():
                self._bring(one)
            digests = {folder: one.digest for folder, one in packed.items()}
        finally:
            for one in packed.values():
                one.file.close()
        body = {"jobs": [_order(job, digests) for job in chosen], "dry_run": dry_run, "forecast": forecast}
        return self._ask("POST", "/jobs", body, key=key)

    def update(
        self, name: str, replicas: str | int | None = None, paused: bool | None = None,
        bid: Mapping[str, float] | None = None, version: int | None = None,
    ) -> Answer:  # fmt: skip
        """`replicas`: 3, "1:4" or "auto". Refused if the job is not at `version` any more, where that is given."""
        said = {"replicas": replicas, "paused": paused, "bid": None if bid is None else dict(bid)}
        return self._ask("PATCH", f"/jobs/{_quoted(name)}", _given(said), version=version)

    def cancel(self, name: str) -> Answer:
        return self._ask("DELETE", f"/jobs/{_quoted(name)}")

    def retry(self, name: str) -> Answer:
        return self._ask("POST", f"/jobs/{_quoted(name)}/retry")

    def replicas(self, name: str) -> list[Answer]:
        return self._rows(f"/jobs/{_quoted(name)}/replicas", "replicas")

    def explain(self, name: str) -> Answer:
        return self._get(f"/jobs/{_quoted(name)}/explain")

    def forecast(self, name: str) -> Answer:
        return self._get(f"/jobs/{_quoted(name)}/forecast")

    def logs(self, name: str, replica: str | None = None, lines: int = 200, follow: bool = False) -> Iterator[str]:
        """Lines without their ends; with `follow` until the job is over."""
        words = {"replica": replica, "lines": lines, "follow": int(follow)}
        with self._stream(f"/jobs/{_quoted(name)}/logs", words, _LISTENING if follow else _TIMEOUT) as answer:
            try:
                yield from answer.iter_lines()
            except httpx2.TransportError:
                raise self._unreachable() from None

    def events(
        self, job: str | None = None, team: str | None = None, after: int | None = None, limit: int = 100,
        follow: bool = False,
    ) -> Iterator[Answer]:  # fmt: skip
        """Oldest first; without `after` the newest ones. With `follow` then each that comes, without end."""
        words = {"job": job, "team": team}
        page = self._get("/events", **words, after=after, limit=limit)
        yield from page["events"]
        last = page["next"]
        while follow:
            for event in self._heard(words, last):
                yield event
                last = event["id"]

    def _heard(self, words: dict[str, Any], last: int) -> Iterator[Answer]:
        """One stream to its end, which the pool may set: then it is taken up where it ended."""
        began_s = time.monotonic()
        with self._stream("/events", {**words, "after": last, "follow": 1}, _EVENTS) as answer:
            try:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
            except httpx2.TransportError:
                time.sleep(max(0.0, _AGAIN_S - (time.monotonic() - began_s)))

    # --- sharing

    def teams(self) -> list[Answer]:
        return self._rows("/teams", "teams")

    def set_team(self, team: Team | Mapping[str, Any]) -> Answer:
        """A team as a pool file says it, or an object."""
        said = _team_data(team) if isinstance(team, Team) else dict(team)
        return self._ask("PUT", f"/teams/{_quoted(str(said.get('name')))}", said)

    def tokens(self) -> list[Answer]:
        return self._rows("/tokens", "tokens")

    def new_token(self, team: str, scope: str = "member", name: str = "", expires_in_s: float | None = None) -> Answer:
        """The `token` in the answer is shown this once."""
        said = {"team": team, "scope": scope, "name": name, "expires_in_s": expires_in_s}
        return self._ask("POST", "/tokens", _given(said))

    def revoke_token(self, id: str) -> Answer:
        return self._ask("DELETE", f"/tokens/{_quoted(id)}")

    def secrets(self, team: str = "default") -> list[Answer]:
        return self._rows("/secrets", "secrets", team=team)

    def set_secret(self, name: str, value: str, team: str = "default") -> Answer:
        return self._ask("PUT", f"/secrets/{_quoted(name)}", {"team": team, "value": value})

    def remove_secret(self, name: str, team: str = "default") -> Answer:
        return self._ask("DELETE", f"/secrets/{_quoted(name)}?team={_quoted(team)}")

    def usage(self, by: str = "team", since_s: float | None = None, team: str | None = None) -> Answer:
        """Since a time in unix seconds; by default of the last seven days."""
        return self._get("/usage", by=by, since_s=since_s, team=team)

    def prices(self, since_s: float | None = None) -> Answer:
        """Since a time in unix seconds; by default of the last day."""
        return self._get("/prices", since_s=since_s)

    def would_buy(
        self, per_core_hour: float = 0.0, per_gpu_hour: float = 0.0, cpu: float = 1.0, gpu: float = 0.0,
        span_s: float = 86_400.0,
    ) -> Answer:  # fmt: skip
        """What one replica of that size would have got for a bid, of the last `span_s` seconds."""
        offer = {"per_core_hour": per_core_hour, "per_gpu_hour": per_gpu_hour, "cpu": cpu, "gpu": gpu}
        return self._ask("POST", "/prices/would-buy", offer | {"span_s": span_s})

    def audit(self, after: int = 0, limit: int = 100) -> list[Answer]:
        return self._rows("/audit", "entries", after=after, limit=limit)

    # --- the wire

    def _short(self, path: str) -> str:
        """The same socket by a name that the kernel takes, however deep it lies."""
        if len(path) <= _PATH_LIMIT:
            return path
        try:
            self._folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return path[:_PATH_LIMIT]  # nothing answers there, which is what will be said
        return f"/proc/self/fd/{self._folder}/{Path(path).name}"

    def _rows(self, path: str, name: str, **words: Any) -> list[Answer]:
        found: list[Answer] = self._get(path, **words)[name]
        return found

    def _get(self, path: str, **words: Any) -> Answer:
        found: Answer = self._sent("GET", path, params=_given(words)).json()
        return found

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, key: str | None = None,
        version: int | None = None,
    ) -> Answer:  # fmt: skip
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}  # sent again with the same key, it is not done twice
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        found: Answer = self._sent(method, path, headers=headers, json=body).json()
        return found

    def _sent(self, method: str, path: str, **what: Any) -> httpx2.Response:
        for last in (False, True):
            try:
                answer = self._http.request(method, f"/v1{path}", **what)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                raise self._unreachable() from None
            except httpx2.TransportError:
                if last:
                    raise self._unreachable() from None
                continue
            return _good(answer)
        raise AssertionError("the second time is the last")

    def _stream(self, path: str, words: dict[str, Any], timeout: httpx2.Timeout) -> _Stream:
        return _Stream(self, self._http.build_request("GET", f"/v1{path}", params=_given(words), timeout=timeout))

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"no pool answers at {self.address}: `tide up` starts one")

    def _bring(self, packed: Packed) -> None:
        """Sends a folder that the pool has not."""
        path = f"/sources/{packed.digest}"
        try:
            there = self._http.head(f"/v1{path}").status_code
        except httpx2.TransportError:
            raise self._unreachable() from None
        if there == 200:
            return
        for last in (False, True):
            packed.file.seek(0)
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(packed.size_bytes)}
            chunks = iter(lambda: packed.file.read(_CHUNK_BYTES), b"")
            try:
                _good(self._http.put(f"/v1{path}", content=chunks, headers=headers))
                return
            except httpx2.TransportError:
                if last:
                    raise self._unreachable() from None


class _Stream:
    """An answer that is read while it comes."""

    def __init__(self, client: Client, request: httpx2.Request) -> None:
        self._client, self._request = client, request

    def __enter__(self) -> httpx2.Response:
        try:
            self._answer = self._client._http.send(self._request, stream=True)
        except httpx2.TransportError:
            raise self._client._unreachable() from None
        if self._answer.status_code >= 400:
            self._answer.read()
            self._answer.close()
            _good(self._answer)
        return self._answer

    def __exit__(self, *_: object) -> None:
        self._answer.close()


def _good(answer: httpx2.Response) -> httpx2.Response:
    """The answer, if it is a success; else its problem as an error."""
    if answer.status_code < 400:
        return answer
    try:
        said = answer.json()
        sentence, code = str(said["detail"]), int(said["exit_code"])
    except (ValueError, KeyError, TypeError):
        raise SpringtideError(f"{answer.url.host} answers {answer.status_code}, and is no pool of Springtide") from None
    raise _ERRORS.get(code, SpringtideError)(sentence)


def _chosen(jobs: str | Path | Job | Sequence[Job]) -> list[Job]:
    if isinstance(jobs, Job):
        return [jobs]
    return read_jobs(jobs) if isinstance(jobs, str | Path) else list(jobs)


def _order(job: Job, digests: Mapping[str, str]) -> dict[str, Any]:
    order: dict[str, Any] = {"job": to_data(job)}
    if job.folder is not None:
        order["source"] = digests[job.folder]
        if job.script is not None:
            order["script"] = _inside(Path(job.script), Path(job.folder), job.name)
    return order


def _inside(script: Path, folder: Path, name: str) -> str:
    folder, path = Path(os.path.normpath(folder)), Path(os.path.normpath(folder / script))
    if not path.is_relative_to(folder):
        raise UserError(
            f"job {name}: script: {script} lies outside of the folder {folder}, which is what is taken along"
        )
    return str(path.relative_to(folder))


def _team_data(team: Team) -> dict[str, Any]:
    found: dict[str, Any] = to_data(Pool(teams=(team,)))["teams"][0]
    return found


def _given(words: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in words.items() if value is not None}


def _quoted(word: str) -> str:
    return quote(word, safe="")
