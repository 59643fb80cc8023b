"""One job's blow-up harms nobody else: memory, processes, words, scratch; and the offender is named."""

from __future__ import annotations

import threading

import pytest

import running
from engines.local.jobs import PLAIN, Seen, a_task, places
from springtide.engines.local import logs
from springtide.spec.resources import Resources

FLOOD = "import os\nblock = b'x' * 999 + b'\\n'\nwhile True: os.write(1, block * 64)"


def _can_limit(seen: Seen, what: str) -> None:
    if what not in seen.engine._groups.limits:
        pytest.skip(f"{what} cannot be limited here: {seen.engine.sentence}")


def test_who_takes_too_much_memory_is_ended_alone_and_told_why(seen: Seen) -> None:
    _can_limit(seen, "memory")
    small = Resources(cpu=1, memory=64 * 2**20)
    hog = a_task("hog", code="x = []\nwhile True: x.append(bytearray(2**20))", resources=small)
    calm = a_task("calm", code="import time; time.sleep(1000)")
    seen.engine.start(calm, places("r1"))
    (pid,) = seen.running(calm, "r1")
    seen.engine.start(hog, places("r1", "r2"))
    for name in ("r1", "r2"):
        assert seen.ended(hog, name).exit.cause == "was killed by the kernel: out of memory (limit 64Mi)"
    assert seen.running(calm, "r1") == [pid]


def test_a_fork_bomb_ends_at_its_limit_and_leaves_nobody(seen: Seen) -> None:
    _can_limit(seen, "pids")
    code = (
        "import os, time\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: os.write(1, b'no more\\n'); time.sleep(1000)\n"
    )
    task = a_task("bomb", code=code, resources=Resources(cpu=0.5, memory=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("springtide.engines.local.orders.PIDS", 50)
        seen.engine.start(task, places("r1"))
    folder = seen.engine.root / "logs" / task.id
    running.wait_until(lambda: logs.tail(folder, "r1", 1) == ["no more"], "it meets its limit")
    seen.engine.stop(task.id, ["r1"], 0.0)
    assert seen.ended(task, "r1").exit.asked
    assert seen.engine._groups.group(task.id, "r1").pids() == []


def test_a_flood_of_words_is_held_back_told_once_and_kept_small(seen: Seen) -> None:
    task = a_task("flood", code=FLOOD, resources=PLAIN)
    seen.engine.start(task, places("r1"))
    seen.until(task, lambda _: seen.notices, "it is told")
    folder = seen.engine.root / "logs" / task.id
    running.wait_until(lambda: (folder / "r1.log.1").exists(), "the log is turned over")
    seen.until(task, lambda _: True)
    assert [notice.sentence for notice in seen.notices] == [
        "replica r1 writes more than 4 MB/s of log and is held back"
    ]
    seen.engine.stop(task.id, ["r1"], 0.2)
    seen.ended(task, "r1")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= logs.ROTATE_BYTES * logs.KEPT
    assert logs.tail(folder, "r1", 2)[0] == "x" * 999


def test_who_follows_hears_every_line_across_turning_over_to_the_end(seen: Seen) -> None:
    count = 60_000
    task = a_task("talk", code=f"for n in range({count}): print(f'{{n:0200}}')")
    seen.engine.start(task, places("r1"))
    seen.until(task, lambda job: job.replicas["r1"].pid, "it has begun")
    found = [int(line) for line in logs.follow(seen.engine.root / "logs" / task.id, "r1", threading.Event())]
    assert found == list(range(count))


def test_what_a_replica_leaves_running_ends_with_it(seen: Seen) -> None:
    task = a_task("leaver", code="import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)")
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert end.good
    assert not running.process.alive(int(end.tail[0]), running.process.started(int(end.tail[0])) or 1)
