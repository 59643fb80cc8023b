"""`tide up`, `down`, `status`: a pool begins, is refused a second time, ends, and leaves jobs running if told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from a_pool import NODES, APool

import running
from springtide.train import process


def test_a_pool_says_where_it_is_what_it_has_and_who_is_protected(own_pool: APool) -> None:
    greeting = own_pool.done("up", "-d", "--virtual", NODES)
    status = json.loads(own_pool.done("status", "--json"))
    assert str(own_pool.home / "pool" / "pool.sock") in greeting and f"pid {status['pid']}" in greeting
    assert "4: 0 of 4 cores" in greeting
    assert "not protected from each other" in greeting and "limits" in greeting
    assert status["address"].endswith("pool.sock") and len(status["nodes"]) == 4
    refused = own_pool("up", "-d")
    assert refused.returncode == 4
    assert f"a pool runs here already (pid {status['pid']}, since" in refused.stderr
    assert "none unfinished" in own_pool.done("status")
    assert "the pool has ended" in own_pool.done("down")
    gone = own_pool("status")
    assert gone.returncode == 3 and "`tide up` starts one" in gone.stderr
    assert own_pool("down").returncode == 3


def test_what_hinders_a_pool_is_the_servers_own_sentence(own_pool: APool, tmp_path: Path) -> None:
    wrong = own_pool("up", "-d", "--virtual", "4xcpu")
    assert wrong.returncode == 2 and "--virtual" in wrong.stderr and "4x1gpu" not in wrong.stdout
    (tmp_path / "pool.yaml").write_text("teams:\n  - {name: vision, wieght: 2}\n")
    wrong = own_pool("up", "-d", "--pool", tmp_path / "pool.yaml")
    assert wrong.returncode == 2 and 'did you mean "weight"?' in wrong.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = own_pool("up", "-d", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.returncode in (1, 2, 4) and "Traceback" not in refused.stderr
    assert refused.stderr.startswith("tide: ") and refused.stderr.count("\n") == 1
    assert not running.of_home(own_pool.home)


@pytest.mark.parametrize("how", ["kept", "killed"])
def test_jobs_outlive_the_pool_and_the_next_one_takes_them_over(how: str, own_pool: APool) -> None:
    own_pool.done("up", "-d", "--virtual", NODES)
    own_pool.sleeper("sleeper")
    own_pool.until("sleeper", state="running", replicas=1)
    workers = own_pool.row("sleeper")["workers"]
    server = json.loads(own_pool.done("status", "--json"))["pid"]
    if how == "kept":
        assert "the jobs go on" in own_pool.done("down", "--keep")
    else:
        os.kill(server, signal.SIGKILL)
        running.wait_until(lambda: not process.alive(server, process.started(server)), "the server is gone")
        listed = own_pool("ps")
        assert listed.returncode == 0 and "the jobs of the pool are not listed" in listed.stderr
    assert all(process.stat(worker["pid"]) for worker in workers)
    own_pool.done("up", "-d", "--virtual", NODES)
    own_pool.until("sleeper", state="running", replicas=1)
    assert [one["pid"] for one in own_pool.row("sleeper")["workers"]] == [one["pid"] for one in workers]
    own_pool.done("down")
    assert not any(process.stat(worker["pid"]) for worker in workers)


def test_in_the_foreground_events_are_shown_and_an_interrupt_stops_all(own_pool: APool, tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    with said.open("wb") as out:
        up = subprocess.Popen(
            [str(running.TIDE), "up", "--virtual", NODES], env=running.environment(own_pool.home), stdout=out,
            stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        running.wait_until(lambda: "nodes" in said.read_text(), "the pool answers")
        own_pool.sleeper("sleeper")
        running.wait_until(lambda: "sleeper" in said.read_text(), "an event is shown")
        own_pool.until("sleeper", state="running", replicas=1)
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(running.HANGS_SECONDS) == 130
    finally:
        up.kill()
        up.wait()
    assert "every job writes a checkpoint and stops" in said.read_text()
    assert not running.of_home(own_pool.home)


@pytest.mark.slow
def test_a_second_interrupt_leaves_what_does_not_end(own_pool: APool, tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    with said.open("wb") as out:
        up = subprocess.Popen(
            [str(running.TIDE), "up", "--virtual", NODES], env=running.environment(own_pool.home), stdout=out,
            stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        running.wait_until(lambda: "nodes" in said.read_text(), "the pool answers")
        deaf = 'trap "" TERM; echo deaf; while :; do sleep 1; done'
        own_pool.done("submit", "--name", "deaf", "--cpu", "500m", "--folder", "none", "--", "sh", "-c", deaf)
        running.wait_until(lambda: "deaf" in own_pool("logs", "deaf").stdout, "it cannot be told to end")
        (worker,) = own_pool.row("deaf")["workers"]
        os.killpg(up.pid, signal.SIGINT)
        running.wait_until(lambda: "Ctrl-C again leaves those running" in said.read_text(), "it was heard")
        running.wait_until(lambda: own_pool.client.replicas("deaf")[0]["phase"] == "stopping", "it was told to end")
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(running.HANGS_SECONDS) == 130
        assert process.stat(worker["pid"])
    finally:
        up.kill()
        up.wait()
    assert "what still ran goes on" in said.read_text()
    own_pool.done("up", "-d", "--virtual", NODES)
    own_pool.done("cancel", "deaf")


def test_a_pool_elsewhere_is_reached_with_a_token(own_pool: APool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    own_pool.done("up", "-d", "--virtual", NODES, "--listen", address)
    token = own_pool.done("token", "new", "--team", "default", "--scope", "viewer", "--name", "ci", "--quiet").strip()
    there = {"TIDE_POOL": f"http://{address}"}
    assert own_pool("ps", **there).returncode == 4
    assert own_pool("ps", **there, TIDE_TOKEN=token).returncode == 0
    assert json.loads(own_pool.done("status", "--json", **there, TIDE_TOKEN=token))["address"].endswith(address)
    refused = own_pool("down", **there, TIDE_TOKEN=token)
    assert refused.returncode == 4 and refused.stderr.startswith("tide: ")
    nowhere = own_pool("ps", TIDE_POOL="http://127.0.0.1:9")
    assert nowhere.returncode == 3 and "127.0.0.1:9" in nowhere.stderr
