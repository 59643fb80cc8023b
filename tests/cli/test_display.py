"""What a run shows: on a real pseudo-terminal, in a pipe, as JSON, and quietly."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest

from invented import a_storm

WIDTH, HEIGHT = 100, 30
# Tells an invented run as fast as it can; argv: mode, steps, how many events are told (-1: all).
TELL = """
import sys
from invented import a_storm
from springtide.cli.show import shown
from springtide.train.report import Report

mode, steps, told = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
report, last = Report(), 0.0
with shown(as_json=mode == "json", quiet=mode == "quiet", report=report) as show:
    for event in list(a_storm(steps=steps))[:told if told >= 0 else None]:
        if mode == "endless" and event["event"] == "start":
            event["steps"] = None
        report.add(event)
        show(event)
        last = max(last, event["time"])
        if event["event"] == "step" and event["step"] == 5:
            show({"event": "output", "time": last, "line": "hello from the script"})
        if event["event"] != "end":
            states = [(4711, 0.375, "working"), (4712, 0.375, "working"), (4713, 0.25, "joining"), (4714, 0, "parked")]
            workers = [dict(id=pid - 4711, pid=pid, share=share, state=state) for pid, share, state in states]
            show({"event": "tick", "time": last, "workers": workers})
    if told >= 0:
        sys.stdout.flush()
        import os
        os._exit(0)  # as the terminal stands in the middle of a run
"""


@pytest.fixture
def tell(tmp_path: Path) -> list[str]:
    path = tmp_path / "tell.py"
    path.write_text(TELL)
    return [sys.executable, str(path)]


def on_terminal(command: list[str], width: int = WIDTH, **variables: str) -> list[str]:
    """The screen of a real pseudo-terminal of `width` after the command ended, trailing spaces cut off."""
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[1])} | variables
    environment.pop("COLUMNS", None)
    pid, terminal = pty.fork()
    if pid == 0:
        os.read(0, 1)  # until the size is set
        os.execve(command[0], command, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    os.write(terminal, b"\n")
    screen = pyte.HistoryScreen(width, HEIGHT, history=2000)
    stream = pyte.ByteStream(screen)
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    above = ["".join(line[at].data for at in range(width)).rstrip() for line in screen.history.top]
    return [*above, *(line.rstrip() for line in screen.display)]


def in_pipe(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_the_live_block_shows_where_the_run_is(tell: list[str]) -> None:
    told = next(n for n, event in enumerate(a_storm(steps=80)) if event.get("step") == 41 and event["event"] == "step")
    screen = on_terminal([*tell, "live", "80", str(told)])
    rows = {line.split()[0]: line for line in screen if line.startswith("  ") and line.strip()}
    assert "40 of 80" in rows["step"] and "50%" in rows["step"] and "left" in rows["step"]
    assert "samples/s" in rows["loss"] and "epoch 1.78" in rows["loss"]
    assert "accuracy" in rows["held"]
    assert "● 3  ● 3  ◌ 2  ○" in rows["workers"] and "8 microbatches a step, 1 to 4 allowed" in rows["workers"]
    assert "checkpoint of step 40" in rows["last"]
    assert sum(line.startswith("  workers ") for line in screen) == 1


def test_a_run_on_a_stream_shows_how_far_it_is_and_no_share(tell: list[str]) -> None:
    screen = on_terminal([*tell, "endless", "80", "40"])
    step = next(line for line in screen if line.startswith("  step "))
    assert "without end" in step and "%" not in step and " of " not in step


def test_the_script_speaks_above_the_block_and_the_table_replaces_it(tell: list[str]) -> None:
    screen = on_terminal([*tell, "live", "80", "-1"])
    spoken, table = (
        screen.index("hello from the script"),
        next(n for n, line in enumerate(screen) if line.startswith("after")),
    )
    assert spoken < table
    assert not [line for line in screen if line.startswith("  workers ")]
    assert any(line.startswith("done: 80 steps in ") for line in screen[table:])
    assert any("workers 0, 1, 2 and 3 were killed by SIGKILL" in line for line in screen[table:])


def test_a_narrow_terminal_is_never_scrolled_by_the_block(tell: list[str]) -> None:
    screen = on_terminal([*tell, "live", "80", "-1"], width=50)
    assert sum(line.startswith("  step ") for line in screen) == 0
    assert any(line.startswith("done: 80 steps") for line in screen)


def test_a_terminal_without_unicode_gets_plain_dots(tell: list[str]) -> None:
    screen = on_terminal([*tell, "live", "80", "40"], PYTHONIOENCODING="ascii")
    assert any("* 3  * 3  . 2  o" in line for line in screen)


def test_a_dumb_terminal_gets_plain_lines(tell: list[str]) -> None:
    screen = on_terminal([*tell, "live", "80", "-1"], TERM="dumb")
    assert any("step 80 of 80" in line for line in screen)


def test_a_pipe_gets_plain_lines_without_a_control_character(tell: list[str]) -> None:
    said = in_pipe([*tell, "plain", "200", "-1"]).stdout
    assert "\x1b" not in said and "\r" not in said
    lines = said.splitlines()
    assert lines[0].startswith("digits: 200 steps of 64 samples (8 microbatches), 4 workers (1 to 4), 93,322 param")
    assert "hello from the script" in lines
    assert any("chaos: kill worker 0 (pid 4711)" in line for line in lines)
    assert any("step 200 of 200" in line for line in lines)
    assert lines[-1] == "digest: " + "7f3a" * 16
    assert sum(" step " in line and "loss" in line and " of " in line for line in lines) < 25


def test_json_is_each_event_as_it_is_and_no_tick(tell: list[str]) -> None:
    told = [json.loads(line) for line in in_pipe([*tell, "json", "80", "-1"]).stdout.splitlines()]
    assert [event for event in told if event["event"] != "output"] == list(a_storm(steps=80))
    assert [event["line"] for event in told if event["event"] == "output"] == ["hello from the script"]


def test_quiet_says_only_how_it_ended(tell: list[str]) -> None:
    lines = in_pipe([*tell, "quiet", "80", "-1"]).stdout.splitlines()
    assert lines[0].startswith("done: 80 steps in ")
    assert len(lines) == 4


@pytest.mark.parametrize("mode", ["plain", "quiet", "json"])
def test_a_failure_is_told_on_stderr_with_the_traceback_of_the_user(mode: str, tmp_path: Path) -> None:
    error = {
        "event": "error", "time": 2.0,
        "message": "ValueError: bad label", "traceback": "Traceback\nValueError: bad label\n",
        "worker": 1, "pid": 7, "step": 3, "microbatch": 2, "samples": list(range(40)),
    }  # fmt: skip
    end = {
        "event": "end",
        "time": 3.0,
        "state": "failed",
        "step": 2,
        "digest": None,
        "message": "train.py failed at step 3",
    }
    code = (
        "from springtide.cli.show import shown\nfrom springtide.train.report import Report\nreport = Report()\n"
        f"with shown(as_json={mode == 'json'}, quiet={mode == 'quiet'}, report=report) as show:\n"
        f"    for event in ({error!r}, {end!r}):\n        report.add(event)\n        show(event)\n"
    )
    answer = in_pipe([sys.executable, "-c", code])
    assert "tide: train.py failed at step 3" in answer.stderr
    if mode != "json":
        assert "ValueError: bad label\n(worker 1, step 3, microbatch 2, samples 0, 1, 2, " in answer.stderr
        assert "and 28 more)" in answer.stderr
        assert "failed: 2 steps in" in answer.stdout
