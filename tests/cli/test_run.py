"""`tide run` and the commands beside it, from outside: a real run of a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_display import on_terminal
from tide import TIDE, tide

SCRIPT = """
import sys, torch
from springtide import train
torch.manual_seed(1)
x = torch.randn(256, 8)
data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
model = torch.nn.Linear(8, 1)
run = train.Run(model, torch.optim.SGD(model.parameters(), 0.01), data, batch_size=32, steps=int(sys.argv[1]), seed=2)
for a, b in run:
    if "fail" in sys.argv and run.step == 5:
        raise ValueError("bad label")
    run.backward(torch.nn.functional.mse_loss(model(a), b))
if run.main:
    print("the script has ended")
"""
FOREVER = "100000000"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def going(script: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A run called "long" that would never end, and its events; it has committed ten steps."""
    words = [
        TIDE,
        "run",
        "--name",
        "long",
        "--workers",
        "1:2",
        "--json",
        "--report",
        tmp_path / "long.json",
        script,
        FOREVER,
    ]
    environment = os.environ | {"TIDE_HOME": str(tmp_path / "home")}
    with subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.PIPE, text=True) as process:
        told = (json.loads(line) for line in process.stdout or ())
        try:
            next(event for event in told if event["event"] == "step" and event["step"] >= 10)
            yield process, told
        finally:
            process.kill()


def test_a_run_tells_reports_and_draws_itself(script: Path, tmp_path: Path) -> None:
    report, plot = tmp_path / "report.json", tmp_path / "run.png"
    chaos = ["--chaos", "kill=1,at=step:5"]
    answer = tide(
        "run", "--workers", "2", *chaos, "--report", report, "--plot", plot, script, "1000", home=tmp_path / "home"
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("train: 1,000 steps of 32 samples (8 microbatches), 2 workers, 9 parameters")
    assert "the script has ended" in lines
    written = json.loads(report.read_text())
    assert (written["state"], written["steps"], written["samples"]) == ("done", 1000, 1000 * 32)
    assert (written["samples_lost"], written["samples_twice"]) == (0, 0)
    assert lines[-1] == f"digest: {written['digest']}"
    assert written["chaos"][0]["what"].startswith("kill worker ")
    assert plot.stat().st_size > 5000


def test_a_person_sees_the_same_on_a_terminal(script: Path, tmp_path: Path) -> None:
    command = [str(TIDE), "run", "--workers", "2", str(script), "40"]
    screen = on_terminal(command, TIDE_HOME=str(tmp_path / "home"))
    assert "the script has ended" in screen
    assert any(line.startswith("done: 40 steps in ") for line in screen)


def test_a_living_run_is_listed_resized_and_stopped(going: Any, script: Path, tmp_path: Path) -> None:
    process, told = going
    home = tmp_path / "home"
    (row,) = json.loads(tide("ps", "--json", home=home).stdout)
    assert (row["name"], row["state"]) == ("long", "running")
    assert row["step"] >= 10
    assert sum(worker["share"] for worker in row["workers"]) == pytest.approx(1)
    assert "long  running" in tide("ps", home=home).stdout
    refused = tide("run", "--name", "long", script, "5", home=home)
    assert refused.returncode == 4 and "alive" in refused.stderr
    assert tide("resize", "long", "3", home=home).returncode == 4
    assert tide("resize", "long", "1", home=home).returncode == 0
    next(event for event in told if event["event"] == "step" and event["workers"] == 1)
    assert tide("stop", "long", home=home).returncode == 0
    assert [event["state"] for event in told if event["event"] == "end"] == ["stopped"]
    assert process.wait() == 0
    listed = tide("checkpoints", "long", "--verify", home=home)
    assert listed.returncode == 0 and "whole" in listed.stdout


def test_control_c_writes_a_checkpoint_and_the_same_command_goes_on(going: Any, script: Path, tmp_path: Path) -> None:
    process, told = going
    process.send_signal(signal.SIGINT)
    (end,) = [event for event in told if event["event"] == "end"]
    assert (process.wait(), end["state"]) == (130, "interrupted")
    assert json.loads((tmp_path / "long.json").read_text())["state"] == "interrupted"
    again = subprocess.Popen(
        [str(word) for word in process.args],
        env=os.environ | {"TIDE_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    with again:
        went_on = (json.loads(line) for line in again.stdout or ())
        assert next(event["step"] for event in went_on if event["event"] == "step") == end["step"] + 1
        again.kill()


@pytest.mark.slow
def test_a_run_outlives_whoever_watched_it(script: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [TIDE, "run", "--json", "--workers", "1", "--report", report, script, "2000"]
    environment = os.environ | {"TIDE_HOME": str(tmp_path / "home")}
    with subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert json.loads(report.read_text())["steps"] == 2000


def test_an_exception_of_the_user_is_told_with_its_traceback(script: Path, tmp_path: Path) -> None:
    answer = tide("run", "--workers", "2", script, "40", "fail", home=tmp_path / "home")
    assert answer.returncode == 1
    assert 'raise ValueError("bad label")' in answer.stderr
    assert "springtide/cli" not in answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("tide: ") and "ValueError: bad label" in last


def test_a_script_without_a_run_gets_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text("print('no training here')\n")
    answer = tide("run", script, home=tmp_path / "home")
    assert answer.returncode == 2
    assert "Run" in answer.stderr and "Traceback" not in answer.stderr
