"""What tests of real runs share: a home that must be empty of processes afterwards, and undisturbed digests."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import running


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A TIDE_HOME of one's own. The test fails if a process, a socket or shared memory of it outlives the test."""
    shared = set(Path("/dev/shm").iterdir())
    place = tmp_path / "home"
    place.mkdir()
    yield place
    left = [one for one in running.leftovers(place) if Path(one) not in shared]
    for pid in running.of_home(place):
        running.strike(pid)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """(script, arguments) -> the digest that `python script` alone ends with, computed once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base

    def digest(script: Path, *arguments: object) -> str:
        key = "-".join(map(str, (script.stem, *arguments)))
        with (shared / "undisturbed.json").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known: dict[str, str] = json.loads(file.read() or "{}")
            if key not in known:
                known[key] = running.alone(script, *arguments, home=shared / f"alone-{key}")["digest"]
                file.truncate(0)
                file.write(json.dumps(known))
        return known[key]

    return digest
