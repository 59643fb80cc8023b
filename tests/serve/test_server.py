"""A real server from outside: public clients, the plain form, what is kept of requests, and its end."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import running
from serve import a_registry
from serve.a_server import Server, a_server, free_port, infer, tensor
from springtide.data.streams import open_stream
from springtide.serve.registry import Registry
from springtide.serve.server import rollout
from springtide.serve.server.journal import Journal
from springtide.serve.server.metrics import Metrics

WORDS = '''
import time

import torch

class Words(torch.nn.Module):
    """Says how often "a" and "b" stand in a text; bytes are lengths."""

    inputs = {"counts": ("FP32", (-1, 2))}

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, counts):
        time.sleep(0.001)
        return counts * self.weight

    def preprocess(self, body):
        if isinstance(body, bytes):
            return {"counts": torch.tensor([float(len(body)), 0.0])}
        return {"counts": torch.tensor([float(body["text"].count(one)) for one in "ab"])}

    def postprocess(self, output):
        return {"a": int(output[0]), "b": int(output[1])}

    def redact(self, record):
        return record


def build():
    return Words()
'''


def _words(home: Path) -> None:
    registry = Registry.open(home / "models")
    a_registry.write(home, words_model=WORDS)
    file = a_registry.weights(home / "words.safetensors", weight=[1.0, 1.0])
    with a_registry.unchecked():
        registry.add("words", file, build="words_model:build", code_from=home)
    registry.promote("words", 1, by="test", force=True)


def _two_models(home: Path) -> Iterator[Server]:
    _words(home)
    with a_server(home, "--requests", f"log://{home}/asked", models=("scale", "words")) as server:
        yield server
        assert server.process is None or server.process.poll() is not None or server.end() == 0, server.log


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two models in one server, and a stream of what they are asked; for tests that do it no harm."""
    yield from _two_models(tmp_path_factory.mktemp("both"))


@pytest.fixture
def own(home: Path) -> Iterator[Server]:
    """The same, for one test alone."""
    yield from _two_models(home)


def test_tritons_own_client_talks_to_it(both: Server) -> None:
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{both.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("scale")
    assert client.is_model_ready("scale", "1") and not client.is_model_ready("scale", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata("words")
    assert told["inputs"] == [{"name": "counts", "datatype": "FP32", "shape": [-1, 2]}]
    given = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    for binary in (True, False):
        asked = triton.InferInput("x", given.shape, "FP32")
        asked.set_data_from_numpy(given, binary_data=binary)
        wanted = [triton.InferRequestedOutput("output", binary_data=binary)]
        found = client.infer("scale", [asked], outputs=wanted, request_id="mine")
        assert np.array_equal(found.as_numpy("output"), given)
        assert (found.get_response()["id"], found.get_response()["model_version"]) == ("mine", "1")
    zipped = client.infer("scale", [asked], request_compression_algorithm="gzip")
    assert np.array_equal(zipped.as_numpy("output"), given)
    with pytest.raises(triton.InferenceServerException, match='no model "scael" here; did you mean "scale"'):
        client.infer("scael", [asked])
    client.close()


def test_the_plain_form_goes_through_the_models_own_processing(both: Server) -> None:
    _, _, body = both.call("POST", "/models/words", b'{"text": "abba"}', Content_Type="application/json")
    said = json.loads(body)
    assert said.get("output") == {"a": 2, "b": 2} and said["version"] == 1 and said["id"], said
    _, _, body = both.call("POST", "/models/words", b"\0\1\2", Content_Type="audio/wav", X_Request_Id="mine")
    assert json.loads(body) == {"id": "mine", "version": 1, "output": {"a": 3, "b": 0}}
    _, _, body = both.call("POST", "/models/scale", b'{"x": [[1, 2], [3, 4]]}', Content_Type="application/json")
    assert json.loads(body)["output"] == [[1.0, 2.0], [3.0, 4.0]]
    for path, given, sentence in (
        ("/models/scale", b'{"x": [[1], [2, 3]]}', "input x: data is not nested as shape [1, 2, 1] says"),
        ("/models/scale", b"[1]", "the body is no JSON object; write"),
        ("/models/scale", b'{"x": null}', "input x: FP32 wants numbers"),
        ("/models/words", b'{"txt": "a"}', "version 1 of words cannot prepare this"),
        ("/models/words", b"{", "the body is no JSON"),
    ):
        status, _, body = both.call("POST", path, given, Content_Type="application/json")
        assert status == 400 and sentence in json.loads(body)["error"], body


def test_what_is_answered_and_corrected_is_in_the_stream(both: Server) -> None:
    asked = infer(tensor([1.5], [1, 1]), id="first")
    assert both.call("POST", "/v2/models/scale/infer", asked)[0] == 200
    both.call("POST", "/models/words", b'{"text": "a"}', Content_Type="application/json", X_Request_Id="second")
    both.call("POST", "/models/words", b"\xff", Content_Type="audio/wav", X_Request_Id="third")
    correct = {"id": "second", "correct": {"a": 7}, "user": "u"}
    status, _, body = both.call("POST", "/feedback", json.dumps(correct).encode())
    assert (status, json.loads(body)) == (200, {"id": "second", "model": "words", "version": 1})
    records = _records(both, "first", "second", "third")
    of = {(one["kind"], one["id"]): one for one in records}
    first = of["request", "first"]
    assert first["input"] == {"x": {"datatype": "FP32", "shape": [1, 1], "data": [1.5]}} and first["version"] == 1
    assert first["output"]["output"]["data"] == [1.5]
    assert of["request", "second"]["input"] == {"text": "a"} and of["request", "second"]["output"] == {"a": 1, "b": 0}
    assert base64.b64decode(of["request", "third"]["input"]["base64"]) == b"\xff"
    kept = of["feedback", "second"]
    assert (kept["correct"], kept["user"], kept["model"], kept["version"]) == ({"a": 7}, "u", "words", 1)
    assert both.metric('tide_log_records_total{kind="request"}') >= 3


def test_feedback_counts_once_and_belongs_to_an_answer(both: Server) -> None:
    both.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1]), id="one"))
    given = b'{"id": "one", "correct": 1}'
    assert both.call("POST", "/feedback", given)[0] == 200
    for body, status, sentence in (
        (given, 409, 'the answer "one" has its feedback already'),
        (b'{"id": "two", "correct": 1}', 404, 'no answer has the id "two"'),
        (b'{"id": "one"}', 400, 'write {"id": "the id of the answer", "correct": ...}'),
        (b"nonsense", 400, "feedback is a JSON object"),
        (b'{"id": 1, "correct": 1}', 400, "feedback is a JSON object"),
    ):
        found, _, said = both.call("POST", "/feedback", body)
        assert found == status and sentence in json.loads(said)["error"], said


