"""Checkpoints when the disk is full or rots, in real runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running import FAULTS, Running, of_home, strike, tide

STEPS = 400


@pytest.fixture
def bits(undisturbed: Callable[..., str]) -> str:
    return undisturbed(FAULTS, "none", STEPS)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which nothing of use fits."""
    place = tmp_path / "full"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "full", str(place)], capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_training_goes_on(full_disk: Path, home: Path, bits: str) -> None:
    options = ("--checkpoint", full_disk / "kept", "--every", "100steps")
    run = Running(FAULTS, "none", STEPS, home, home=home, workers="2", options=options)
    report = run.finish()
    assert (report["exit"], report["digest"], run.step) == (0, bits, STEPS), run.story()
    assert "no checkpoint of step" in run.warnings()
    assert not run.of("checkpoint")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(home: Path, bits: str) -> None:
    options = ("--every", "40steps", "--keep", 3)
    run = Running(FAULTS, "none", STEPS, home, home=home, workers="2", options=options)
    older, newest = run.until("checkpoint"), run.until("checkpoint")
    strike([run.process.pid, *of_home(home)])
    run.process.wait()
    kept = sorted((home / "runs/run/checkpoints").glob("step-*"))
    newest, older = kept[-1], kept[-2]
    (tensors,) = newest.glob("*.safetensors")
    rotten = bytearray(tensors.read_bytes())
    rotten[-9] ^= 4
    tensors.write_bytes(rotten)

    again = Running(FAULTS, "none", STEPS, home, home=home, workers="2", options=options)
    assert f"step-{again.until('start')['resumed_step']:08d}" in older.name
    assert newest.name in again.warnings() and older.name in again.warnings()
    assert again.finish()["digest"] == bits, again.story()
    listed = tide("checkpoints", "run", "--verify", home=home)
    # Where so few were written since that the damaged one is still kept, it is named.
    assert listed.returncode == int(newest.exists()), listed.stdout + listed.stderr
    assert not newest.exists() or newest.name in listed.stderr
