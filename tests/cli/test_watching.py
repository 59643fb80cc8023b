"""What is said of jobs while `tide submit --wait` and `tide run --pool` watch them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from springtide.cli import run_in_pool, submit, watching
from springtide.cli.run import launch_options
from springtide.spec.errors import UserError
from springtide.spec.job import Priority
from springtide.spec.quantities import Range

NOT_SAID = dict.fromkeys(("workers", "start", "name", "checkpoint", "every", "seed", "sample", "keep", "threads"))
NOT_SAID |= {"fresh": False, "chaos": ()}
WORDS = dict.fromkeys(
    ("name", "kind", "team", "priority", "replicas", "cpu", "memory", "gpu", "disk", "network", "port", "deadline",
     "folder"),
) | {"env": (), "secret": ()}  # fmt: skip


def a_row(**more: Any) -> dict[str, Any]:
    return {
        "id": "fill-1", "name": "fill", "kind": "training", "state": "running", "step": 100, "steps": 400,
        "replicas": 3, "reason": "", "digest": None,
    } | more  # fmt: skip


def test_a_line_says_state_share_step_and_workers() -> None:
    assert watching.line_of(a_row()) == "fill: running, 25%, step 100 of 400, 3 workers"
    assert watching.line_of(a_row(state="waiting", step=None, replicas=0, reason="no core is free")) == (
        "fill: waiting, no core is free"
    )
    assert watching.line_of(a_row(state="done", step=400, digest="7f3a" * 16)) == (
        "fill: done, 100%, step 400 of 400, digest 7f3a7f3a7f3a"
    )


def test_a_pipe_hears_of_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    with watching._plain() as show:
        for step in range(100, 120):
            show([a_row(step=step)])
        show([a_row(step=200)])
        show([a_row(step=200, replicas=1)])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_job_of_the_command_line_is_read_like_a_file(tmp_path: Path) -> None:
    said = WORDS | {"name": "web", "port": "8080", "cpu": "500m", "replicas": "1..3", "env": ("MODE=fast",)}
    (job,) = submit._from_words(("python", "-m", "http.server"), said | {"folder": str(tmp_path)})
    assert (job.kind, job.port, job.resources.cpu, job.replicas) == ("service", 8080, 0.5, Range(1, 3))
    assert job.folder == str(tmp_path) and job.environment == {"MODE": "fast"}
    assert job.command == ("python", "-m", "http.server")


def test_a_job_may_take_no_folder_along(tmp_path: Path) -> None:
    (job,) = submit._from_words(("sleep", "1"), WORDS | {"name": "nap", "folder": "none"})
    assert job.folder is None


def test_training_on_the_command_line_takes_the_script_and_its_words(tmp_path: Path) -> None:
    said = WORDS | {"name": "fill", "kind": "training", "folder": str(tmp_path)}
    (job,) = submit._from_words(("python", "train.py", "--lr", "0.1"), said)
    assert (job.script, job.args) == (str(tmp_path / "train.py"), ("--lr", "0.1"))


def test_every_fault_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("kind: batch\nname: a\ncommand: [x]\npriorty: spot\n")
    second.write_text("kind: batch\nname: a\ncommand: [x]\nreplicas: 4..1\n")
    with pytest.raises(UserError) as told:
        submit.read([str(first), str(second)], WORDS)
    lines = str(told.value).splitlines()
    assert any(line.startswith(f"{first}:4") and 'did you mean "priority"' in line for line in lines)
    assert any(line.startswith(f"{second}:4") and "counts down" in line for line in lines)


def test_a_name_in_two_files_is_said_with_both_places(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("kind: batch\nname: same\ncommand: [x]\n")
    with pytest.raises(UserError, match=r'b\.yaml:2:7: "same" is the name of another job, at .*a\.yaml:2:7'):
        submit.read([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")], WORDS)


def test_team_and_priority_of_the_command_line_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: batch\nname: a\ncommand: [x]\nteam: shop\n")
    (job,) = submit.read([str(tmp_path / "a.yaml")], WORDS | {"team": "vision", "priority": "spot"})
    assert (job.team, job.priority) == ("vision", Priority.SPOT)
    with pytest.raises(UserError, match='there is no class "sopt"; did you mean "spot"'):
        submit.read([str(tmp_path / "a.yaml")], WORDS | {"priority": "sopt"})


def test_a_run_in_the_pool_is_a_training_job_of_its_folder(tmp_path: Path) -> None:
    script = tmp_path / "Train_It.py"
    script.write_text("")
    options = launch_options(str(script), ("--lr", "1"), **NOT_SAID | {"workers": "1:4", "every": "30s"})
    job = run_in_pool.job(options, {"team": None, "priority": "standard"})
    assert (job.name, job.replicas, job.args) == ("train-it", Range(1, 4), ("--lr", "1"))
    assert (job.script, job.folder, job.priority) == (str(script), str(tmp_path), Priority.STANDARD)


def test_what_only_a_local_run_can_do_is_refused_in_the_pool(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("")
    options = launch_options(str(script), (), **NOT_SAID)
    with pytest.raises(UserError, match="--seed is for runs of this machine alone; leave it out with --pool"):
        run_in_pool.job(options, {"seed": "7", "team": None, "priority": None})