def test_another_server_knows_what_this_one_answered_and_what_was_corrected(own: Server) -> None:
    own.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1]), id="there"))
    _records(own, "there")
    with _second(own) as other:
        for at in range(30):  # corrected by another than who answered, while records of others come
            own.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1]), id=f"own-{at}"))
            own.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1]), id=f"more-{at}"))
            assert other.call("POST", "/feedback", json.dumps({"id": f"own-{at}", "correct": 1}).encode())[0] == 200
        assert other.call("POST", "/feedback", b'{"id": "there", "correct": 1}')[0] == 200
        assert own.call("POST", "/feedback", b'{"id": "there", "correct": 2}')[0] == 409
        own.end(signal.SIGKILL)  # and it remembers nothing
        own.start("--requests", f"log://{own.home}/asked", models=("scale", "words"))
        assert own.call("POST", "/feedback", b'{"id": "there", "correct": 2}')[0] == 409


@pytest.mark.slow
def test_answers_go_on_while_the_stream_is_away(home: Path) -> None:
    away = home / "away"
    away.write_text("a file stands where the log should be")
    with a_server(home, "--requests", f"log://{away}/asked") as server:
        assert [server.ask(float(at))[1] for at in range(20)] == [float(at) for at in range(20)]
        status, headers, body = server.call("POST", "/feedback", b'{"id": "x", "correct": 1}')
        assert status == 503 and "retry-after" in headers and "the feedback cannot be kept now" in body.decode()
        away.unlink()  # it is back
        running.wait_until(lambda: server.metric('tide_log_records_total{kind="request"}') == 20, "all are kept")
        assert server.end() == 0


def test_who_redacts_decides_what_is_kept(home: Path) -> None:
    (home / "private.py").write_text(
        "def redact(record):\n"
        "    if record['id'] == 'secret': return None\n"
        "    if record['id'] == 'broken': raise ValueError('a secret')\n"
        "    return record | {'input': 'removed'}\n"
    )
    with a_server(home, "--requests", f"log://{home}/asked", "--redact", "private:redact") as server:
        for name in ("secret", "broken", "plain"):
            server.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1]), id=name))
        assert [(one["id"], one["input"]) for one in _records(server, "plain")] == [("plain", "removed")]
        assert server.metric('tide_log_dropped_total{why="redaction"}') == 2
        assert server.end() == 0 and "a secret" not in server.log


