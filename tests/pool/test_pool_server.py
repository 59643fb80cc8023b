"""A real pool server in a process of its own, asked over real sockets, ended and killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.pools import PoolProcess, a_pool
from running import HANGS_SECONDS, wait_until
from springtide import Client
from springtide.pool.database import Database
from springtide.pool.listeners import listen_at
from springtide.pool.store import Store
from springtide.spec import Job, Kind, Range, UserError
from springtide.spec.errors import Refused, SpringtideError, Unreachable

BATCH = Job(kind=Kind.BATCH, name="one", command=("true",))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    with a_pool(tmp_path_factory.mktemp("server") / "home") as found:
        yield found


@pytest.fixture
def client(pool: PoolProcess) -> Iterator[Client]:
    with pool.client() as found:
        yield found
        cancel_all(found)
        wait_until(lambda: found.jobs(state="live") == [], "nothing is left")


def cancel_all(client: Client) -> None:
    for row in client.jobs(state="live"):
        with contextlib.suppress(Refused):  # it ended meanwhile
            client.cancel(row["name"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- one server


def test_it_says_who_it_is_and_writes_down_where(pool: PoolProcess, client: Client) -> None:
    said, kept = client.health(), json.loads((pool.home / "pool" / "server.json").read_text())
    assert said["pid"] == kept["pid"] == pool.process.pid
    assert said["address"] == kept["address"] == str(pool.socket)
    assert (said["engine"], said["ok"], said["protected"]) == ("simulated", True, False)


def test_a_second_server_is_refused_and_the_first_one_named(pool: PoolProcess) -> None:
    words = [sys.executable, str(Path(__file__).with_name("pools.py")), "1", ""]
    path = os.pathsep.join(str(Path(__file__).parents[number]) for number in (1, 2))
    done = subprocess.run(
        words, env=os.environ | {"TIDE_HOME": str(pool.home), "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert f"a pool runs here already (pid {pool.process.pid}, since " in done.stderr
    assert "`tide down` ends it" in done.stderr


def test_a_file_is_submitted_with_its_folder_and_its_script(client: Client, pool: PoolProcess, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print()\n")
    (tmp_path / "jobs.yaml").write_text("kind: training\nname: fill\nscript: code/train.py\nreplicas: 1..2\n")
    (row,) = client.submit(tmp_path / "jobs.yaml")["jobs"]
    found = client.job("fill")
    assert found["script"] == "code/train.py"
    copy = pool.home / "pool" / "sources" / found["source"]
    assert (copy / "code" / "train.py").read_text() == "print()\n"
    (tmp_path / "code" / "train.py").write_text("print(1)\n")
    (again,) = client.submit(tmp_path / "jobs.yaml")["jobs"]
    assert (again["id"], again["outcome"]) == (row["id"], "updated")


def test_a_script_outside_of_the_folder_is_refused_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "train.py").write_text("")
    job = Job(kind=Kind.TRAINING, name="out", script=str(tmp_path / "train.py"), folder=str(tmp_path / "in"))
    with pytest.raises(UserError, match="lies outside of the folder"):
        client.submit(job)


def test_errors_are_the_pool_s_own_sentences_with_their_kind(client: Client) -> None:
    with pytest.raises(UserError, match='there is no job "nonsense"'):
        client.job("nonsense")
    client.submit(BATCH)
    with pytest.raises(UserError, match="write 4, 1:4, or auto"):
        client.update("one", replicas="x")
    with pytest.raises(Refused, match="only what failed or was cancelled"):
        client.retry("one")


def test_what_comes_in_is_carried_out(client: Client) -> None:
    client.submit(Job(kind=Kind.SERVICE, name="web", command=("serve",), port=8080, replicas=Range(1, 3)))
    client.update("web", replicas=2)
    wait_until(lambda: client.job("web")["replicas"] == 2, "two replicas run")
    assert len(client.replicas("web")) == 2
    assert client.explain("web")["decisions"]
    client.update("web", paused=True)
    wait_until(lambda: client.job("web")["state"] == "paused", "it is paused")


# --- streams


def test_events_are_heard_as_they_happen_and_none_is_lost_or_doubled(client: Client, pool: PoolProcess) -> None:
    heard: list[int] = []
    started = threading.Event()

    def listen() -> None:
        with pool.client() as mine:
            for event in mine.events(after=0, limit=5, follow=True):
                heard.append(event["id"])
                started.set()
                if event["job"] == "last":
                    return

    client.submit([Job(kind=Kind.BATCH, name=f"early-{number}", command=("true",)) for number in range(8)])
    thread = threading.Thread(target=listen)
    thread.start()
    assert started.wait(HANGS_SECONDS)
    cancel_all(client)
    client.submit(Job(kind=Kind.BATCH, name="last", command=("true",)))
    thread.join(HANGS_SECONDS)
    assert not thread.is_alive()
    assert heard == list(range(1, heard[-1] + 1))


def test_a_stream_is_taken_up_where_it_broke(client: Client, pool: PoolProcess) -> None:
    client.submit(BATCH)
    wait_until(lambda: bool(list(client.events(job="one"))), "something happened")
    last = client._get("/events")["next"]
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(pool.socket))
        raw.settimeout(HANGS_SECONDS)
        head = f"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {last - 1}\r\n\r\n"
        raw.sendall(head.encode())
        found = b""
        while b"\ndata:" not in found:
            found += raw.recv(65536)
    assert b"text/event-stream" in found and f"id: {last}\n".encode() in found


def test_who_hears_and_does_not_read_holds_nobody_up(client: Client, pool: PoolProcess) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(pool.socket))
        deaf.sendall(b"GET /v1/events?follow=1&after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        for number in range(5):
            client.submit(Job(kind=Kind.BATCH, name=f"many-{number}", command=("true",)))
        assert client.health()["ok"]
    assert client.health()["ok"]


def test_half_a_request_and_a_broken_one_hold_nobody_up(client: Client, pool: PoolProcess) -> None:
    halves = []
    for text in (
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"GET /v1/jo",
        b"\0\1\2\r\n\r\n",
    ):
        half = socket.socket(socket.AF_UNIX)
        half.connect(str(pool.socket))
        half.sendall(text)
        halves.append(half)
    assert client.health()["ok"]
    for half in halves:
        half.close()
    assert client.health()["ok"]


def test_a_log_is_followed_to_the_end_of_the_job(client: Client, pool: PoolProcess) -> None:
    (row,) = client.submit(BATCH)["jobs"]
    folder = pool.home / "pool" / "logs" / row["id"]
    folder.mkdir(parents=True)
    (folder / "r1.log").write_text("first\n")
    lines = client.logs("one", follow=True)
    assert next(lines) == "first"
    with (folder / "r1.log").open("a") as file:
        file.write("second\n")
    assert next(lines) == "second"
    (folder / "r1.ended").touch()
    client.cancel("one")
    assert list(lines) == []


# --- many at once


def test_many_at_once_are_all_answered(pool: PoolProcess) -> None:
    failed: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            with pool.client() as mine:
                mine.submit(Job(kind=Kind.BATCH, name=f"crowd-{number}", command=("true",)))
                mine.cancel(f"crowd-{number}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_SECONDS)
    assert not failed


# --- ends


def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    for number in range(3):
        with a_pool(tmp_path / "home") as pool, pool.client() as client:
            (row,) = client.submit(Job(kind=Kind.BATCH, name=f"kept-{number}", command=("true",)))["jobs"]
            pool.kill()
        database = Database(tmp_path / "home" / "pool" / "pool.sqlite")
        found = Store(database).job(f"kept-{number}")
        database.close()
        assert found is not None and found.id == row["id"]
    with a_pool(tmp_path / "home") as pool, pool.client() as client:
        assert len(client.jobs()) == 3


def test_sigterm_leaves_what_runs_and_no_socket(tmp_path: Path) -> None:
    with a_pool(tmp_path / "home") as pool, pool.client() as client:
        client.submit(BATCH)
        with Client(pool.socket) as listener:  # who still listens does not hold the end up
            next(iter(listener.events(after=0, follow=True)))
            pool.end()
    assert pool.process.returncode == 0
    assert not pool.socket.exists() and not (tmp_path / "home" / "pool" / "server.json").exists()
    with pytest.raises(Unreachable, match="`tide up` starts one"), Client(pool.socket) as late:
        late.health()


def test_down_ends_it_once_all_has_stopped(tmp_path: Path) -> None:
    with a_pool(tmp_path / "home") as pool, pool.client() as client:
        client.submit(Job(kind=Kind.SERVICE, name="web", command=("serve",), port=8080, grace_s=2.0))
        wait_until(lambda: client.job("web")["state"] == "running", "it runs")
        assert client.down() == {"keep": False}
        assert pool.process.wait(HANGS_SECONDS) == 0


def test_the_log_holds_neither_tokens_nor_secrets(tmp_path: Path) -> None:
    with a_pool(tmp_path / "home") as pool, pool.client() as client:
        token = client.new_token("default", "admin")["token"]
        client.set_secret("db", "s3cret-value")
        with pytest.raises(Refused), pool.client(token + "x") as wrong:
            wrong.jobs()
        with pool.client(token) as right:
            assert right.tokens() and right.secrets() and right.jobs() == []
    log = (tmp_path / "home" / "pool" / "server.log").read_text()
    assert log and token not in log and "s3cret" not in log


# --- TCP


def test_tcp_wants_a_token_and_its_own_host(tmp_path: Path) -> None:
    port = free_port()
    with a_pool(tmp_path / "home", listen=f"127.0.0.1:{port}") as pool, pool.client() as local:
        address = f"http://127.0.0.1:{port}"
        assert local.health()["address"] == address
        with Client(address) as nobody:
            assert nobody.health()["ok"]
            with pytest.raises(Refused, match="wants a token"):
                nobody.jobs()
        token = local.new_token("default", "member", "ci")["token"]
        with Client(address, token) as member:
            member.submit(BATCH)
            assert [row["name"] for row in member.jobs()] == ["one"]
            with pytest.raises(
                Refused, match=r"down wants the scope admin of the whole pool, and token ci \(\w+\) has"
            ):
                member.down()
        with Client(f"http://localhost:{port}", token) as named:
            assert named.jobs()
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET /v1/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            assert b" 400 " in raw.recv(65536).splitlines()[0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="nothing here makes certificates")
def test_a_public_address_is_answered_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pool -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*words.split(), "-keyout", "key", "-out", "cert"], cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    listen = f"0.0.0.0:{port}", str(tmp_path / "cert"), str(tmp_path / "key")
    with a_pool(tmp_path / "home", listen=listen) as pool, pool.client() as local:
        token = local.new_token("default", "viewer")["token"]
        with pytest.raises(Unreachable), Client(f"https://127.0.0.1:{port}", token) as distrustful:
            distrustful.jobs()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        with Client(f"https://127.0.0.1:{port}", token) as client:
            assert client.jobs() == []
            assert client._http.get("/v1/health", headers={"Host": "a.name.of.this.machine"}).status_code == 200


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(AssertionError, match="another process listens there; choose another port"),
            a_pool(tmp_path / "home", listen=f"127.0.0.1:{taken.getsockname()[1]}"),
        ):
            pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file stands here")
    with (
        pytest.raises(AssertionError, match=r"the pool cannot start: .*home.*: not a directory"),
        a_pool(tmp_path / "home"),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.0.0.0:80", "can be reached from other machines, where tokens would travel readable; give --tls-cert"),
        ("pool.example:80", "give --tls-cert and --tls-key, or listen on 127.0.0.1:80"),
        ("80", "is no address; write 127.0.0.1:7070"),
        ("127.0.0.1:99999", "is no address"),
    ],
)  # fmt: skip
def test_a_public_address_without_tls_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        listen_at(text)


def test_tls_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TLS wants both"):
        listen_at("0.0.0.0:80", tmp_path / "cert")
    with pytest.raises(UserError, match="cannot be used"):
        listen_at("0.0.0.0:80", tmp_path / "cert", tmp_path / "key")


# --- a client alone


def test_no_pool_is_one_sentence_with_its_exit_code(tmp_path: Path) -> None:
    for address in (tmp_path / "none.sock", f"http://127.0.0.1:{free_port()}", tmp_path / ("deep" * 40) / "pool.sock"):
        with pytest.raises(Unreachable, match="no pool answers at") as error, Client(address) as client:
            client.health()
        assert error.value.exit_code == 3


def test_a_socket_that_lies_deep_is_reached(tmp_path: Path) -> None:
    with a_pool(tmp_path / ("deep" * 30) / "home") as pool, pool.client() as client:
        assert client.health()["ok"]


def whole_message(caller: socket.socket) -> bytes:
    """Head and body."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += caller.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
    while len(body) < length:
        more = caller.recv(65536)
        found, body = found + more, body + more
    return found


