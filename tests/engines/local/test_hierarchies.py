"""Where groups can be made, and what is written into v2's files.

This machine has v2 without controllers, so its files are those of a folder that looks like one: a double, for what is
written and read, not for what the kernel makes of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from engines.local.grouped import needs_groups
from springtide.engines.local import cgroups, hierarchies
from springtide.engines.local.cgroups import reachable
from springtide.engines.local.cgroups_v2 import UnifiedGroup, clear, hand_on, remove
from springtide.engines.local.hierarchies import Ground, Hierarchy, ground, read, write
from springtide.engines.local.limits import Limits

V1_MOUNTS = r"""
34 29 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 29 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
36 29 0:33 / /sys/fs/a\040b rw - cgroup2 cgroup2 rw,nsdelegate
37 29 0:34 / /proc rw - proc proc rw
"""
V1_OWN = "4:cpu,cpuacct:/user.slice\n3:memory:/docker/ab/inner\n1:name=systemd:/user.slice\n0::/user.slice/x\n"


def a_tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v2_files(group: str = "", controllers: str = "cpu io memory pids", **limits: str) -> dict[str, str]:
    prefix = f"{group}/" if group else ""
    files = {"cgroup.procs": "", "cgroup.subtree_control": "", "cgroup.controllers": controllers}
    return {prefix + name: text for name, text in (files | {k.replace("_", "."): v for k, v in limits.items()}).items()}


def test_mounts_are_read_with_the_part_of_the_tree_that_they_show() -> None:
    found = {frozenset(each.controllers): each for each in hierarchies.parse(V1_MOUNTS.strip(), V1_OWN)}
    assert found[frozenset({"cpu", "cpuacct"})].own == Path("/sys/fs/cgroup/cpu,cpuacct/user.slice")
    assert found[frozenset({"memory"})].own == Path("/sys/fs/cgroup/memory/inner")
    assert found[frozenset()] == Hierarchy(Path("/sys/fs/a b"), frozenset(), Path("/sys/fs/a b/user.slice/x"))
    assert len(found) == 3


def test_groups_are_made_at_the_root_where_nothing_limits_us(tmp_path: Path) -> None:
    root = a_tree(tmp_path, v2_files() | v2_files("user/session", memory_max="max", cpu_max="max 100000"))
    where = ground([Hierarchy(root, frozenset(), root / "user/session")])
    assert (where.version, where.bases) == (2, {"": root})
    assert where.offered == {"cpu", "io", "memory", "pids"}


def test_limits_that_were_set_for_us_stay_kept(tmp_path: Path) -> None:
    root = a_tree(tmp_path, v2_files() | v2_files("service", memory_max="1000000000") | v2_files("service/inner"))
    where = ground([Hierarchy(root, frozenset(), root / "service/inner")])
    assert where.bases == {"": root / "service"}


def test_who_is_in_a_group_of_the_pool_finds_the_same_place_as_who_made_it(tmp_path: Path) -> None:
    inner = "springtide/p1/job/shim"
    root = a_tree(tmp_path, v2_files() | v2_files("springtide/p1/job", memory_max="1000") | v2_files(inner))
    tree = Hierarchy(root, frozenset(), root / inner)
    assert ground([tree], ("springtide", "p1")).bases == {"": root}
    assert ground([tree], ("springtide", "p2")).bases == {"": root / "springtide/p1/job"}


def test_a_controller_that_is_not_offered_is_named_with_what_its_lack_means(tmp_path: Path) -> None:
    root = a_tree(tmp_path, v2_files(controllers="cpu pids"))
    where = ground([Hierarchy(root, frozenset(), root)])
    assert cgroups.sentence(where, where.offered) == (
        "cores and processes of each replica are limited by control groups (v2); memory cannot be limited "
        f"({root} does not offer it): a job's memory is bounded for each process by rlimits only, not for all together"
        f"; disk bandwidth cannot be limited ({root} does not offer it): one job can keep the disk busy"
    )


def test_no_groups_at_all_is_not_an_error() -> None:
    where = ground([])
    assert where.version is None
    assert "no control groups are mounted" in cgroups.sentence(where, frozenset())


def test_v2_hands_controllers_on_at_every_level_but_the_last(tmp_path: Path) -> None:
    root = a_tree(
        tmp_path, v2_files() | v2_files("springtide") | v2_files("springtide/job") | v2_files("springtide/job/r")
    )
    group = UnifiedGroup(root, root / "springtide/job/r", frozenset({"memory"}))
    group.make(Limits())
    for at in (root, root / "springtide", root / "springtide/job"):
        assert (at / "cgroup.subtree_control").read_text() == "+memory"
    assert (group.folder / "cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        (
            Limits(cpu=1.5, weight=800, memory_bytes=1000, pids=9, disk_bytes_per_s=2e6),
            {
                "cpu.max": "150000 100000", "cpu.weight": "800", "memory.max": "1000", "memory.swap.max": "0",
                "memory.oom.group": "1", "pids.max": "9", "io.max": "8:0 rbps=2000000 wbps=2000000",
            },
        ),
        (
            Limits(weight=99_999, whole=False),
            {
                "cpu.max": "max 100000", "cpu.weight": "10000", "memory.max": "max", "memory.swap.max": "max",
                "memory.oom.group": "0", "pids.max": "max", "io.max": "8:0 rbps=max wbps=max",
            },
        ),
        (Limits(cpu=0.0001), {"cpu.max": "1000 100000"}),
    ],
)  # fmt: skip
def test_v2_is_told_the_limits(limits: Limits, written: dict[str, str], tmp_path: Path) -> None:
    group = UnifiedGroup(tmp_path, tmp_path / "r", frozenset(), "8:0")
    group.make(limits)
    assert {name: (group.folder / name).read_text() for name in written} == written


def test_v2_tells_what_is_used(tmp_path: Path) -> None:
    root = a_tree(
        tmp_path,
        {
            "cpu.stat": "usage_usec 2500000\nuser_usec 1\n", "memory.current": "9000\n",
            "memory.stat": "anon 5\nworkingset_inactive_file 7\ninactive_file 4000\n",
            "memory.events": "low 0\noom 3\noom_kill 2\n",
            "io.stat": "8:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=0 rios=1\n",
            "cgroup.procs": "12\n", "below/cgroup.procs": "13\n14\n",
        },
    )  # fmt: skip
    group = UnifiedGroup(root, root, frozenset({"io"}))
    gauge = group.gauge()
    assert (gauge.cpu_s(), gauge.memory_bytes(), gauge.disk_bytes()) == (2.5, 5000, 16)
    assert (group.oom_kills(), group.pids()) == (2, [12, 13, 14])


def test_v2_hands_on_only_what_is_missing(tmp_path: Path) -> None:
    root = a_tree(tmp_path, {"cgroup.subtree_control": "cpu memory"})
    hand_on(root, frozenset({"cpu", "pids"}))
    assert (root / "cgroup.subtree_control").read_text() == "+pids"


def test_processes_of_an_inner_group_are_moved_beside(tmp_path: Path) -> None:
    root = a_tree(tmp_path, {"cgroup.procs": "77\n"})
    clear(root)
    assert (root / "springtide-beside" / "cgroup.procs").read_text() == "77"


@needs_groups
def test_a_real_inner_group_with_processes_hands_on_once_they_are_moved_beside() -> None:
    unified = reachable().unified or reachable().bases.get("")
    spare = (set(read(unified / "cgroup.subtree_control").split()) if unified else set()) or {"hugetlb"}
    if unified is None or not spare & set(read(unified / "cgroup.controllers").split()):
        pytest.skip("no controller of v2 is free to try it with")
    name = next(iter(spare & set(read(unified / "cgroup.controllers").split())))
    before = read(unified / "cgroup.subtree_control")
    write(unified / "cgroup.subtree_control", f"+{name}")
    base = unified / f"tide-test-{os.getpid()}"
    base.mkdir()
    inside = subprocess.Popen(["sleep", "600"])
    try:
        write(base / "cgroup.procs", str(inside.pid))
        group = UnifiedGroup(base, base / "springtide/p/job/r1", frozenset({name}))
        hand_on(base, group.offered)
        assert read(base / "cgroup.subtree_control").split() == []
        where = cgroups.opened(Ground(2, {"": base}, None, group.offered))
        assert where.offered == {name}
        group.make(Limits())
        assert name in read(group.folder / "cgroup.controllers").split()
        child = subprocess.Popen(["sleep", "600"], preexec_fn=group.enter_here)
        assert group.pids() == [child.pid]
        group.kill()
        assert child.wait(30) == -signal.SIGKILL
        assert inside.poll() is None
    finally:
        write(base / "cgroup.kill", "1")
        inside.wait(30)
        deadline = time.monotonic() + 20
        while not remove(base, unified) and time.monotonic() < deadline:
            time.sleep(0.01)
        if name not in before.split():
            write(unified / "cgroup.subtree_control", f"-{name}")
    assert not base.exists()