def test_a_request_lies_in_the_partition_where_its_feedback_will(tmp_path: Path) -> None:
    stream = open_stream(f"log://{tmp_path}/asked", create=True, partitions=3)
    journal = Journal(stream.url, Metrics())
    names = [f"id-{at}" for at in range(50)]
    for name in names:
        journal.add({"id": name, "kind": "request"}, 10)
    journal.close()
    places = {
        json.loads(record.value)["id"]: partition for partition in range(3) for record in stream.read(partition, 0)
    }
    assert set(places.values()) == {0, 1, 2}
    assert places == {name: stream.append([b"{}"], key=name.encode())[0][0] for name in names}
    stream.close()


def test_of_a_sample_only_that_share_is_kept(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = Journal(f"log://{tmp_path}/asked", metrics, sample=0.2)
    for at in range(1000):
        journal.add({"id": f"id-{at}", "kind": "request", "input": at, "output": at}, 10)
    journal.close()  # what waits is written before it ends
    kept = {one["id"] for one in _lines(tmp_path)}
    assert 120 < len(kept) < 280 and kept == {f"id-{at}" for at in range(1000) if rollout.falls(f"id-{at}", 0.2)}


def test_what_a_full_queue_does_not_hold_is_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "away").write_text("")
    metrics = Metrics()
    journal = Journal(f"log://{tmp_path}/away/asked", metrics, most=5, most_bytes=1000)
    for at in range(20):
        journal.add({"id": f"id-{at}", "kind": "request", "input": at, "output": at}, 10)
    page = metrics.page().decode()
    assert (
        sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("tide_log_dropped_total{")) >= 15
    )
    journal.close()


def test_at_its_end_all_that_was_asked_is_answered_and_callers_are_told_to_leave(own: Server) -> None:
    answers: list[Any] = []

    def caller() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=running.HANGS_SECONDS)
        left = False
        while not left:
            connection.request("POST", "/v2/models/words/infer", infer(tensor([1.0, 2.0], [1, 2], "counts")))
            response = connection.getresponse()
            answers.append((response.status, response.read()))
            left = response.getheader("connection") == "close"
        connection.close()

    callers = [threading.Thread(target=caller) for _ in range(8)]
    for one in callers:
        one.start()
    running.wait_until(lambda: len(answers) > 50, "they are answered")
    assert own.end() == 0
    for one in callers:
        one.join()  # each was told, on its own connection
    assert {status for status, _ in answers} == {200}
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", own.port)):
        pass


def test_a_server_says_in_a_sentence_why_it_cannot_begin(both: Server) -> None:
    done = running.tide("serve", "scale", "--port", both.port, home=both.home)
    assert done.returncode == 4 and f"port {both.port} of 127.0.0.1 cannot be listened on" in done.stderr
    done = running.tide("serve", "scael", "--port", free_port(), home=both.home)
    assert done.returncode == 2 and 'there is no model "scael"; did you mean "scale"' in done.stderr
    done = running.tide("serve", "scale", "--port", free_port(), "--redact", "a:b", "--requests", "x", home=both.home)
    assert done.returncode == 2 and "--redact: a:b" in done.stderr and "Traceback" not in done.stderr


def test_a_caller_who_never_finishes_keeps_nobody_waiting(both: Server) -> None:
    with socket.create_connection(("127.0.0.1", both.port)) as silent:
        silent.sendall(b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert both.ask(2.0) == (1, 2.0)
    running.wait_until(lambda: both.ask(2.0) == (1, 2.0), "and when he hangs up")


def _second(first: Server) -> Any:
    import contextlib

    @contextlib.contextmanager
    def run() -> Iterator[Server]:
        other = Server(first.home)
        try:
            yield other.start("--requests", f"log://{first.home}/asked", models=("scale", "words"))
        finally:
            assert other.end() == 0, other.log

    return run()


def _lines(home: Path) -> list[Any]:
    stream = open_stream(f"log://{home}/asked")
    try:
        return [
            json.loads(record.value)
            for partition, bounds in stream.bounds().items()
            for record in stream.read(partition, bounds.first)
        ]
    finally:
        stream.close()


def _records(server: Server, *ids: str) -> list[Any]:
    """What the stream holds, once requests with these ids are in it."""

    def kept() -> bool:
        return (server.home / "asked" / "log.json").exists() and {
            one["id"] for one in _lines(server.home) if one["kind"] == "request"
        } >= set(ids)

    running.wait_until(kept, f"{ids} are kept")
    return _lines(server.home)
