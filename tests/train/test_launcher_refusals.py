"""Bad input that only shows when the script has been read: one sentence, the right exit code, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from running import FAULTS, Running, tide

STEPS = 4000


def refused(home: Path, fault: str, *options: object) -> str:
    """What `tide run` says about it."""
    answer = tide("run", "--name", "run", "--workers", "2", *options, FAULTS, fault, STEPS, home, home=home)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr
    return answer.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_checkpoint_of_other_data_or_of_another_model_is_not_gone_on_from(home: Path) -> None:
    run = Running(FAULTS, "none", STEPS, home, home=home, workers="2", options=("--checkpoint", home / "kept"))
    run.until_step(20)
    run.ask(do="stop")
    assert run.finish()["state"] == "stopped"
    before = sorted((home / "kept").rglob("*"))
    other_data = refused(home, "other data", "--checkpoint", home / "kept")
    assert "dataset" in other_data and "then" in other_data and "now" in other_data and "--fresh" in other_data
    other_model = refused(home, "other model", "--checkpoint", home / "kept")
    assert "0.weight" in other_model and "16" in other_model and "24" in other_model
    assert sorted((home / "kept").rglob("*")) == before
    again = Running(FAULTS, "none", STEPS, home, home=home, workers="2", options=("--checkpoint", home / "kept"))
    assert again.until("start")["resumed_step"] >= 20
    again.ask(do="stop")
    again.finish()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "words"), [("few samples", ("256", "1000")), ("microbatches", ("16", "3"))])
def test_a_batch_that_cannot_be_is_refused_with_the_numbers(fault: str, words: tuple[str, ...], home: Path) -> None:
    sentence = refused(home, fault)
    assert all(word in sentence for word in words), sentence


@pytest.mark.slow
def test_a_resize_outside_the_range_is_refused(home: Path) -> None:
    run = Running(FAULTS, "none", 100_000, home, home=home, workers="1:2")
    run.until_step(10)
    for workers in ("0", "3", "many"):
        answer = tide("resize", "run", workers, home=home)
        assert answer.returncode in (2, 4) and len(answer.stderr.strip().splitlines()) == 1, answer
    strike = tide("stop", "run", home=home)
    assert strike.returncode == 0
    assert run.finish()["state"] == "stopped"
    assert tide("stop", "run", home=home).returncode == 4
    assert tide("stop", "nobody", home=home).returncode == 2
