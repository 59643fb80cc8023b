"""One real use of each command that speaks to a pool, in the order of a first hour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from a_pool import APool

import running

PYTHON = sys.executable
TRAIN = """
import torch, torch.nn as nn
from springtide import train
torch.manual_seed(1)
model = nn.Linear(4, 2)
data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.zeros(64).long())
run = train.Run(model, torch.optim.SGD(model.parameters(), 0.1), data, batch_size=8, steps=20, seed=1)
for x, y in run:
    run.backward(nn.functional.cross_entropy(model(x), y))
print("the script has ended")
"""


def test_a_file_with_one_wrong_job_submits_none(pool: APool, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(
        "kind: batch\nname: right\ncommand: [echo]\n---\nkind: batch\nname: wrong\npriorty: spot\ncommand: [echo]\n"
    )
    refused = pool("submit", tmp_path / "jobs.yaml")
    assert refused.returncode == 2
    assert "jobs.yaml:7" in refused.stderr and 'did you mean "priority"?' in refused.stderr
    assert not pool.row("right")


def test_a_job_without_a_file_runs_and_its_words_are_read(pool: APool) -> None:
    said = pool.done(
        "submit", "--name", "hello", "--cpu", "500m", "--folder", "none", "--", PYTHON, "-c", "print('42 visits')"
    )
    assert said.startswith("hello: submitted")
    pool.until("hello", state="done")
    assert "42 visits" in pool.done("logs", "hello")
    assert "42 visits" in json.loads(pool.done("logs", "hel", "--json").splitlines()[-1])["line"]
    assert "hello" in pool.done("events", "hello")
    assert "done" in pool.done("explain", "hello")


def test_waiting_ends_with_the_jobs_and_with_1_where_one_failed(pool: APool, tmp_path: Path) -> None:
    good = pool("submit", "--wait", "--name", "good", "--cpu", "500m", "--folder", "none", "--", "true")
    assert good.returncode == 0 and "good: done" in good.stdout
    (tmp_path / "bad.yaml").write_text("kind: batch\nname: bad\ncommand: ['false']\nrestart: never\n")
    bad = pool("submit", "--wait", "--json", tmp_path / "bad.yaml")
    assert bad.returncode == 1 and "tide: bad has failed: " in bad.stderr
    assert json.loads(bad.stdout.splitlines()[-1])["state"] == "failed"


def test_a_dry_run_foretells_and_submits_nothing(pool: APool) -> None:
    said = pool.done("submit", "--dry-run", "--name", "maybe", "--cpu", "1", "--folder", "none", "--", "true")
    assert said.startswith("maybe starts now")
    assert not pool.row("maybe")


def test_a_job_is_resized_paused_resumed_cancelled_and_retried(pool: APool) -> None:
    pool.sleeper("many", "--replicas", "1..3")
    running.wait_until(lambda: pool.row("many")["replicas"] >= 1, "it runs")
    assert pool.done("resize", "many", "2").startswith("many: ")
    pool.until("many", replicas=2, state="running", wanted="2", pinned=True)
    pool.done("resize", "man", "auto")
    pool.until("many", pinned=False, wanted="1..3")
    assert pool.done("explain", "many")
    pool.done("pause", "many")
    pool.until("many", state="paused", replicas=0)
    assert json.loads(pool.done("resume", "many", "--json"))[0]["name"] == "many"
    running.wait_until(lambda: pool.row("many")["replicas"] >= 1, "it goes on")
    pool.done("stop", "many")
    pool.until("many", state="paused")
    pool.done("cancel", "many")
    pool.until("many", state="cancelled")
    assert pool("resume", "many").returncode in (2, 4)
    pool.done("retry", "many")
    running.wait_until(lambda: pool.row("many").get("replicas", 0) >= 1, "it runs again")
    pool.done("cancel", "many")
    pool.until("many", state="cancelled")


def test_names_are_shortened_where_unique_and_mistyped_ones_corrected(pool: APool) -> None:
    for name in ("web-1", "web-2"):
        pool.sleeper(name)
    assert '"web" is the beginning of web-1, web-2' in pool("cancel", "web").stderr
    wrong = pool("cancel", "wbe-1")
    assert wrong.returncode == 2 and 'did you mean "web-1"?' in wrong.stderr
    said = pool.done("cancel", "web-1", "web-2")
    assert said.splitlines() == ["web-1: is cancelled", "web-2: is cancelled"]


def test_the_list_is_filtered_by_state_and_team(pool: APool) -> None:
    pool.done("submit", "--wait", "--name", "ended", "--cpu", "500m", "--folder", "none", "--", "true")
    names = {one["name"] for one in json.loads(pool.done("ps", "--json", "--state", "done", "--team", "default"))}
    assert "ended" in names and "many" not in names
    assert "nothing of that kind" in pool.done("ps", "--state", "paused")
    table = pool.done("ps", "--all")
    assert table.splitlines()[0].split()[:2] == ["name", "state"] and "ended" in table


def test_a_node_is_drained_and_taken_back(pool: APool) -> None:
    assert "node-0" in pool.done("node")
    pool.done("node", "drain", "node-0")
    (first,) = [one for one in json.loads(pool.done("node", "list", "--json")) if one["name"] == "node-0"]
    assert first["drained"]
    assert "drained" in pool.done("node", "list")
    wrong = pool("node", "drain", "nod-0")
    assert wrong.returncode == 2 and 'did you mean "node-' in wrong.stderr
    pool.done("node", "undrain", "node-0")
    assert "drain" not in pool.done("node", "list")


def test_teams_are_set_and_what_is_not_said_stays(pool: APool) -> None:
    assert pool.done("team", "set", "vision", "--weight", "2", "--guarantee", "cpu=1").startswith("vision: is made")
    pool.done("team", "set", "vision", "--budget", "5")
    (team,) = [one for one in json.loads(pool.done("team", "list", "--json")) if one["name"] == "vision"]
    assert (team["weight"], team["guarantee"]["cpu"], team["budget"]) == (2, 1, 5)
    pool.done("team", "set", "vision", "--guarantee", "none")
    assert "vision" in pool.done("team")
    wrong = pool("team", "set", "vision", "--guarantee", "cpu=400")
    assert wrong.returncode == 2 and wrong.stderr.startswith("tide: ")


def test_a_token_is_shown_once_listed_and_revoked(pool: APool) -> None:
    made = pool("token", "new", "--team", "default", "--scope", "viewer", "--name", "ci", "--expires", "30d")
    token = made.stdout.strip()
    assert token.startswith("tide_") and "not shown again" in made.stderr
    listed = pool.done("token", "list")
    assert "ci" in listed and token not in listed
    (known,) = [one for one in json.loads(pool.done("token", "list", "--json")) if one["name"] == "ci"]
    refused = pool("submit", "--name", "mine", "--folder", "none", "--", "true", TIDE_TOKEN=token)
    assert refused.returncode == 4
    pool.done("token", "revoke", known["id"])
    assert pool("ps", TIDE_TOKEN=token).returncode == 4


def test_a_secret_comes_from_stdin_and_its_value_never_goes_out(pool: APool) -> None:
    assert "11 bytes" in pool.done("secret", "set", "db-password", stdin="hush-hush-1\n")
    listed = pool.done("secret", "list") + pool.done("secret", "list", "--json")
    assert "db-password" in listed and "hush" not in listed
    assert pool("secret", "set", "empty", stdin="").returncode == 2
    pool.done("secret", "remove", "db-password")
    assert "has no secrets" in pool.done("secret")


def test_usage_and_prices_are_told(pool: APool) -> None:
    assert isinstance(json.loads(pool.done("usage", "--by", "job", "--json")), list)
    pool.done("usage", "--since", "1h")
    assert "core-hour" in pool.done("price")
    assert pool.done("bid", "--would", "0.05", "--cpu", "1").strip()
    pool.sleeper("spot", "--priority", "spot")
    assert pool.done("bid", "spot", "0.05").strip() == "spot: pays at most 0.05 per core-hour"
    pool.done("cancel", "spot")


def test_one_frame_of_top_goes_into_a_pipe(pool: APool) -> None:
    pool.sleeper("shown", "--cpu", "1")
    pool.until("shown", state="running", replicas=1)
    lines = pool.done("top", "--once").splitlines()
    assert lines[0].startswith("springtide ")
    assert any(line.startswith("node-") and "▒" in line and "·" not in line for line in lines)
    assert any(line.startswith("shown") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert json.loads(pool.done("top", "--json"))["nodes"]
    pool.done("cancel", "shown")


def test_a_shell_completes_names_of_jobs(pool: APool) -> None:
    pool.sleeper("completed")
    words = {"_TIDE_COMPLETE": "bash_complete", "COMP_WORDS": "tide pause comp", "COMP_CWORD": "2"}
    environment = running.environment(pool.home, **words)
    found = subprocess.run([str(running.TIDE)], env=environment, capture_output=True, text=True, check=True).stdout
    assert "completed" in found
    silent = environment | {"TIDE_HOME": str(pool.home / "none")}
    nothing = subprocess.run([str(running.TIDE)], env=silent, capture_output=True, text=True, check=True)
    assert not nothing.stderr and "completed" not in nothing.stdout
    pool.done("cancel", "completed")


def test_a_run_in_the_pool_shows_its_log_and_ends_as_a_local_run_would(pool: APool, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    answer = pool("run", "--pool", "--workers", "1", script)
    assert answer.returncode == 0, answer.stderr + pool.log()
    assert "train: submitted" in answer.stdout and "the script has ended" in answer.stdout
    assert "done: 20 steps" in answer.stdout and "digest: " in answer.stdout
    assert pool.row("train")["digest"]


@pytest.mark.slow
def test_an_interrupt_pauses_a_run_in_the_pool_and_a_second_one_leaves_it_there(pool: APool, tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text(TRAIN.replace("steps=20", "steps=1_000_000"))

    def begin() -> subprocess.Popen[str]:
        run = subprocess.Popen(
            [str(running.TIDE), "run", "--pool", "--workers", "1", str(script)], env=running.environment(pool.home),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        running.wait_until(lambda: (pool.row("long").get("step") or 0) > 20, "it steps")
        return run

    run = begin()
    os.killpg(run.pid, signal.SIGINT)
    told = run.communicate()[1]
    assert run.returncode == 130 and "`tide resume long` lets it go on" in told
    pool.until("long", state="paused", replicas=0)
    pool.done("resume", "long")
    run = begin()
    os.killpg(run.pid, signal.SIGINT)
    assert run.stderr is not None and "Ctrl-C again" in "".join(run.stderr.readline() for _ in range(2))
    os.killpg(run.pid, signal.SIGINT)
    told = run.communicate()[1]
    assert run.returncode == 130 and "goes on in the pool" in told
    pool.until("long", state="running")
    pool.done("cancel", "long")
    pool.until("long", state="cancelled")


def test_listing_is_quick_enough_for_scripts_that_ask_often(pool: APool) -> None:
    code = "import sys; from springtide.cli import commands; commands.tide.main(['ps'], standalone_mode=False); "
    code += "print(*sys.modules)"
    environment = os.environ | {"TIDE_HOME": str(pool.home)}
    said = subprocess.run([PYTHON, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert not {"rich", "torch", "numpy", "starlette"} & set(said.splitlines()[-1].split())
