"""A user for each team: numbers that stay, a /tmp of its own, a sentence where it could not work. As root."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from springtide.engines.local import people
from springtide.engines.local.people import People, Person, refusal

SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give users to teams")
needs_system_python = pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no Python that everybody may run")

SEEN = """
import json, os, pathlib
pathlib.Path("/tmp/mine").write_text("x")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "tmp": sorted(os.listdir("/tmp")), "var": sorted(os.listdir("/var/tmp")), "ids": os.getresuid() + os.getresgid(),
    "groups": os.getgroups(), "privileges": status["NoNewPrivs"].strip(), "capabilities": status["CapEff"].strip(),
    "mode": os.stat("/tmp/mine").st_mode & 0o777,
}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Reachable by everybody, which pytest's own folders are not."""
    at = Path("/var/lib") / f"tide-people-{os.getpid()}"
    at.mkdir(mode=0o755)
    yield at
    shutil.rmtree(at)


def as_person(person: Person, *command: str, shown: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        preexec_fn=lambda: person.become(shown),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_team_keeps_its_number_and_nobody_else_gets_it(folder: Path) -> None:
    first, second = People(folder).person("a").uid, People(folder).person("b").uid
    assert first >= people.FIRST_UID
    assert second > first
    assert People(folder).person("a").uid == first
    assert stat.S_IMODE((folder / "people.json").stat().st_mode) == 0o600


@needs_system_python
def test_the_team_s_process_is_nobody_else_s_and_sees_its_own_tmp(folder: Path) -> None:
    person = People(folder).person("a")
    seen = json.loads(as_person(person, str(SYSTEM_PYTHON), "-c", SEEN).stdout)
    assert seen["tmp"] == seen["var"] == ["mine"]
    assert seen["ids"] == [person.uid] * 3 + [person.gid] * 3
    assert seen["groups"] == []
    assert (seen["privileges"], int(seen["capabilities"], 16), seen["mode"]) == ("1", 0, 0o600)
    assert not Path("/tmp/mine").exists()
    assert (person.tmp / "mine").stat().st_uid == person.uid


def test_one_team_cannot_read_what_is_another_s(folder: Path) -> None:
    one, other = People(folder).person("a"), People(folder).person("b")
    copy = folder / "copy"
    copy.mkdir()
    (copy / "file").write_text("x")
    one.own(copy)
    assert as_person(one, "/bin/cat", str(copy / "file")).stdout == "x"
    for closed in (copy / "file", one.home, one.tmp):
        with pytest.raises(subprocess.CalledProcessError):
            as_person(other, "/bin/ls", str(closed))


def test_a_folder_in_tmp_can_stay_visible(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("here")
    tmp_path.chmod(0o755)
    person = People(folder).person("a")
    for _ in range(2):
        assert as_person(person, "/bin/ls", str(tmp_path), shown=(tmp_path,)).stdout.split() == ["inside"]
    assert as_person(person, "/bin/ls", str(tmp_path)).stdout == ""  # only the place to mount upon is there


@needs_system_python
def test_a_planted_link_is_not_walked_through(folder: Path, tmp_path: Path) -> None:
    person = People(folder).person("a")
    (person.tmp / tmp_path.parts[2]).symlink_to("/etc")
    with pytest.raises(subprocess.SubprocessError):
        as_person(person, "/bin/true", shown=(tmp_path,))


def test_a_closed_folder_on_the_way_to_the_interpreter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(sys.executable)
    link = Path("/var/lib") / f"tide-python-{os.getpid()}"
    link.symlink_to(closed / "python")
    try:
        said = refusal(link)
    finally:
        link.unlink()
    assert said is not None
    assert "closed to others (mode 0700)" in said
    assert "leave --user-per-team away" in said


@needs_system_python
def test_an_interpreter_that_everybody_may_run_is_not_refused(folder: Path) -> None:
    assert refusal(SYSTEM_PYTHON, (folder,), module="json") is None


@needs_system_python
def test_what_cannot_be_imported_is_said_with_its_error() -> None:
    said = refusal(SYSTEM_PYTHON, module="not_there_at_all")
    assert said is not None
    assert "ModuleNotFoundError" in said


@needs_system_python
def test_a_home_that_cannot_be_reached_is_named(folder: Path) -> None:
    folder.chmod(0o700)
    assert f"since {folder} is closed to others (mode 0700); set TIDE_HOME elsewhere" in (
        refusal(SYSTEM_PYTHON, (folder / "pool",), module="json") or ""
    )
