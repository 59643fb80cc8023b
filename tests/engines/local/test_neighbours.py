"""A job that takes too much is named, and its use is told; whoever runs beside it is not touched."""

from __future__ import annotations

import time

import pytest

from engines.local.grouped import needs_groups
from engines.local.jobs import Seen, a_task, places
from springtide.engines.engine import Phase

FILLS = (
    "import os, time\nwith open(os.environ['TIDE_SCRATCH'] + '/file', 'wb') as file: file.write(os.urandom(4 << 20))\n"
    "time.sleep(600)"
)


def test_who_holds_more_scratch_than_it_may_is_ended_and_named(seen: Seen) -> None:
    filler = a_task("filler", code=FILLS, scratch=2 * 2**20)
    roomy = a_task("roomy", code=FILLS)
    for task in (roomy, filler):
        seen.engine.start(task, places("r1"))
    seen.running(roomy, "r1")
    end = seen.ended(filler, "r1").exit
    assert end is not None
    assert end.cause.startswith("held 4")
    assert end.cause.endswith("of scratch, more than its 2Mi")
    assert any("r1 held" in notice.sentence for notice in seen.notices if notice.job == filler.id)
    assert seen.replica(roomy, "r1").phase == Phase.RUNNING


@needs_groups
def test_what_a_job_used_is_told_and_does_not_fall_when_its_replica_ends(seen: Seen) -> None:
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    task = a_task("busy", code=code)
    seen.engine.start(task, places("r1"))
    seen.ended(task, "r1")
    used = seen.job(task).used
    assert 0.5 <= used.cpu_s < 10
    seen.engine.forget(task.id, ["r1"])
    assert seen.job(task).used.cpu_s >= used.cpu_s


@needs_groups
def test_where_one_process_of_a_replica_ran_out_of_memory_all_of_it_ends(seen: Seen) -> None:
    hog = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    code = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {hog!r}])\ntime.sleep(600)"
    task = a_task("parent", code=code)
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert end is not None
    assert end.cause == "was killed by the kernel: out of memory (limit 256Mi)"


@needs_groups
@pytest.mark.slow
def test_a_fork_bomb_and_a_memory_hog_do_not_end_their_neighbour(seen: Seen) -> None:
    ticks = "import time\nwhile True:\n    time.sleep(0.01)\n    print(time.monotonic(), flush=True)"
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    hog = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    neighbour, bad, worse = a_task("ticks", code=ticks), a_task("bomb", code=bomb), a_task("hog", code=hog)
    seen.engine.start(neighbour, places("r1"))
    seen.running(neighbour, "r1")
    for task in (bad, worse):
        seen.engine.start(task, places("r1"))
    end = seen.ended(worse, "r1").exit
    assert end is not None
    assert end.cause == "was killed by the kernel: out of memory (limit 256Mi)"
    began_s = time.monotonic()
    seen.until(neighbour, lambda _: time.monotonic() > began_s + 2.0)
    seen.engine.stop(bad.id, ["r1"], 0.0)
    seen.ended(bad, "r1")
    assert seen.replica(neighbour, "r1").phase == Phase.RUNNING
