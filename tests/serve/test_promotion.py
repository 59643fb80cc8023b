"""Promotion: every living server answers with the new version when it returns, or all stay where they were."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_registry import ended, forked, scale, unchecked

import running
from springtide.serve import promotion
from springtide.serve.registry import Registry
from springtide.spec.errors import Refused, SpringtideError
from springtide.train import process

# A server in a process of its own: it notes what it is asked, and answers as it was told.
SERVER = """
import http.server, json, os, socketserver, sys, time, urllib.parse
from pathlib import Path
path, note, refuses, late_s = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), float(sys.argv[4])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        words = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        number = int(words["version"])
        said = {"model": words["model"], "version": number}
        if number in refuses:
            said = {"error": "there is no room for it"}
        with note.open("a") as file:
            file.write(f"{number}\\n")
        body = json.dumps(said).encode()
        self.send_response(500 if "error" in said else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

print("starting", flush=True)
time.sleep(late_s)
Server(path, Handler).serve_forever()
"""


class AServer:
    """A real process that attends."""

    def __init__(self, registry: Registry, folder: Path, name: str, refuses: tuple[int, ...], late_s: float) -> None:
        self.admin, self._note = folder / f"{name}.sock", folder / f"{name}.asked"
        self._note.touch()
        words = [sys.executable, "-c", SERVER, self.admin, self._note, json.dumps(refuses), str(late_s)]
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        registry.attend("scale", self.admin, self.process.pid, process.started(self.process.pid))

    @property
    def asked(self) -> list[int]:
        return [int(line) for line in self._note.read_text().split()]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three versions, of which the first is production."""
    found = Registry.open(tmp_path / "models")
    with unchecked():
        for value in (1.0, 2.0, 3.0):
            scale(found, tmp_path, value)
    found.promote("scale", 1, by="ada", force=True)
    return found


@pytest.fixture
def servers(registry: Registry, tmp_path: Path) -> Iterator[Any]:
    """Starts servers, and ends them."""
    started: list[AServer] = []

    def start(refuses: tuple[int, ...] = (), late_s: float = 0.0) -> AServer:
        started.append(AServer(registry, tmp_path, f"server-{len(started)}", refuses, late_s))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def _stages(registry: Registry) -> list[str]:
    return [str(one.stage) for one in registry.versions("scale")]


def test_every_server_was_told_when_it_returns_also_one_that_is_still_starting(
    registry: Registry, servers: Any
) -> None:
    told = [servers(), servers(late_s=0.7)]
    change = promotion.promote(registry, "scale", 2, by="ada", force=True)
    assert (change.number, change.before, change.forced) == (2, 1, True)
    assert [one.asked for one in told] == [[2], [2]]
    assert promotion.rollback(registry, "scale", by="ada").number == 1
    assert [one.asked for one in told] == [[2, 1], [2, 1]]
    assert _stages(registry) == ["production", "previous", "candidate"]


def test_one_that_cannot_load_it_undoes_the_promotion_for_all(registry: Registry, servers: Any) -> None:
    able, unable = servers(), servers(refuses=(2,))
    sentence = (
        rf"version 2 of scale was not promoted: the server with process id {unable.process.pid} says: there is no room "
        "for it; version 1 is production again"
    )
    with pytest.raises(SpringtideError, match=sentence):
        promotion.promote(registry, "scale", 2, by="ada", force=True)
    assert (able.asked, unable.asked) == ([2, 1], [2, 1])
    assert _stages(registry) == ["production", "candidate", "candidate"]
    assert [one.action for one in registry.changes("scale")][-2:] == ["promote", "undo"]
    assert "there is no room for it" in registry.changes("scale")[-1].why


def test_a_first_promotion_that_fails_leaves_no_production(tmp_path: Path, servers: Any, registry: Registry) -> None:
    other = Registry.open(tmp_path / "other")
    with unchecked():
        scale(other, tmp_path, 1.0)
    unable = servers(refuses=(1,))
    other.attend("scale", unable.admin, unable.process.pid, process.started(unable.process.pid))
    with pytest.raises(SpringtideError, match="nothing else was production before"):
        promotion.promote(other, "scale", 1, by="ada", force=True)
    assert _stages(other) == ["candidate"]


def test_who_is_killed_before_it_answers_is_not_waited_for(registry: Registry, servers: Any) -> None:
    alive, stopped = servers(), servers()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    done: list[object] = []
    thread = threading.Thread(
        target=lambda: done.append(promotion.promote(registry, "scale", 2, by="ada", force=True)), daemon=True
    )
    thread.start()
    running.wait_until(lambda: alive.asked == [2], "the living one is told")
    assert thread.is_alive()
    stopped.process.kill()
    thread.join(60)
    assert len(done) == 1
    assert [one.pid for one in registry.servers("scale")] == [alive.process.pid]


def test_who_does_not_answer_in_time_undoes_it(registry: Registry, servers: Any) -> None:
    alive, stopped = servers(), servers()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    with pytest.raises(SpringtideError, match=r"did not answer within 0\.5 s; version 1 is production again; and the"):
        promotion.promote(registry, "scale", 2, by="ada", force=True, answer_s=0.5)
    assert alive.asked == [2, 1]
    assert _stages(registry)[0] == "production"


def test_a_second_promotion_at_once_is_refused_and_says_whose_is_under_way(registry: Registry, servers: Any) -> None:
    stopped = servers()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    pid = forked(lambda: promotion.promote(registry, "scale", 2, by="ada", force=True))
    try:
        running.wait_until(lambda: _stages(registry)[1] == "production", "the first has begun")
        with pytest.raises(Refused, match=f"a promotion of scale is under way, by ada, process {pid}; try again"):
            promotion.promote(registry, "scale", 3, by="eve", force=True)
        with pytest.raises(Refused, match="under way"):
            promotion.rollback(registry, "scale", by="eve")
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
        assert ended(pid) == 0
    assert promotion.promote(registry, "scale", 3, by="eve", force=True).before == 2


def test_what_a_killed_promotion_left_is_told_by_the_next(registry: Registry, servers: Any) -> None:
    stopped = servers()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    pid = forked(lambda: promotion.promote(registry, "scale", 2, by="ada", force=True))
    running.wait_until(lambda: _stages(registry)[1] == "production", "it has begun")
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    os.kill(stopped.process.pid, signal.SIGCONT)
    before = len(stopped.asked)
    assert promotion.promote(registry, "scale", 2, by="ada").moves == ()
    assert stopped.asked[before:][-1] == 2


def test_what_was_changed_since_is_neither_promoted_nor_gone_back_to(registry: Registry) -> None:
    weights = registry.version("scale", 2).path / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"\0" * weights.stat().st_size)
    with pytest.raises(SpringtideError, match="version 2 of scale was changed since it was registered"):
        promotion.promote(registry, "scale", 2, by="ada", force=True)
    registry.promote("scale", 2, by="ada", force=True)
    promotion.promote(registry, "scale", 3, by="ada", force=True)
    with pytest.raises(SpringtideError, match="version 2 of scale was changed since it was registered"):
        promotion.rollback(registry, "scale", by="ada")
    assert _stages(registry) == ["archived", "previous", "production"]


