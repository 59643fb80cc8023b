"""Services on this machine: replicas on one socket, handed over, and no request lost while they come and go."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import running
from engines.local.jobs import PYTHON, Seen, a_task, places
from springtide.engines.engine import Phase, Task
from springtide.engines.local import admin
from springtide.spec.errors import Refused
from springtide.spec.job import Kind

PLAIN = """
import os, signal, socket, threading
s = socket.socket(fileno=3); s.settimeout(0.05)
stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.is_set():
    try: c, _ = s.accept()
    except (TimeoutError, BlockingIOError): continue
    c.settimeout(5); c.recv(65536); body = str(os.getpid()).encode()
    c.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    c.close()
"""
WITH_ADMIN = """
import os, signal, socket, threading
assert os.environ["LISTEN_FDS"] == "2" and os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
assert os.environ["LISTEN_FDNAMES"] == "main:admin"
served, well = [0], [True]
def answer(c):
    c.settimeout(5); path = c.recv(65536).split()[1]
    if path == b"/metrics": body = b'# HELP x\\ntide_requests_total{code="200"} %d\\n' % served[0]
    else: body = str(os.getpid()).encode()
    if path == b"/sick": well[0] = False
    if path == b"/": served[0] += 1
    status = b"200 OK" if well[0] or path != b"/health" else b"500 Oh"
    c.sendall(b"HTTP/1.1 %s\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body)) + body)
    c.close()
def serve(fd):
    s = socket.socket(fileno=fd); s.settimeout(0.05)
    while not stop.is_set():
        try: c, _ = s.accept()
        except (TimeoutError, BlockingIOError): continue
        try: answer(c)
        except OSError: pass
stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set())
threads = [threading.Thread(target=serve, args=(fd,)) for fd in (3, 4)]
[t.start() for t in threads]; stop.wait(); [t.join() for t in threads]
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(port: int, code: str = PLAIN, **given: object) -> Task:
    return a_task("web", Kind.SERVICE, code, port=port, **given)


def fetch(port: int, path: str = "/") -> int:
    return int(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read())


class Load:
    """Requests, one after the other, from a few clients; whoever answered, and what failed."""

    def __init__(self, port: int) -> None:
        self.answered: list[int] = []
        self.failed: list[str] = []
        self._port, self._stop = port, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            try:
                self.answered.append(fetch(self._port))
            except OSError as error:
                self.failed.append(repr(error))

    def more(self) -> None:
        """Some more requests have been answered."""
        before = len(self.answered)
        running.wait_until(lambda: len(self.answered) >= before + 30, "requests are answered")

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def load(port: int) -> Iterator[list[Load]]:
    made: list[Load] = []
    yield made
    for one in made:
        one.end()


def test_no_request_is_lost_while_replicas_come_and_go(seen: Seen, port: int, load: list[Load]) -> None:
    task = service(port, WITH_ADMIN)
    seen.engine.start(task, places("r1"))
    (first,) = seen.running(task, "r1")
    load.append(Load(port))
    seen.engine.start(task, places("r1", "r2", "r3"))
    seen.running(task, "r1", "r2", "r3")
    running.wait_until(lambda: len(set(load[0].answered[-50:])) == 3, "all three answer")
    seen.until(task, lambda job: job.load and job.load.unit == "requests" and job.load.rate > 0, "they count")
    seen.engine.stop(task.id, ["r1", "r2"], 10)
    for name in ("r1", "r2"):
        end = seen.ended(task, name).exit
        assert (end.code, end.asked) == (0, True)
    load[0].more()
    load[0].end()
    assert load[0].failed == []
    assert first not in load[0].answered[-10:]


def test_requests_wait_in_the_socket_while_nobody_runs(seen: Seen, port: int) -> None:
    task = service(port)
    seen.engine.start(task, places("r1"))
    (pid,) = seen.running(task, "r1")
    running.strike(pid)
    end = seen.ended(task, "r1").exit
    assert (end.cause, end.code, end.asked) == ("was killed by SIGKILL", None, False)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(fetch(port)))
    client.start()
    seen.engine.start(task, places("r2"))
    (pid,) = seen.running(task, "r2")
    client.join()
    assert answers == [pid]


