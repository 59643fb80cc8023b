"""The engine with a user for each team: a real replica, seen from inside and from another team's user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from springtide.engines.engine import Exit, Place, Task
from springtide.engines.local.engine import LocalEngine
from springtide.engines.local.people import People
from springtide.spec.job import Job, Kind

SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not SYSTEM_PYTHON.exists(), reason="needs root, and a Python that everybody may run"
)
INSIDE = """
import os
print(os.getuid(), open("words.txt").read(), open(os.environ["TIDE_SECRETS"] + "/key").read())
for folder in ("/tmp", os.environ["TIDE_SCRATCH"], os.environ["HOME"]):
    open(folder + "/mine", "w").close()
"""


@pytest.fixture(params=["/var/lib", "/tmp"])
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Reachable by everybody; also below /tmp, of which a team sees its own."""
    at = Path(request.param) / f"tide-teams-{os.getpid()}"
    at.mkdir(mode=0o755)
    (at / "source").mkdir()
    (at / "source" / "words.txt").write_text("hello")
    yield at
    shutil.rmtree(at)


def ended(engine: LocalEngine, task: Task) -> Exit:
    engine.start(task, [Place("r1", "node")])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := engine.observe().jobs[task.id].replicas["r1"].exit:
            return found
        engine.wait(0.2)
    raise AssertionError("the replica did not end")


def gone(engine: LocalEngine, job: str) -> None:
    engine.forget(job)
    deadline = time.monotonic() + 60
    while (engine.root / "jobs" / job).exists() and time.monotonic() < deadline:
        engine.wait(0.1)


def test_a_replica_is_its_team_s_and_closed_to_the_others(home: Path) -> None:
    people = People(home / "pool")
    job = Job(kind=Kind.BATCH, name="b", team="red", command=(str(SYSTEM_PYTHON), "-c", INSIDE))
    task = Task("b-1", job, source=home / "source", secrets={"key": b"secret"})
    with contextlib.closing(LocalEngine(home, people=people)) as engine:
        end = ended(engine, task)
        assert (end.code, end.tail) == (0, (f"{people.person('red').uid} hello secret",))
        folder, other = engine.root / "jobs" / "b-1", people.person("blue")
        for closed in ("work-1/words.txt", "secrets/key", "scratch/r1/mine", "replicas/r1/order.json"):
            assert (folder / closed).exists()
            seen = subprocess.run(
                ["/bin/cat", folder / closed], user=other.uid, group=other.gid, extra_groups=[], capture_output=True
            )
            assert seen.returncode != 0, closed
        gone(engine, "b-1")
