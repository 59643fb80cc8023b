"""The pool server: jobs a second, from submission to running, what its API takes, what it costs when nothing happens.

A real `tide up` with real processes, beside plain `subprocess` in the same run; and the loop by itself against the
number of jobs, on an engine without processes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import table
from benchmarks.table import Row
from springtide.engines.simulated import SimulatedEngine
from springtide.pool.client import Client
from springtide.pool.database import Database
from springtide.pool.loop import Loop
from springtide.pool.records import JobRecord
from springtide.pool.store import Store
from springtide.spec import Job, Kind, Node, Priority, Range, Resources
from springtide.spec.resources import UNLIMITED
from springtide.train import process

TIDE = Path(sys.executable).with_name("tide")
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    arguments = table.parse("pool", __doc__)
    few = arguments.quick
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as folder:
        with _pool(Path(folder)) as client:
            rows += latency(client, Path(folder), 20 if few else 100)
            rows += submissions(client, 100 if few else 500)
            rows += api(client, 50 if few else 200, 20 if few else 50)
            rows += idle(client, 20 if few else 100, 5.0 if few else 20.0)
        rows += loop(Path(folder), (10, 100, 1000) if few else (10, 100, 1000, 10_000))
    for metric in dict.fromkeys(row.metric for row in rows):
        table.show(metric, rows, metric)
    table.save(arguments.json, [table.machine(), *rows])


@contextmanager
def _pool(home: Path) -> Iterator[Client]:
    environment = os.environ | {"TIDE_HOME": str(home / "home")}
    os.environ["TIDE_HOME"] = environment["TIDE_HOME"]
    up = [str(TIDE), "up", "-d", "--virtual", "16x1000cpu,1000Gi"]
    subprocess.run(up, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=home)
    client = Client()
    try:
        yield client
    finally:
        client.close()
        subprocess.run([str(TIDE), "down"], env=environment, check=True, stdout=subprocess.DEVNULL, cwd=home)


def latency(client: Client, folder: Path, times: int) -> list[Row]:
    """From asking for a process to its first act: a submission against plain `subprocess`."""
    mark = folder / "mark"
    command = (sys.executable, "-S", "-c", f"import time; open({str(mark)!r}, 'a').write(str(time.time()) + '\\n')")

    def by_pool(number: int) -> None:
        client.submit([a_job(f"latency-{number}", command)])

    def by_subprocess(number: int) -> None:
        del number
        subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()

    found = []
    for system, begin in (("tide submit", by_pool), ("subprocess", by_subprocess)):
        delays = [_until_marked(mark, begin, number) for number in range(times)]
        found += _percentiles("submit to running", system, delays)
    return found


def _until_marked(mark: Path, begin: Callable[[int], None], number: int) -> float:
    mark.unlink(missing_ok=True)
    began = time.time()
    begin(number)
    while not mark.exists() or not mark.read_text().endswith("\n"):
        time.sleep(0.001)
    return float(mark.read_text().split()[0]) - began


def submissions(client: Client, count: int) -> list[Row]:
    """Requests of one job each, one after the other, to a pool that has no room for any of them."""
    jobs = [replace(a_job(f"waits-{at}", ("true",), cpu=1000.0), replicas=Range(17, 17)) for at in range(count)]
    began = time.perf_counter()
    for job in jobs:
        client.submit([job])
    seconds = time.perf_counter() - began
    for job in jobs:
        client.cancel(job.name)
    return [Row("submissions", "tide submit", 1, "a second", count / seconds, "jobs/s", f"{count} jobs")]


def api(client: Client, people: int, each: int) -> list[Row]:
    """What a request takes, alone and while many clients ask at once."""
    asked: dict[str, Callable[[Client], object]] = {
        "GET /v1/health": lambda one: one.health(),
        "GET /v1/jobs": lambda one: one.jobs(limit=100),
    }
    rows = []
    for name, ask in asked.items():
        rows += _percentiles(name, "1 client", [_timed(ask, client) for _ in range(each)])
    delays: list[float] = []

    def person() -> None:
        with Client() as own:
            delays.extend([_timed(asked["GET /v1/health"], own) for _ in range(5)])

    threads = [threading.Thread(target=person) for _ in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows + _percentiles("GET /v1/health", f"{people} clients", delays)


def _timed(ask: Callable[[Client], object], client: Client) -> float:
    began = time.perf_counter()
    ask(client)
    return time.perf_counter() - began


def idle(client: Client, jobs: int, seconds: float) -> list[Row]:
    """What the server takes of a core, and holds of memory, while so many jobs sleep."""
    client.submit([a_job(f"sleeps-{at}", ("sleep", "600")) for at in range(jobs)])
    while len(client.jobs(state="running", limit=1000)) < jobs:
        time.sleep(0.2)
    time.sleep(3.0)
    pid = int(client.health()["pid"])
    before, began = _cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    share = (_cpu_s(pid) - before) / (time.monotonic() - began)
    work = f"{jobs} jobs that sleep"
    shims = [_memory_bytes(one) for one in _children_named("springtide.engines.local.shim")]
    return [
        Row(work, "pool server", 1, "share of a core", 100 * share, "%"),
        Row(work, "pool server", 1, "memory", _memory_bytes(pid) / 2**20, "MiB"),
        Row(work, "parent of a job", 1, "memory", statistics.median(shims) / 2**20, "MiB", "proportional set size"),
    ]


def loop(folder: Path, sizes: tuple[int, ...]) -> list[Row]:
    """A round in which one job is new, and one in which nothing happened, against the number of jobs."""
    return [row for jobs in sizes for row in _loop(folder / f"loop-{jobs}", jobs)]


def _loop(folder: Path, jobs: int) -> list[Row]:
    big = replace(UNLIMITED, cpu=float(jobs // 2 + 1), gpu=0.0)
    engine = SimulatedEngine(tuple(Node(name=f"n{at}", resources=big) for at in range(2)))
    store = Store(Database(folder / "pool.db"))
    store.submit([_record(a_job(f"j{at}", ("sleep", "1"), kind=Kind.STREAM)) for at in range(jobs)])
    whole = Loop(store, engine, folder)
    now_s = time.time()
    for _ in range(3):
        whole.round(now_s)
    quiet = [_round_s(whole, now_s) for _ in range(5)]
    busy = []
    for at in range(5):
        store.submit([_record(a_job(f"new-{at}", ("sleep", "1"), kind=Kind.STREAM))])
        busy.append(_round_s(whole, now_s))
    work = f"{jobs:,} jobs"
    return [
        Row(work, "loop", 1, "a round, nothing new", 1000 * statistics.median(quiet), "ms"),
        Row(work, "loop", 1, "a round, one new job", 1000 * statistics.median(busy), "ms"),
    ]


def _round_s(whole: Loop, now_s: float) -> float:
    began = time.perf_counter()
    whole.round(now_s)
    return time.perf_counter() - began


def _record(job: Job) -> JobRecord:
    return JobRecord(id="", job=job, submitted_s=time.time())


def a_job(name: str, command: tuple[str, ...], cpu: float = 1.0, kind: Kind = Kind.BATCH) -> Job:
    return Job(
        kind=kind, name=name, command=command, resources=Resources(cpu=cpu, memory=2**26), priority=Priority.STANDARD
    )


def _percentiles(work: str, system: str, seconds: list[float]) -> list[Row]:
    ordered = sorted(seconds)
    return [
        Row(work, system, 1, "p50", 1000 * statistics.median(ordered), "ms"),
        Row(work, system, 1, "p99", 1000 * ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))], "ms"),
    ]


def _cpu_s(pid: int) -> float:
    seen = process.stat(pid)
    return seen.cpu_ticks / _TICKS if seen else 0.0


def _memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _children_named(word: str) -> list[int]:
    mark = os.environ["TIDE_HOME"].encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in words and mark in words:
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