def test_a_killed_shim_is_replaced_and_the_socket_is_taken_back(seen: Seen, port: int, load: list[Load]) -> None:
    task = service(port)
    seen.engine.start(task, places("r1"))
    (pid,) = seen.running(task, "r1")
    load.append(Load(port))
    shim = seen.engine._jobs[task.id].shim or (0, 0)
    time.sleep(1.0)  # an engine replaces a shim once a second at most
    running.strike(shim[0])
    seen.until(task, lambda job: (seen.engine._jobs[task.id].shim or (0, 0))[0] not in (0, shim[0]), "another shim")
    assert seen.running(task, "r1") == [pid]
    seen.engine.start(task, places("r1", "r2"))
    _, second = seen.running(task, "r1", "r2")
    seen.engine.stop(task.id, ["r1"], 10)
    end = seen.ended(task, "r1").exit
    assert (end.code, end.cause) == (None, "ended while its parent was being replaced; how is not known")
    load[0].more()
    load[0].end()
    assert load[0].failed == []
    assert load[0].answered[-1] == second


def test_a_port_in_use_is_refused_and_its_holder_named(seen: Seen, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(Refused, match=rf"port {port} of 127.0.0.1 is in use by .*\(pid \d+\)"):
            seen.engine.start(service(port), places("r1"))
        assert not seen.engine.observe().jobs


def test_each_replica_may_bind_the_port_itself(seen: Seen, port: int) -> None:
    code = (
        "import os, socket\nassert os.environ['LISTEN_FDNAMES'] == 'admin'\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "s.bind(('127.0.0.1', int(os.environ['PORT']))); s.listen(); own = os.dup(s.fileno())\n"
        "os.dup2(own, 3)\n" + PLAIN
    )
    task = service(port, code, listen="own")
    seen.engine.start(task, places("r1", "r2"))
    pids = seen.running(task, "r1", "r2")
    found: set[int] = set()

    def both() -> bool:
        found.add(fetch(port))
        return found == set(pids)

    running.wait_until(both, "both answer")


def test_uvicorn_takes_the_socket(seen: Seen, port: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "app.py").write_text(
        "import os\nasync def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
    )
    command = (PYTHON, "-m", "uvicorn", "--fd", "3", "--log-level", "warning", "app:app")
    task = service(port, source=source, command=command)
    seen.engine.start(task, places("r1"))
    (pid,) = seen.running(task, "r1")
    assert fetch(port) == pid


def test_a_replica_that_is_not_well_any_more_is_ended_and_named(
    seen: Seen, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("springtide.engines.local.admin.SILENT_S", 1.0)
    task = service(port, WITH_ADMIN)
    seen.engine.start(task, places("r1"))
    seen.running(task, "r1")
    asked = seen.engine._lookout._prober
    running.wait_until(lambda: (asked.health((task.id, "r1")) or admin.Health(0)).well_s is not None, "it was well")
    fetch(port, "/sick")
    end = seen.ended(task, "r1").exit
    assert "answered /health with 500 for" in end.cause
    assert any("replica r1 answered /health with 500" in notice.sentence for notice in seen.notices)


def test_a_service_at_rest_gives_its_port_back_and_takes_it_again(seen: Seen, port: int) -> None:
    task = service(port)
    seen.engine.start(task, places("r1"))
    seen.running(task, "r1")
    seen.engine.stop(task.id, ["r1"], 10)
    seen.ended(task, "r1")
    seen.engine.forget(task.id, ["r1"])
    seen.engine.rest(task.id)
    seen.until(task, lambda _: seen.engine._jobs[task.id].channel is None, "its shim has ended")
    with socket.create_server(("127.0.0.1", port)):
        pass
    seen.engine.start(task, places("r2"))
    seen.running(task, "r2")
    assert seen.replica(task, "r2").phase == Phase.RUNNING
