"""Versions change under load: no request fails, none is mixed, and whoever promotes waits until all answer anew."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import running
from serve import a_registry
from serve.a_server import Scale, Server, a_server, call, infer, served, tensor
from springtide.serve import promotion
from springtide.serve.registry import Registry
from springtide.serve.server import rollout
from springtide.serve.server.rollout import Rollout
from springtide.spec.errors import SpringtideError


class Load:
    """Callers that never let go of their connections; each answer is held against its version's own model."""

    def __init__(self, port: int, callers: int = 4) -> None:
        self.wrong: list[Any] = []
        self.failed: list[str] = []
        self.answered: Counter[int] = Counter()
        self._port, self._over = port, threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(at,)) for at in range(callers)]

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def _call(self, seed: int) -> None:
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=running.HANGS_SECONDS)
        while not self._over.is_set():
            values = [chance.uniform(-10, 10) for _ in range(chance.randint(1, 4))]
            values = [float(f"{value:.3f}") for value in values]
            try:
                connection.request("POST", "/v2/models/scale/infer", infer(tensor(values, [len(values)])))
                response = connection.getresponse()
                said = json.loads(response.read())
                assert response.status == 200, said
                version = int(said["model_version"])
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            # In single precision, as the version's own model computes it: an elementwise one, so to the last bit.
            if said["outputs"][0]["data"] != Scale(float(version))(_single(values)).tolist():
                self.wrong.append((version, values, said))
            self.answered[version] += 1
        connection.close()

    @property
    def total(self) -> int:
        return sum(self.answered.values())


def _single(values: list[float]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float32)


def _swapped(server: Server, changes: int, requests: int) -> Load:
    """So many changes, in between so many requests; after each, the answer is asked for at once."""
    registry = Registry.open(server.home / "models")
    chance = random.Random(7)
    now = 1
    with Load(server.port) as load:
        for change in range(1, changes + 1):
            running.wait_until(lambda: load.total >= requests * change / (changes + 1), "requests are answered")  # noqa: B023
            if change % 3 == 0:
                made = promotion.rollback(registry, "scale", by="test")
            else:
                now = chance.choice([number for number in (1, 2, 3) if number != now])
                made = promotion.promote(registry, "scale", now, by="test", force=True)
            now = made.number
            assert server.ask(1.0) == (now, float(now))  # when it returns every server answers with it
        running.wait_until(lambda: load.total >= requests, "all are answered")
    return load


def test_no_request_fails_or_is_mixed_while_versions_change(home: Path) -> None:
    with a_server(home) as server:
        load = _swapped(server, changes=6, requests=900)
        assert server.metric("tide_swaps_total") >= 6
        assert server.end() == 0
    assert not load.failed and not load.wrong
    assert len(load.answered) >= 2


@pytest.mark.slow
def test_ten_thousand_requests_over_twenty_promotions_and_roll_backs(home: Path) -> None:
    with a_server(home) as server:
        load = _swapped(server, changes=20, requests=10_000)
        assert server.end() == 0
    print(
        f"{load.total} requests, {len(load.failed)} failed, {len(load.wrong)} mixed, by version {dict(load.answered)}"
    )
    assert not load.failed and not load.wrong


def test_a_version_that_cannot_be_loaded_changes_nothing_and_is_told(home: Path) -> None:
    registry = Registry.open(home / "models")
    with a_server(home) as server:
        text = a_registry.SCALE.replace("    def __init__", '    inputs = {"z": ("FP32", (-1,))}\n\n    def __init__')
        a_registry.write(home, broken_model=text)
        file = a_registry.weights(home / "broken.safetensors", scale=4.0)
        with a_registry.unchecked():
            registry.add("scale", file, build="broken_model:build", code_from=home)
        with Load(server.port, callers=2) as load:
            with pytest.raises(
                SpringtideError, match=r"version 4 of scale was not promoted.*forward has no such parameter"
            ):
                promotion.promote(registry, "scale", 4, by="test", force=True)
            running.wait_until(lambda: load.total > 50, "it goes on answering")
        assert registry.version("scale", "production").number == 1
        assert set(load.answered) == {1} and not load.failed
        server.end()


