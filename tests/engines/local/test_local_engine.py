"""Batch work on this machine: begun once, ended once, and told as it was."""

from __future__ import annotations

import json
from pathlib import Path

import running
from engines.local.jobs import Seen, a_task, places
from springtide.engines.local import logs


def test_a_batch_replica_runs_and_its_exit_code_is_told(seen: Seen) -> None:
    task = a_task("count", code="print('hello'); raise SystemExit(3)")
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert end is not None
    assert (end.code, end.cause, end.tail, end.good) == (3, "ended with exit code 3", ("hello",), False)


def test_starting_twice_is_starting_once(seen: Seen, tmp_path: Path) -> None:
    task = a_task("once", code=f"open({str(tmp_path / 'x')!r}, 'a').write('x')")
    for _ in range(3):
        seen.engine.start(task, places("r1", "r2"))
    for name in ("r1", "r2"):
        assert seen.ended(task, name).exit.good
    seen.engine.start(task, places("r1", "r2"))
    seen.engine.wait(0.1)
    assert (tmp_path / "x").read_text() == "xx"


def test_replicas_get_a_clean_environment_and_a_copy_of_the_folder(seen: Seen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TIDE_TOKEN", "secret")
    source = tmp_path / "source"
    source.mkdir()
    (source / "given.txt").write_text("given")
    code = "import os, json; print(json.dumps([dict(os.environ), open('given.txt').read(), os.getcwd()]))"
    task = a_task("clean", code=code, source=source, environment={"MODE": "live"}, secrets={"key": b"s3"})
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    environment, given, folder = json.loads(end.tail[0])
    assert given == "given"
    assert folder == str(seen.engine.root / "jobs" / task.id / "work-1")
    assert environment["MODE"] == "live"
    assert environment["TIDE_REPLICA"] == "clean-1/r1"
    assert "TIDE_TOKEN" not in environment
    assert Path(environment["TIDE_SECRETS"], "key").read_bytes() == b"s3"
    assert Path(environment["TIDE_SCRATCH"]).is_dir()


def test_a_program_that_is_not_there_is_named(seen: Seen) -> None:
    task = a_task("missing", command=("no-such-program",))
    seen.engine.start(task, places("r1"))
    end = seen.ended(task, "r1").exit
    assert (end.code, end.cause) == (
        127, "cannot be started: no program 'no-such-program' is in the PATH; write the path of one that is there"
    )  # fmt: skip


def test_who_does_not_end_in_time_is_made_to_with_all_that_he_started(seen: Seen) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True); print('ready', flush=True); time.sleep(1000)"
    )
    task = a_task("deaf", code=code)
    seen.engine.start(task, places("r1"))
    seen.running(task, "r1")
    import running
    from springtide.engines.local import logs

    running.wait_until(lambda: bool(logs.tail(seen.engine.root / "logs" / task.id, "r1", 1)), "it speaks")
    seen.engine.stop(task.id, ["r1"], 0.2)
    end = seen.ended(task, "r1").exit
    assert (end.cause, end.asked, end.code) == ("did not end in time and was killed", True, None)


def test_who_is_told_to_end_while_he_begins_ends(seen: Seen) -> None:
    task, names = a_task("brief", command=("sleep", "1000")), [f"r{number}" for number in range(12)]
    for name in names:
        seen.engine.start(task, places(name))
        seen.until(task, lambda job, name=name: job.replicas[name].pid, "it has a name")
        seen.engine.stop(task.id, [name], 1000.0)
    assert {seen.ended(task, name).exit.cause for name in names} == {"was killed by SIGTERM"}


def test_what_is_forgotten_leaves_only_its_logs(seen: Seen) -> None:
    task = a_task("brief", code="print('kept')")
    seen.engine.start(task, places("r1"))
    seen.ended(task, "r1")
    seen.engine.forget(task.id, ["r1"])
    assert seen.job(task).replicas == {}
    seen.engine.forget(task.id)
    running.wait_until(lambda: seen.engine.wait(0.02) or not seen.engine._jobs, "it is gone")
    assert not (seen.engine.root / "jobs" / task.id).exists()
    assert logs.tail(seen.engine.root / "logs" / task.id, "r1", 1) == ["kept"]
