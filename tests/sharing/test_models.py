"""A model of the registry as a service of the pool: promoted under load, killed, and grown by what it is asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from typing import Any

import running
from serve import a_registry
from serve.a_server import infer, tensor
from sharing.world import World, free_port
from springtide.serve.registry import Registry

SERVE = """\
kind: service
name: answer
priority: production
replicas: 1..2
resources: {{cpu: 500m, memory: 1Gi}}
model: scale
port: {port}
requests: log://{log}
load: {{cpu: 50%, window: 3s}}
"""


class Callers:
    """Ask without a pause, each on a connection of its own that is opened anew now and then."""

    def __init__(self, port: int, count: int) -> None:
        self.failed: list[str] = []
        self.mixed: list[Any] = []
        self.answered = 0
        self._port, self._over = port, threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Callers:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def _call(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=running.HANGS_SECONDS)
            try:
                for _ in range(20):
                    version, value = _answer(connection)
                    self.answered += 1
                    if value != 2.0 * version:
                        self.mixed.append((version, value))
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()


def _answer(connection: http.client.HTTPConnection) -> tuple[int, float]:
    connection.request("POST", "/v2/models/scale/infer", infer(tensor([2.0], [1, 1])))
    said = json.loads(connection.getresponse().read())
    return int(said["model_version"]), said["outputs"][0]["data"][0]


def test_a_model_is_served_promoted_grown_and_survives_the_death_of_a_replica(world: World) -> None:
    registry = Registry.open(world.home / "models")
    with a_registry.unchecked():
        for number in (1, 2, 3):
            a_registry.scale(registry, world.folder, float(number))
    world.up("2x1cpu,4Gi", "scale_down: 3s\n")
    port = free_port()
    file = world.folder / "serve.yaml"
    file.write_text(SERVE.format(port=port, log=world.home / "asked"))
    assert world.tide("submit", file).returncode == 0
    world.until(lambda: _version(port) == "", "a replica says that no version is in production")
    _promote(world, 1)
    world.until(lambda: _version(port) == "1", "it answers with the first that is promoted")
    world.until_row("answer", state="running")

    with Callers(port, 4) as callers:
        world.until(
            lambda: len(world.pids("answer")) == 2 and len(registry.servers("scale")) == 2, "the load has it grow"
        )
        for number in (2, 3):
            _promote(world, number)
            assert {_version(port) for _ in range(10)} == {str(number)}  # whichever replica is asked
    assert not callers.failed and not callers.mixed, (callers.failed[:2], callers.mixed[:2])

    os.kill(world.pids("answer")[0], signal.SIGKILL)
    world.until(
        lambda: world.pids("answer") and _version(port) == "3", "another takes its place, with the right version"
    )
    world.until(lambda: len(world.pids("answer")) == 1, "and without a load one is enough")
    assert (world.home / "asked").is_dir()
    assert world.tide("cancel", "answer").returncode == 0
    world.until(lambda: not world.pids("answer"), "it ends")
    assert not registry.servers("scale")


def _promote(world: World, number: int) -> None:
    done = world.tide("model", "promote", "scale", number, "--force")
    assert done.returncode == 0, done.stdout + done.stderr


def _version(port: int) -> str:
    """Of an answer; empty where there is none yet; "-" where nobody is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("POST", "/v2/models/scale/infer", infer(tensor([2.0], [1, 1])))
        response = connection.getresponse()
        said = json.loads(response.read())
        assert response.status == 200 or "no version of scale is in production" in said["error"], said
        return str(said.get("model_version", ""))
    except OSError:
        return "-"
    finally:
        connection.close()
