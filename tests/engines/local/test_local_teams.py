"""Where each team has its own user: what replicas find is theirs, and only theirs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import running
from engines.local.jobs import Seen, a_task, of_engine, places
from engines.local.test_training import ROOM, SCRIPT, rooms
from springtide.engines.engine import run_name
from springtide.engines.local.engine import LocalEngine
from springtide.engines.local.people import People, refusal
from springtide.spec.job import Kind

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give teams users of their own")


@pytest.fixture
def seen() -> Iterator[Seen]:
    home = Path(tempfile.mkdtemp(dir="/var/lib"))  # a place that other users may pass through
    home.chmod(0o711)
    found = Seen(LocalEngine(home, people=People(home / "pool")))
    yield found
    for job in list(found.engine._jobs):
        found.engine.forget(job)

    def nobody() -> bool:
        found.engine.wait(0.02)
        return not found.engine._jobs

    running.wait_until(nobody, "all jobs are gone")
    found.engine.close()
    assert not of_engine(home)
    shutil.rmtree(home)


def test_a_replica_is_its_teams_user_and_can_use_what_it_is_given(seen: Seen, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "given").write_text("given")
    command = ("sh", "-c", "id -u; cat $TIDE_SECRETS/key given; echo; touch here $TIDE_SCRATCH/there && echo mine")
    task = a_task("theirs", command=command, secrets={"key": b"s3"}, source=source, team="vision")
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    uid, given, mine = end.tail
    assert (end.good, given, mine) == (True, "s3given", "mine")
    assert int(uid) > 0


def test_training_of_a_team_runs_and_reports(seen: Seen, tmp_path: Path) -> None:
    if told := refusal(Path(sys.executable), (seen.engine.root,)):
        pytest.skip(told)
    (tmp_path / "learn.py").write_text(SCRIPT)
    task = a_task(
        "learn",
        Kind.TRAINING,
        resources=ROOM,
        source=tmp_path,
        script="learn.py",
        args=("--steps", "20"),
        team="vision",
    )
    seen.engine.start(task, rooms(1))
    end = seen.ended(task, run_name(1)).exit
    assert end.good, end
    assert end.result["step"] == 20
