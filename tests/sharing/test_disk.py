"""Work that leans on the disk and work that leans on cores meet on the same nodes, and end sooner for it."""

from __future__ import annotations

import pytest

from sharing.world import World, batch
from springtide.spec import Job, Resources

# A disk so slow that its limit decides, and not the machine's disk.
NODES = "2x500mcpu,1Gi,disk:8MB/s"
MEMORY = 128 * 2**20
WRITES = """
import mmap, os
at = os.open(os.environ["TIDE_SCRATCH"] + "/file", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
block = mmap.mmap(-1, 1 << 20)
for number in range(18):
    os.pwrite(at, block, number << 20)
"""
COUNTS = """
import time
while time.process_time() < 1.2:
    pass
"""


@pytest.mark.slow
def test_disk_and_cores_together_are_done_sooner_than_one_after_the_other(world: World) -> None:
    world.up(NODES)
    alone_s = 0.0
    for kind in (_writer, _counter):
        alone_s += _took_s(world, *(kind(f"{kind.__name__[1:]}-alone-{number}") for number in range(2)))
    jobs = [kind(f"{kind.__name__[1:]}-{number}") for number in range(2) for kind in (_writer, _counter)]
    together_s = _took_s(world, *jobs)
    told = [world.told(job.name, "start") for job in jobs]
    print(f"together {together_s:.1f} s, one after the other {alone_s:.1f} s")
    assert sum("where it leans on" in one for one in told) == 2, told
    assert together_s < 0.8 * alone_s


def _writer(name: str) -> Job:
    """Writes past the page cache, so that the limit of its group is what it feels."""
    return batch(name, WRITES, resources=Resources(cpu=0.1, memory=MEMORY, disk=6e6))


def _counter(name: str) -> Job:
    return batch(name, COUNTS, resources=Resources(cpu=0.4, memory=MEMORY))


def _took_s(world: World, *jobs: Job) -> float:
    """From the first submission to the last end."""
    world.submit(*jobs)
    rows = [world.until_row(job.name, state="done") for job in jobs]
    return float(max(row["finished_s"] for row in rows) - min(row["submitted_s"] for row in rows))
