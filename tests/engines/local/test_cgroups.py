"""Control groups: real ones of this machine, with real processes that misbehave."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import springtide
from engines.local.grouped import a_pool, needs_groups
from springtide.engines.local import cgroups
from springtide.engines.local.cgroups import Group, Groups, Limits
from springtide.engines.local.cgroups_v1 import SplitGroup
from springtide.engines.local.people import closed_at

SYSTEM_PYTHON = Path("/usr/bin/python3")
SOURCE = Path(springtide.__file__).parent.parent
MEMORY = 64 * 2**20
IDLE = "import time\ntime.sleep(600)"
HOG = "held = []\nwhile True: held.append(bytearray(1 << 20))"
FORK_BOMB = """
import os, time
forked = 0
while forked < 200:
    try:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        forked += 1
    except BlockingIOError:
        break
print(forked, flush=True)
time.sleep(600)
"""


def python(code: str, group: Group) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        preexec_fn=group.enter_here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@needs_groups
def test_a_memory_hog_is_killed_alone_and_counted() -> None:
    with a_pool() as groups:
        hogs, quiet = groups.group("job", "r1"), groups.group("job", "r2")
        for group in (hogs, quiet):
            group.make(Limits(memory_bytes=MEMORY))
        neighbour, hog = python(IDLE, quiet), python(HOG, hogs)
        assert hog.wait(30) == -signal.SIGKILL
        assert (hogs.oom_kills(), quiet.oom_kills(), groups.group("job").oom_kills()) == (1, 0, 1)
        assert neighbour.poll() is None
        quiet.kill()
        neighbour.wait(30)


@needs_groups
def test_that_memory_ran_out_can_be_waited_for_where_the_kernel_kills_one_of_many() -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOG!r}])\nsys.stdin.read()"
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits(memory_bytes=MEMORY))
        watched = group.watch_memory()
        parent = python(code, group)
        if watched is None:
            assert parent.wait(30) == -signal.SIGKILL  # v2: all of it
            return
        try:
            assert select.select([watched], [], [], 30)[0]
            assert eventually(lambda: group.oom_kills() == 1)
            assert parent.poll() is None
            group.kill()
            assert parent.wait(30) == -signal.SIGKILL
        finally:
            os.close(watched)


@needs_groups
def test_a_limit_can_be_raised_and_lowered_while_it_runs() -> None:
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits(memory_bytes=MEMORY))
        group.set(Limits(memory_bytes=4 * MEMORY))
        assert python("held = bytearray(2 * 64 * 2**20)", group).wait(30) == 0
        group.set(Limits(memory_bytes=MEMORY))
        assert python("held = bytearray(2 * 64 * 2**20)", group).wait(30) == -signal.SIGKILL
        group.set(Limits())
        assert python("held = bytearray(2 * 64 * 2**20)", group).wait(30) == 0


@needs_groups
def test_a_fork_bomb_ends_at_its_limit_and_all_of_it_is_killed() -> None:
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits(pids=50))
        bomb = python(FORK_BOMB, group)
        assert bomb.stdout is not None
        assert int(bomb.stdout.readline()) == 49
        assert len(group.pids()) == 50
        group.kill()
        assert bomb.wait(30) == -signal.SIGKILL
        assert eventually(lambda: not group.pids())
        assert eventually(group.remove)


@needs_groups
def test_what_forks_while_it_is_killed_does_not_escape_also_without_the_kernel_s_own_kill() -> None:
    code = "import os\nwhile True:\n    if os.fork(): os._exit(0)"
    with a_pool() as groups:
        group = groups.group("job", "r1")
        if not isinstance(group, SplitGroup):
            pytest.skip("v2 kills by itself")
        group = SplitGroup(group.bases, group.path)
        group.make(Limits(pids=50))
        runner = python(code, group)
        runner.wait(30)
        assert group.pids()
        group.kill()
        assert eventually(lambda: not group.pids())


@needs_groups
def test_kill_reaches_the_groups_below_and_nobody_else() -> None:
    with a_pool() as groups:
        mine, below, other = groups.group("a", "r1"), groups.group("a", "r2"), groups.group("b", "r1")
        children = []
        for group in (mine, below, other):
            group.make(Limits())
            children.append(python(IDLE, group))
        groups.group("a").kill()
        assert children[2].poll() is None
        assert [child.wait(30) for child in children[:2]] == [-signal.SIGKILL] * 2
        other.kill()
        children[2].wait(30)


@needs_groups
def test_cores_are_limited() -> None:
    code = "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits(cpu=0.2))
        used = float(python(code, group).communicate(timeout=60)[0])
        # Half a second at a fifth of a core, and what a period may be over by.
        assert used < 0.4


@needs_groups
def test_disk_bandwidth_is_limited_where_the_folder_lies_on_a_disk(tmp_path: Path) -> None:
    code = (
        "import os, time\nfile = os.open('{}', os.O_WRONLY | os.O_CREAT | os.O_DIRECT)\nimport mmap\n"
        "data = mmap.mmap(-1, 1 << 20)\nstart = time.monotonic()\n"
        "for _ in range(4): os.write(file, data)\nprint(time.monotonic() - start)"
    ).format(tmp_path / "file")
    with a_pool(tmp_path) as groups:
        if "io" not in groups.limits:
            pytest.skip("no disk whose bandwidth could be limited")
        group = groups.group("job", "r1")
        group.make(Limits(disk_bytes_per_s=8e6))
        took_s = float(python(code, group).communicate(timeout=60)[0])
        assert took_s >= 0.25  # four megabytes at eight in a second, less what the first period lets pass


@needs_groups
def test_sweeping_removes_what_is_empty_and_nothing_else() -> None:
    with a_pool() as groups:
        for name in ("ended", "known", "busy"):
            groups.group(name, "r1").make(Limits())
        child = python(IDLE, groups.group("busy", "r1"))
        groups.sweep(keep={"known"})
        assert groups.names() == ["busy", "known"]
        groups.group("busy").kill()
        child.wait(30)
        assert eventually(groups.group("busy").remove)


@needs_groups
def test_who_removes_the_last_group_leaves_nothing_and_hinders_nobody_who_makes_one() -> None:
    with a_pool() as groups:
        groups.sweep()
        errors: list[Exception] = []

        def make_and_remove(name: str) -> None:
            try:
                for _ in range(50):
                    groups.group(name, "r1").make(Limits())
                    groups.group(name).remove()
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=make_and_remove, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert not groups.group().gauge().identity()


@needs_groups
def test_making_it_twice_is_making_it_once_and_a_new_one_is_another() -> None:
    with a_pool() as groups:
        group = groups.group("job", "r1")
        group.make(Limits())
        first = group.gauge().identity()
        group.make(Limits(pids=10))
        assert group.gauge().identity() == first
        assert group.remove()
        assert group.gauge().identity() == 0
        assert group.remove()


@needs_groups
def test_the_sentence_says_what_is_limited() -> None:
    with a_pool() as groups:
        assert groups.sentence.startswith("cores, memory and processes of each replica are limited")
        assert f"(v{groups.version})" in groups.sentence


def test_without_groups_nothing_is_limited_and_the_sentence_says_what_it_means() -> None:
    groups = Groups("none", cgroups.Ground(why_not={"memory": "/sys/fs/cgroup may not be written"}))
    assert groups.sentence.startswith(
        "jobs are kept apart by rlimits and niceness only (/sys/fs/cgroup may not be written): a job can use cores"
    )
    group = groups.group("job", "r1")
    group.make(Limits(memory_bytes=1))
    group.enter_here()
    assert (group.pids(), group.oom_kills(), group.gauge().cpu_s(), group.remove()) == ([], 0, 0.0, True)


@pytest.mark.skipif(
    os.geteuid() != 0 or not SYSTEM_PYTHON.exists() or closed_at(SOURCE, read=False) is not None,
    reason="needs root, to be somebody else, and a Python and a source that everybody may read",
)
def test_who_may_not_write_groups_is_told_and_not_hindered() -> None:
    code = (
        "from springtide.engines.local import cgroups\nfrom springtide.engines.local.limits import Limits\n"
        "groups = cgroups.find('p')\nprint(groups.version, groups.sentence)\ngroup = groups.group('a', 'b')\n"
        "group.make(Limits(cpu=1))\ngroup.enter_here()\ngroup.kill()\ngroups.sweep()\nprint(group.pids())"
    )
    said = subprocess.run(
        [SYSTEM_PYTHON, "-Bc", code],
        env={"PYTHONPATH": str(SOURCE)}, user=65534, group=65534, extra_groups=[], cwd="/",
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert said[0].startswith("None jobs are kept apart by rlimits and niceness only (/sys/fs/cgroup")
    assert "may not be written" in said[0]
    assert said[1] == "[]"


def test_without_groups_a_process_has_rlimits_and_is_nice() -> None:
    limits = Limits(weight=50, memory_bytes=200 * 2**20)
    code = "import os, resource\nprint(os.nice(0), resource.getrlimit(resource.RLIMIT_DATA)[0])\nbytearray(300 << 20)"
    child = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limits.apply_here, capture_output=True, text=True, timeout=60
    )
    assert child.stdout.split() == [str(max(limits.nice(), os.nice(0))), str(200 * 2**20)]
    assert "MemoryError" in child.stderr
    assert limits.rlimits() == {resource.RLIMIT_DATA: 200 * 2**20}


def test_who_weighs_more_is_less_nice() -> None:
    nice = [Limits(weight=weight).nice() for weight in (1, 25, 100, 400, 10_000)]
    assert nice == sorted(nice, reverse=True)
    assert (nice[0], nice[-1]) == (19, 0)
