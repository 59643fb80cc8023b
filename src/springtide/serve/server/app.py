"""The routes, as one ASGI application: who is asked, in which form, and what is answered."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from springtide.serve.server import faults, plain, protocol
from springtide.serve.server.faults import Fault
from springtide.serve.server.feedback import Feedback
from springtide.serve.server.journal import Journal
from springtide.serve.server.loaded import Loaded
from springtide.serve.server.metrics import Metrics
from springtide.serve.server.model import Model
from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import nearest

_log = logging.getLogger("springtide.serve")
_VERSION = version("springtide")
_JSON, _BYTES, _TEXT = b"application/json", b"application/octet-stream", b"text/plain; version=0.0.4; charset=utf-8"
CONNECTION_S = 30.0
_HELD = 256 << 20  # bytes of bodies that are in memory at once


class Gone(Exception):
    """The caller has hung up: there is nobody to answer."""


@dataclass
class House:
    """All that one process serves."""

    models: Mapping[str, Model]
    metrics: Metrics
    most_bytes: int = 16 << 20
    journal: Journal | None = None
    feedback: Feedback | None = None
    draining: bool = False
    held_bytes: int = 0
    extensions: list[str] = field(default_factory=lambda: ["binary_tensor_data"])

    def model(self, name: str) -> Model:
        """Fault: it is not served here."""
        if (found := self.models.get(name)) is None:
            hint = nearest(name, self.models) or f"; there is {', '.join(self.models)}"
            raise Fault(f'there is no model "{name[:60]}" here{hint}', 404)
        return found

    @property
    def ready(self) -> bool:
        return not self.draining and all(one.serving.production is not None for one in self.models.values())


@dataclass(slots=True)
class Reply:
    """What is sent back."""

    body: bytes = b""
    status: int = 200
    kind: bytes = _JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def told(value: Any, status: int = 200) -> Reply:
    return Reply(msgspec.json.encode(value), status)


def refusal(fault: Fault) -> Reply:
    reply = told({"error": str(fault)}, fault.status)
    if fault.retry_after_s is not None:
        reply.headers.append((b"retry-after", str(max(1, round(fault.retry_after_s))).encode()))
    return reply


class Call:
    """One request: its head, and its body once it was read."""

    def __init__(self, house: House, scope: Scope, receive: Receive) -> None:
        self._house, self._receive = house, receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.begun_s = time.perf_counter()
        self.held_bytes = 0

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1").strip()

    async def body(self) -> bytes:
        """Fault: too large, or too much is in memory already. Gone: it never came."""
        length = self.headers.get(b"content-length", b"")
        if length.isdigit():
            self._hold(int(length))
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._hold(len(message["body"]))
            return self._plain(message["body"])
        parts: list[bytes] = []
        total = 0
        while message["type"] == "http.request":
            parts.append(message["body"])
            total += len(message["body"])
            self._hold(total)
            if not message.get("more_body"):
                return self._plain(b"".join(parts))
            message = await self._receive()
        raise Gone

    def _hold(self, size: int) -> None:
        """Count bytes as held, up to so many."""
        if size > self._house.most_bytes:
            raise faults.too_large(self._house.most_bytes)
        more = size - self.held_bytes
        if more > 0:
            if self._house.held_bytes + more > _HELD:
                raise faults.full(f"{self._house.held_bytes:,} bytes of requests wait already", faults.RETRY_S)
            self._house.held_bytes += more
            self.held_bytes = size

    def release(self) -> None:
        self._house.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def _plain(self, body: bytes) -> bytes:
        coding = self.headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if coding in ("identity", ""):
            return body
        if coding not in ("gzip", "deflate"):
            raise Fault(f"Content-Encoding {coding[:40]} is not offered; send gzip, deflate, or the body as it is", 415)
        try:
            opened = zlib.decompressobj(47 if coding == "gzip" else 15)
            found = opened.decompress(body, self._house.most_bytes + 1)
        except zlib.error as error:
            raise Fault(f"the body is no {coding}: {error}") from None
        if len(found) > self._house.most_bytes:
            raise faults.too_large(self._house.most_bytes)
        if not opened.eof:
            raise Fault(f"the body is no whole {coding}: its end is missing")
        return found

    def left_ms(self, deadline_ms: float | None = None) -> float | None:
        """What is left of the header X-Deadline-Ms, or of another deadline. Fault: nothing, or it is no number."""
        allowed_ms = self._deadline_ms() or deadline_ms
        if allowed_ms is None:
            return None
        left_ms = allowed_ms - (time.perf_counter() - self.begun_s) * 1000
        if left_ms <= 0:
            raise faults.late()
        return left_ms

    def _deadline_ms(self) -> float | None:
        text = self.headers.get(b"x-deadline-ms")
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e9:
            raise Fault(f"X-Deadline-Ms is {text[:20].decode('latin-1')}; write milliseconds, for example 250")
        return value

    def id(self) -> str:
        """The client's, or a new one."""
        return protocol.checked_id(self.header(b"x-request-id")) or secrets.token_hex(12)


