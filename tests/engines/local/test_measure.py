"""What jobs use: by control groups where this machine has them, and by /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.local.doubles import an_nvml
from engines.local.grouped import a_pool, needs_groups
from springtide.engines.local import gpus, measure, traffic, trees
from springtide.engines.local.cgroups import Group, Groups, Limits
from springtide.engines.local.measure import Account, Counted, Meter, Subject, advance
from springtide.train import process

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


def python(code: str, group: Group | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], preexec_fn=group.enter_here if group else None)


@contextlib.contextmanager
def ended(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("abc")), max_size=20))
def test_totals_never_fall(readings: list[tuple[float, str]]) -> None:
    account = Account()
    for cpu_s, life in readings:
        after = advance(account, Counted(cpu_s=cpu_s), life)
        assert after.total.cpu_s >= account.total.cpu_s
        account = after


def test_a_new_group_counts_from_nothing_and_the_same_one_from_where_it_was() -> None:
    account = advance(Account(), Counted(cpu_s=5), "boot/1")
    assert advance(account, Counted(cpu_s=7), "boot/1").total.cpu_s == 7
    assert advance(account, Counted(cpu_s=1), "boot/2").total.cpu_s == 6


@needs_groups
def test_what_ended_replicas_used_still_counts(tmp_path: Path) -> None:
    with a_pool() as groups, contextlib.closing(Meter(groups)) as meter:
        replica = groups.group("job", "r1")
        replica.make(Limits())
        assert python(BURN.format(seconds=0.3), replica).wait() == 0
        replica.remove()
        used = meter.look({"job": Subject(tmp_path)}, 1.0)["job"]
        assert 0.3 <= used.cpu_s < 3


@needs_groups
def test_cores_are_those_of_late(tmp_path: Path) -> None:
    with a_pool() as groups, contextlib.closing(Meter(groups)) as meter:
        replica = groups.group("job", "r1")
        replica.make(Limits())
        started_s = time.monotonic()
        meter.look({"job": Subject(tmp_path)}, started_s)
        python(BURN.format(seconds=0.5), replica).wait()
        used = meter.look({"job": Subject(tmp_path)}, time.monotonic())["job"]
        assert meter.cores("job") == pytest.approx(used.cpu_s / (time.monotonic() - started_s), rel=0.2)
        for later_s in (10, 20):
            meter.look({"job": Subject(tmp_path)}, started_s + 100 + later_s)
        assert meter.cores("job") == 0.0


@needs_groups
def test_totals_survive_another_meter_and_another_group(tmp_path: Path) -> None:
    with a_pool() as groups:
        subject = {"job": Subject(tmp_path)}
        group = groups.group("job", "r1")
        group.make(Limits())
        with contextlib.closing(Meter(groups)) as meter:
            python(BURN.format(seconds=0.2), group).wait()
            first = meter.look(subject, 1.0)["job"].cpu_s
        python(BURN.format(seconds=0.2), group).wait()  # while nobody looks
        with contextlib.closing(Meter(groups)) as meter:
            second = meter.look(subject, 1.0)["job"].cpu_s
            assert second >= first + 0.2
            meter.keep("job", tmp_path)
        assert groups.group("job").remove()
        group.make(Limits())
        python(BURN.format(seconds=0.2), group).wait()
        with contextlib.closing(Meter(groups)) as meter:
            assert second + 0.2 <= meter.look(subject, 1.0)["job"].cpu_s < second + 2


@needs_groups
def test_memory_and_disk_are_measured(tmp_path: Path) -> None:
    code = (
        f"import os, sys\nheld = bytearray(os.urandom(1)) * 60_000_000\nfile = open({str(tmp_path / 'file')!r}, 'wb')\n"
        "file.write(held[:20_000_000])\nfile.flush()\nos.fsync(file.fileno())\nprint(flush=True)\nsys.stdin.read()\n"
    )
    with a_pool() as groups, contextlib.closing(Meter(groups)) as meter:
        group = groups.group("job", "r1")
        group.make(Limits())
        child = subprocess.Popen(
            [sys.executable, "-c", code], preexec_fn=group.enter_here, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with ended(child), child:
            assert child.stdout is not None
            child.stdout.readline()
            used = meter.look({"job": Subject(tmp_path)}, 1.0)["job"]
            assert 50e6 < used.memory_bytes < 150e6
            assert used.disk_bytes >= 20e6


@needs_groups
def test_network_is_counted_by_job_and_found_again_by_who_comes_later(tmp_path: Path) -> None:
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits())
        folder = groups.group("job").unified_folder()
        if folder is None or traffic.counter(folder) is None:
            pytest.skip("the kernel does not let us count by group")
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            for times in (1, 2):
                with contextlib.closing(Meter(groups)) as meter:
                    child = python(
                        f"import socket\nto = socket.create_connection({address})\nto.sendall(bytes(1_000_000))", group
                    )
                    with server.accept()[0] as peer:
                        while peer.recv(1 << 20):
                            pass
                    assert child.wait() == 0
                    used = meter.look({"job": Subject(tmp_path)}, 1.0)["job"]
                    assert times * 1e6 < used.network_bytes < times * 1.2e6
                    meter.keep("job", tmp_path)


def test_without_groups_the_tree_below_the_shim_is_measured_with_whom_it_reaped(tmp_path: Path) -> None:
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(seconds=0.3)!r}])\n"
        "held = bytearray(50_000_000)\nprint(flush=True)\nsys.stdin.read()\n"
    )
    with contextlib.closing(Meter(Groups("none"))) as meter:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with ended(child), child:
            assert child.stdout is not None
            child.stdout.readline()
            head = (child.pid, process.started(child.pid))
            used = meter.look({"job": Subject(tmp_path, (head,))}, 1.0)["job"]
            assert 0.3 <= used.cpu_s < 3
            assert used.memory_bytes > 50e6
            assert trees.pids([head]) == [child.pid]
            assert meter.look({"job": Subject(tmp_path, ((child.pid, 1),))}, 2.0)["job"].cpu_s == used.cpu_s


def test_gpu_seconds_are_summed_over_the_job_s_own_processes(tmp_path: Path) -> None:
    me = (os.getpid(), process.started(os.getpid()))
    driver = gpus.connect(an_nvml({0: [(me[0], 50, 1)], 1: [(1, 90, 1)]}))
    subject = {"job": Subject(tmp_path, (me,), devices=(0,)), "none": Subject(tmp_path)}
    with contextlib.closing(Meter(Groups("none"), driver)) as meter:
        seen = [meter.look(subject, now_s) for now_s in (100.0, 100.5, 102.0, 104.0)]
    assert [each["job"].gpu_s for each in seen] == pytest.approx([0.0, 0.0, 1.0, 2.0])
    assert seen[-1]["none"].gpu_s == 0.0


def test_what_is_not_measured_is_said() -> None:
    with contextlib.closing(Meter(Groups("none"))) as meter:
        assert meter.sentence.startswith(
            "what a job uses is measured by the processes below its shim; its network is not"
        )


@needs_groups
def test_a_process_of_a_group_that_died_by_a_signal_counts(tmp_path: Path) -> None:
    with a_pool() as groups, contextlib.closing(Meter(groups)) as meter:
        group = groups.group("job", "r1")
        group.make(Limits())
        child = python("while True: pass", group)
        deadline = time.monotonic() + 30
        while group.gauge().cpu_s() < 0.1 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert meter.look({"job": Subject(tmp_path)}, 1.0)["job"].cpu_s >= 0.1


def test_a_file_that_cannot_be_written_is_no_reason_to_fail_either(tmp_path: Path) -> None:
    (tmp_path / f"{measure.USAGE}.new").mkdir()
    me = (os.getpid(), process.started(os.getpid()))
    with contextlib.closing(Meter(Groups("none"))) as meter:
        assert meter.look({"job": Subject(tmp_path, (me,))}, 1.0)["job"].cpu_s > 0
        (tmp_path / f"{measure.USAGE}.new").rmdir()
        meter.look({"job": Subject(tmp_path, (me,))}, 100.0)
    assert (tmp_path / measure.USAGE).exists()


def test_a_broken_file_of_totals_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / measure.USAGE).write_text("{")
    with contextlib.closing(Meter(Groups("none"))) as meter:
        assert meter.look({"job": Subject(tmp_path)}, 1.0)["job"].cpu_s == 0.0