def test_a_server_without_a_version_says_so_and_takes_the_first_that_is_promoted(home: Path) -> None:
    with a_server(home, promote=None, wait="/v2/health/live") as server:
        assert server.call("GET", "/v2/health/ready")[0] == 400
        status, headers, body = server.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1])))
        assert status == 503 and "retry-after" in headers
        assert "no version of scale is in production; `tide model promote scale VERSION`" in json.loads(body)["error"]
        server.tide("model", "promote", "scale", "2", "--force")
        assert server.ask(3.0) == (2, 6.0)
        assert server.call("GET", "/v2/health/ready")[0] == 200
        server.end()


def test_a_server_that_was_killed_is_not_waited_for_and_its_successor_serves_the_right_version(home: Path) -> None:
    registry = Registry.open(home / "models")
    with a_server(home) as server:
        server.end(signal.SIGKILL)
        assert promotion.promote(registry, "scale", 3, by="test", force=True).number == 3
        server.start()
        assert server.ask(1.0) == (3, 3.0)
        assert len(list((home / "models" / "servers").glob("*.sock"))) == 1  # what the dead one left is gone
        server.end()
    assert not list((home / "models" / "servers").glob("*.sock"))


@pytest.mark.slow
def test_a_canary_answers_its_share_and_the_same_key_meets_the_same_version(home: Path) -> None:
    with a_server(home) as server:
        server.tide("model", "canary", "scale", "2", "30%")
        met: dict[str, set[str]] = {}
        for at in range(120):
            key = f"user-{at % 60}"
            _, _, body = server.call("POST", "/v2/models/scale/infer", infer(tensor([1.0], [1])), X_Request_Key=key)
            said = json.loads(body)
            assert said["outputs"][0]["data"] == [float(said["model_version"])]
            met.setdefault(key, set()).add(said["model_version"])
        assert all(len(versions) == 1 for versions in met.values())
        of_two = sum(versions == {"2"} for versions in met.values())
        assert of_two == sum(rollout.falls(key, 0.3) for key in met) and 5 < of_two < 35
        server.tide("model", "canary", "scale", "off")
        assert {server.ask(1.0)[0] for _ in range(20)} == {1}
        server.end()


def test_a_shadow_is_compared_and_never_answers() -> None:
    async def do(app: Any) -> Any:
        body = infer(tensor([1.0], [1]))
        replies = [await call(app, "POST", "/v2/models/scale/infer", body) for _ in range(5)]
        await app.house.models["scale"].queue.run(lambda: None)
        page = app.house.metrics.page().decode()
        return [json.loads(said)["model_version"] for _, _, said in replies], page

    versions, page = served(Scale(3.0), Scale(3.0), do=do, rollout=(0.0, True))
    assert set(versions) == {"2"} and 'tide_shadow_total{model="scale",outcome="same"} ' in page
    versions, page = served(Scale(1.0), Scale(3.0), do=do, rollout=(0.0, True))
    assert set(versions) == {"2"} and 'tide_shadow_total{model="scale",outcome="different"} ' in page


def test_a_growing_share_keeps_whom_it_had(home: Path) -> None:
    keys = [f"key-{at}" for at in range(1000)]
    few, many = ({key for key in keys if rollout.falls(key, share)} for share in (0.1, 0.3))
    assert few < many and 50 < len(few) < 150 and 230 < len(many) < 370
    assert not any(rollout.falls(key, 0.0) for key in keys) and all(rollout.falls(key, 1.0) for key in keys)
    (home / "models" / "m").mkdir(parents=True)
    rollout.write(home / "models", "m", Rollout(2, 0.1, 3))
    assert rollout.read(home / "models", "m") == Rollout(2, 0.1, 3)