def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_done_twice(pool: PoolProcess, tmp_path: Path) -> None:
    """Between client and pool stands somebody who drops the first answer."""
    front = socket.socket(socket.AF_UNIX)
    front.bind(str(tmp_path / "front.sock"))
    front.listen()

    def between() -> None:
        for lost in (True, False):
            caller, _ = front.accept()
            with caller, socket.socket(socket.AF_UNIX) as back:
                back.connect(str(pool.socket))
                back.sendall(whole_message(caller))
                answer = whole_message(back)
                if not lost:
                    caller.sendall(answer)

    thread = threading.Thread(target=between)
    thread.start()
    with Client(tmp_path / "front.sock") as client:
        answer = client.submit(Job(kind=Kind.BATCH, name="lost", command=("true",)))
    thread.join(HANGS_SECONDS)
    front.close()
    assert answer["jobs"][0]["outcome"] == "submitted"
    with pool.client() as client:
        assert len(client.jobs(name="lost")) == 1
        client.cancel("lost")


def test_something_that_is_no_pool_is_said_to_be_none(tmp_path: Path) -> None:
    front = socket.socket(socket.AF_UNIX)
    front.bind(str(tmp_path / "front.sock"))
    front.listen()

    def other() -> None:
        caller, _ = front.accept()
        with caller:
            caller.recv(65536)
            caller.sendall(b"HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno")

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(SpringtideError, match="is no pool of Springtide"), Client(tmp_path / "front.sock") as client:
        client.health()
    thread.join(HANGS_SECONDS)
    front.close()


def test_the_package_gives_the_client_and_the_command_does_not_wait_for_it() -> None:
    code = (
        "import sys, springtide, springtide.cli; assert 'httpx2' not in sys.modules; springtide.Client; "
        "assert 'httpx2' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANGS_SECONDS)