class App:
    """The application on the main socket."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(self.house, scope, receive)
        try:
            reply = await self._answered(call)
        except Gone:
            return
        finally:
            call.release()
        await respond(send, reply, close=self.house.draining or _old(scope), head=call.method == "HEAD")

    async def _answered(self, call: Call) -> Reply:
        model: str | None = None
        try:
            match call.method, call.path.strip("/").split("/"):
                case "POST", ["v2", "models", name, "infer"]:
                    model = name
                    reply = await self._infer(call, self.house.model(name), None)
                case "POST", ["v2", "models", name, "versions", version, "infer"]:
                    model = name
                    reply = await self._infer(call, self.house.model(name), version)
                case "POST", ["models", name]:
                    model = name
                    reply = await self._plain(call, self.house.model(name))
                case "POST", ["feedback"]:
                    reply = await self._feedback(call)
                case "GET" | "HEAD", words:
                    reply = self._looked(words)
                case _, words:
                    raise _nowhere(call.method, words)
        except Fault as fault:
            reply = refusal(fault)
        except SpringtideError as error:
            reply = told({"error": str(error)}, 503)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception:
            number = secrets.token_hex(4)
            _log.exception("error %s", number)
            reply = told({"error": f"something went wrong here; its number in the log is {number}"}, 500)
        if model is not None:
            known = model if model in self.house.models else ""
            self.house.metrics.answered(known, reply.status, time.perf_counter() - call.begun_s)
        return reply

    # --- a model is asked

    async def _infer(self, call: Call, model: Model, version: str | None) -> Reply:
        body = await call.body()
        ask = protocol.decode(body, _json_length(call))
        id = ask.id or call.id()
        loaded = model.choose(call.header(b"x-request-key") or id, version)
        outputs = await model.compute(loaded, ask.inputs, call.left_ms(ask.deadline_ms))
        content, length = protocol.encode(model.name, loaded.number, id, outputs, ask)
        self._note(id, loaded, ask.inputs, outputs, len(body) + len(content))
        if length is None:
            return Reply(content)
        return Reply(content, 200, _BYTES, [(protocol.JSON_LENGTH, str(length).encode())])

    async def _plain(self, call: Call, model: Model) -> Reply:
        body = await call.body()
        id = call.id()
        loaded = model.choose(call.header(b"x-request-key") or id)
        given = plain.read(body, call.header(b"content-type").partition(";")[0].strip().lower())
        if plain.own(loaded, "preprocess") is not None:
            inputs = await model.queue.run(lambda: plain.prepared(loaded, given))
        else:
            inputs = plain.direct(loaded, given)
        outputs = await model.compute(loaded, inputs, call.left_ms())
        if plain.own(loaded, "postprocess") is not None:
            said = await model.queue.run(lambda: plain.finished(loaded, outputs))
        else:
            said = plain.finished(loaded, outputs)
        try:
            content = msgspec.json.encode({"id": id, "version": loaded.number, "output": said})
        except TypeError as error:
            raise Fault(f"postprocess of {model.name} returned what JSON does not hold: {error}", 500) from None
        self._note(id, loaded, given, said, len(body) + len(content))
        return Reply(content)

    def _note(self, id: str, loaded: Loaded, given: Any, output: Any, size: int) -> None:
        """For the stream; off where there is none."""
        if self.house.journal is None or self.house.feedback is None:
            return
        self.house.feedback.answered(id, loaded.name, loaded.number)
        record = {
            "kind": "request", "id": id, "model": loaded.name, "version": loaded.number, "time": time.time(),
            "input": given, "output": output,
        }  # fmt: skip
        self.house.journal.add(record, size)

    async def _feedback(self, call: Call) -> Reply:
        if self.house.feedback is None:
            raise Fault("no feedback is kept here: the server was given no stream; start it with --requests URL", 404)
        body = await call.body()
        record = await asyncio.to_thread(self.house.feedback.take, body)
        return told({key: record[key] for key in ("id", "model", "version")})

    # --- looking

    def _looked(self, words: list[str]) -> Reply:
        match words:
            case ["v2"]:
                return told({"name": "springtide", "version": _VERSION, "extensions": self.house.extensions})
            case ["v2", "health", "live"]:
                return told({"live": True})
            case ["v2", "health", "ready"]:
                return told({"ready": self.house.ready}, 200 if self.house.ready else 400)
            case ["v2", "models", name] | ["v2", "models", name, "versions", _]:
                model = self.house.model(name)
                return told(metadata(model, model.choose("", words[4] if len(words) > 3 else None)))
            case ["v2", "models", name, "ready"]:
                ready = self.house.model(name).serving.production is not None
                return told({"name": name, "ready": ready}, 200 if ready else 400)
            case ["v2", "models", name, "versions", version, "ready"]:
                ready = version in self.house.model(name).metadata()
                return told({"name": name, "ready": ready}, 200 if ready else 400)
            case ["metrics"]:
                return Reply(self.house.metrics.page(), 200, _TEXT)
        raise _nowhere("GET", words)


def _nowhere(method: str, words: list[str]) -> Fault:
    match words:
        case ["v2", "models", _, *_, "infer"] | ["models", _]:
            return Fault(f"{method} asks no model; write POST /{'/'.join(words)[:80]}", 405)
        case ["feedback"]:
            return Fault("write POST /feedback", 405)
    routes = "POST /v2/models/NAME/infer, POST /models/NAME, POST /feedback, GET /v2/models/NAME, GET /metrics"
    return Fault(f"there is nothing at {method} /{'/'.join(words)[:80]}; there is {routes}", 404)


def _json_length(call: Call) -> int | None:
    text = call.headers.get(protocol.JSON_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 12:
        raise Fault("Inference-Header-Content-Length is no number of bytes")
    return int(text)


def metadata(model: Model, loaded: Loaded) -> dict[str, Any]:
    """As the protocol wants it. What is not declared is told as any shape, and outputs as they last were."""
    declared = loaded.signature.declared or {}
    weights = plain.usual_kind(loaded)
    inputs = [
        {"name": name, "datatype": declared[name].datatype, "shape": list(declared[name].shape)}
        if name in declared
        else {"name": name, "datatype": weights, "shape": [-1]}
        for name in loaded.signature.names
    ]
    outputs = [
        {"name": name, "datatype": kind, "shape": [-1, *shape]} for name, (kind, shape) in loaded.outputs.items()
    ]
    return {
        "name": model.name, "versions": sorted(model.metadata(), key=int), "platform": "pytorch_springtide",
        "inputs": inputs, "outputs": outputs,
    }  # fmt: skip


class Admin:
    """The application on the admin socket: the pool's questions, and the registry's "look again"."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(self.house, scope, receive)
        match call.method, call.path:
            case "GET", "/health":
                reply = self._health()
            case "GET", "/metrics":
                reply = Reply(self.house.metrics.page(), 200, _TEXT)
            case "POST", "/refresh":
                reply = await self._refresh(call.query.decode("latin-1"))
            case _:
                reply = told({"error": "there is GET /health, GET /metrics and POST /refresh?model=&version="}, 404)
        await respond(send, reply, close=True)

    def _health(self) -> Reply:
        lacking = [one.why_not for one in self.house.models.values() if one.serving.production is None]
        if lacking:
            return told({"ready": False, "error": "; ".join(lacking)}, 503)
        return told({"ready": self.house.ready})

    async def _refresh(self, query: str) -> Reply:
        from urllib.parse import parse_qs

        said = {key: values[-1] for key, values in parse_qs(query).items()}
        number = said.get("version")
        try:
            model = self.house.model(said.get("model", ""))
            if number is not None and not number.isdecimal():
                raise Fault(f'version is "{number[:40]}"; write a number')
            return told({"model": model.name, "version": await model.refresh(int(number) if number else None)})
        except Fault as fault:
            return refusal(fault)
        except SpringtideError as error:
            return told({"error": str(error)}, 409)
        except Exception as error:
            _log.exception("refresh")
            return told({"error": f"{type(error).__name__}: {error}"}, 500)


def _old(scope: Scope) -> bool:
    """Whether its connection has lived long enough: who calls anew may meet a replica that was not there before."""
    since_s = scope.get("state", {}).get("since_s")
    return since_s is not None and time.monotonic() - since_s > CONNECTION_S


async def respond(send: Send, reply: Reply, close: bool = False, head: bool = False) -> None:
    """`close`: the connection is not to be used again."""
    headers = [(b"content-type", reply.kind), (b"content-length", str(len(reply.body)).encode()), *reply.headers]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})