def test_nothing_is_set_aside_while_a_promotion_may_have_to_be_undone(registry: Registry, servers: Any) -> None:
    stopped = servers()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    pid = forked(lambda: promotion.promote(registry, "scale", 2, by="ada", force=True))
    try:
        running.wait_until(lambda: _stages(registry)[1] == "production", "it has begun")
        with pytest.raises(Refused, match="a promotion of scale is under way"):
            promotion.archive(registry, "scale", 1, by="eve")
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
        assert ended(pid) == 0
    promotion.archive(registry, "scale", 1, by="eve")
    assert _stages(registry) == ["archived", "production", "candidate"]


@pytest.mark.slow
def test_without_a_verdict_the_rule_s_data_are_judged_on_the_spot(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="was not judged, and there is no gate data"):
        promotion.promote(registry, "scale", 3, by="ada")
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"input": {"x": k}, "correct": 2.0 * k}) + "\n" for k in range(1, 5)))
    with pytest.raises(Refused, match="did not pass the gate: accuracy is 0, and the rule wants at least"):
        from springtide.serve.judging import GateRule

        registry.set_rule("scale", GateRule(data=str(held), bound=0.5))
        promotion.promote(registry, "scale", 3, by="ada")
    change = promotion.promote(registry, "scale", 2, by="ada", data=str(held))
    assert (change.why, change.forced) == ("accuracy is 1 on 4 records, production's is 0", False)
    assert len(registry.verdicts("scale", 3)) == len(registry.verdicts("scale", 2)) == 1


def test_a_socket_that_nobody_owns_any_more_is_no_hindrance(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "gone.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    dead = forked(lambda: None)
    registry.attend("scale", path, dead, process.started(dead))
    ended(dead)
    assert promotion.promote(registry, "scale", 2, by="ada", force=True).number == 2
