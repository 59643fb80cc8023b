"""The model server beside a plain FastAPI endpoint and LitServe: answers a second and their delays, and a swap's pause.

One process each, the same model (1.2 million parameters, one thread of torch), JSON in and out. The callers are another
process on the same machine, each with one request under way; on two cores they share them with the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.peers.small_model import INPUTS, build
from benchmarks.table import Row
from springtide.serve import promotion
from springtide.serve.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
TIDE = Path(sys.executable).with_name("tide")
LOADS = (1, 8, 32, 64)
OURS, PLAIN = "springtide", "FastAPI"
_STARTS_S = 120.0
_FULL = 0.9  # of the most that a server ever answers: more callers only wait longer


@dataclass(frozen=True)
class Server:
    """A running server; all of its processes are of one session."""

    port: int
    session: int

    def cpu_s(self) -> float:
        """What its processes have used so far."""
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12]) if int(fields[3]) == self.session else 0
        return total / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class System:
    """A server, and how it is asked. `server`: which process; several systems may share one."""

    name: str
    server: str
    path: str
    body: bytes


def main() -> None:
    arguments = table.parse("serving", __doc__)
    seconds, rounds = (2.0, 1) if arguments.quick else (5.0, 3)
    chance = random.Random(0)
    values = [round(chance.random(), 6) for _ in range(INPUTS)]
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as folder, contextlib.ExitStack() as closing:
        home = Path(folder)
        servers = {name: closing.enter_context(_server(name, home)) for name in ("ours", "fastapi", "litserve")}
        rows = decoding(values)
        for at in range(rounds):
            for load in LOADS:
                for system in _systems(values):
                    table.progress(f"round {at + 1}: {system.name}, {load} callers")
                    rows += _asked(system, servers[system.server], load, seconds, home)
        rows = table.median_rows(rows)
        rows += at_equal_delay(rows)
        rows += swaps(_systems(values)[0], servers["ours"].port, home, 6 if arguments.quick else 20)
    for metric in ("answers a second", "p50", "p99", "cores' time for an answer"):
        table.show(metric, rows, metric, PLAIN)
    for metric in ("decoding a request", "most answers a second at that p99 or less", "swap"):
        table.show(metric, rows, metric)
    table.save(arguments.json, rows)


def _systems(values: list[float]) -> list[System]:
    plain = json.dumps({"x": values}).encode()
    tensor = {"name": "input", "shape": [1, INPUTS], "datatype": "FP32", "data": values}
    return [
        System(OURS, "ours", "/models/small", json.dumps({"input": values}).encode()),
        System(f"{OURS}, protocol v2", "ours", "/v2/models/small/infer", json.dumps({"inputs": [tensor]}).encode()),
        System(PLAIN, "fastapi", "/async", plain),
        System(f"{PLAIN}, threads", "fastapi", "/threads", plain),
        System("LitServe", "litserve", "/predict", plain),
    ]


# --- servers


@contextlib.contextmanager
def _server(name: str, home: Path) -> Iterator[Server]:
    """It answers."""
    port = _free_port()
    environment = dict(os.environ)
    match name:
        case "ours":
            environment["TIDE_HOME"] = str(home)
            _register(home, environment)
            command = [str(TIDE), "serve", "small", "--port", str(port)]
            ready = "/v2/health/ready"
        case _:
            command = [str(PEERS), str(ROOT / "benchmarks" / "peers" / f"serve_{name}.py"), str(port)]
            ready = "/health" if name == "litserve" else "/docs"
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home, start_new_session=True
    )
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process)
        yield Server(port, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def _register(home: Path, environment: dict[str, str]) -> None:
    """Two versions of equal weights: the second has one that is never seen in an answer changed."""
    from safetensors.torch import save_file

    (home / "small_model.py").write_text((ROOT / "benchmarks" / "peers" / "small_model.py").read_text())
    weights = build().state_dict()
    for number in (1, 2):
        weights["4.bias"] = weights["4.bias"] + float(number - 1)
        save_file(weights, home / f"v{number}.safetensors")
        words = ("model", "add", "small", str(home / f"v{number}.safetensors"), "--build", "small_model:build")
        subprocess.run([str(TIDE), *words], env=environment, cwd=home, check=True, stdout=subprocess.DEVNULL)
    Registry.open(home / "models").promote("small", 1, by="benchmark", force=True)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _STARTS_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5.0).read()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"{' '.join(map(str, process.args))} does not answer") from None  # type: ignore[arg-type]
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- figures


def _ask(system: System, port: int, load: int, seconds: float, home: Path) -> dict[str, Any]:
    file = home / "body"
    file.write_bytes(system.body)
    words = [sys.executable, "-m", "benchmarks.asking", str(port), system.path, str(file), str(load), str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(words, check=True, capture_output=True, cwd=ROOT).stdout)
    assert not found["failed"], f"{system.name}: {found['failed']} of {found['count']} were not answered"
    return found


def _asked(system: System, server: Server, load: int, seconds: float, home: Path) -> list[Row]:
    before_s = server.cpu_s()
    found = _ask(system, server.port, load, seconds, home)
    each_s = (server.cpu_s() - before_s) / (found["count"] + found["before"])
    work = f"{load} callers" if load > 1 else "1 caller"
    note = f"callers used {found['own_share']:.0%} of a core"
    return [
        Row(work, system.name, 0, "answers a second", found["rate"], "/s", note),
        Row(work, system.name, 0, "p50", found["p50_s"], "s"),
        Row(work, system.name, 0, "p99", found["p99_s"], "s"),
        Row(work, system.name, 0, "cores' time for an answer", each_s * 1e6, "us"),
    ]


def at_equal_delay(rows: list[Row]) -> list[Row]:
    """What each system answers with the p99, or a better one, of the plain endpoint at the load where that is full."""
    figures = {(row.system, row.work, row.metric): row.value or 0.0 for row in rows}
    works = list(dict.fromkeys(row.work for row in rows if row.metric == "p99"))
    most = max(figures[PLAIN, work, "answers a second"] for work in works)
    full = next(work for work in works if figures[PLAIN, work, "answers a second"] >= _FULL * most)
    limit_s = figures[PLAIN, full, "p99"]
    found = []
    for system in dict.fromkeys(row.system for row in rows if row.metric == "p99"):
        rates = [figures[system, work, "answers a second"] for work in works if figures[system, work, "p99"] <= limit_s]
        found.append(
            Row(
                f"p99 of {limit_s * 1e3:.1f} ms", system, 0, "most answers a second at that p99 or less",
                max(rates) if rates else None, "/s", "" if rates else "none",
            )
        )  # fmt: skip
    return found


def swaps(system: System, port: int, home: Path, count: int) -> list[Row]:
    """16 callers, with and without promotions going on: the difference is what a swap costs them."""
    seconds = count * 0.5
    quiet = _ask(system, port, 16, seconds, home)
    over, done = threading.Event(), []

    registry = Registry.open(home / "models")

    def promote() -> None:
        while not over.wait(0.3):
            promotion.promote(registry, "small", 2 - len(done) % 2, by="benchmark", force=True)
            done.append(1)

    thread = threading.Thread(target=promote)
    thread.start()
    swapped = _ask(system, port, 16, seconds, home)
    over.set()
    thread.join()
    return [
        Row("16 callers", name, 0, "swap", value, unit)
        for name, value, unit in (
            ("promotions", float(len(done)), ""), ("failed", float(swapped["failed"]), ""),
            ("p99", swapped["p99_s"], "s"), ("p99 without", quiet["p99_s"], "s"),
            ("longest", swapped["longest_s"], "s"), ("longest without", quiet["longest_s"], "s"),
        )
    ]  # fmt: skip


def decoding(values: list[float]) -> list[Row]:
    """From the bytes of one request to its tensor."""
    import torch

    from springtide.serve.server import protocol

    body = _systems(values)[1].body

    def by_json() -> None:
        torch.tensor(json.loads(body)["inputs"][0]["data"])

    ways = {"json and torch.tensor": by_json, "the server (msgspec)": lambda: protocol.decode(body)}
    return [
        Row(f"{INPUTS} numbers", name, 0, "decoding a request", _each_s(do) * 1e6, "us") for name, do in ways.items()
    ]


def _each_s(do: Any, times: int = 3000) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            do()
        best = min(best, (time.perf_counter() - began) / times)
    return best


if __name__ == "__main__":
    main()
