"""Who holds more of the disk than it may, decided by a pure function and found by walking."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from springtide.engines.local.scratch import Disk, Guard, Offence, Watched, holds, offences, pause_s, stirred

ROOMY = Disk(1e12, 5e11)
FULL = Disk(1e12, 1e10)


def a_replica(job: str = "job", replica: str = "r1", most_bytes: float = 2**20, folder: Path = Path("x")) -> Watched:
    return Watched(job, replica, (folder,), most_bytes)


def test_who_holds_more_than_it_may_is_named_with_both_numbers() -> None:
    one = a_replica(most_bytes=10 * 2**30)
    assert offences([one], {one: 12 * 2**30}, {}, ROOMY) == [
        Offence("job", "r1", "held 12Gi of scratch, more than its 10Gi")
    ]
    assert offences([one], {one: 10 * 2**30}, {}, ROOMY) == []


def test_on_a_disk_that_is_nearly_full_who_grew_most_is_named_though_inside_its_quota() -> None:
    old, new = a_replica("old", most_bytes=1e12), a_replica("new", most_bytes=1e12)
    (found,) = offences([old, new], {old: 9 * 10**9, new: 4 * 10**9}, {old: 9 * 10**9, new: 10**9}, FULL)
    assert found == Offence(
        "new", "r1", "filled the disk (10.0 GB of 1.0 TB left): its scratch grew most of late, to 4.0 GB"
    )


def test_who_is_over_its_quota_comes_before_who_grew() -> None:
    over, grew = a_replica("over", most_bytes=10), a_replica("grew", most_bytes=1e12)
    assert [each.job for each in offences([over, grew], {over: 20, grew: 10**9}, {over: 20}, FULL)] == ["over"]


def test_a_disk_that_others_filled_is_nobody_s_fault_here() -> None:
    one = a_replica(most_bytes=1e12)
    assert offences([one], {one: 5}, {one: 5}, FULL) == []


@pytest.mark.parametrize(
    ("total", "free", "full"),
    [(1e12, 1.9e10, True), (1e12, 2.1e10, False), (1e10, 4e8, True), (1e10, 6e8, False), (1e9, 4e8, False)],
)
def test_nearly_full_is_two_hundredths_or_half_a_gigabyte(total: float, free: float, full: bool) -> None:
    assert Disk(total, free).full is full


def test_long_walks_are_rare() -> None:
    assert (pause_s(0.001), pause_s(1.5)) == (0.1, 30.0)


def test_nobody_walks_where_nothing_was_written() -> None:
    assert not stirred(5e9, 5e9 + 15e6, [10e9])
    assert stirred(5e9, 5e9 + 17e6, [10e9])
    assert stirred(5e9, 5e9 + 200e3, [10e9, 1e6])


def test_a_file_with_two_names_counts_once_and_what_links_lead_to_not_at_all(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    (mine / "below").mkdir(parents=True)
    other.mkdir()
    (other / "large").write_bytes(os.urandom(1 << 20))
    (mine / "below" / "file").write_bytes(os.urandom(1 << 18))
    os.link(mine / "below" / "file", mine / "again")
    (mine / "link").symlink_to(other)
    (mine / "holes").touch()
    os.truncate(mine / "holes", 1 << 30)
    assert 1 << 18 <= holds([mine]) < (1 << 18) + 50_000
    assert holds([tmp_path / "not-there"]) == 0


def test_the_guard_tells_once_of_whom_it_found(tmp_path: Path) -> None:
    told = threading.Event()
    guard = Guard(tmp_path, told.set)
    try:
        (tmp_path / "small").mkdir()
        (tmp_path / "large").mkdir()
        (tmp_path / "large" / "file").write_bytes(os.urandom(2 << 20))
        watched = [a_replica(replica=name, folder=tmp_path / name) for name in ("small", "large")]
        guard.watch(watched)
        assert told.wait(30)
        assert [each.replica for each in guard.offences()] == ["large"]
        told.clear()
        guard.watch(watched)
        (tmp_path / "small" / "file").write_bytes(os.urandom(2 << 20))
        assert told.wait(30)
        assert [each.replica for each in guard.offences()] == ["small"]
    finally:
        guard.close()
    assert "scratch" not in {thread.name for thread in threading.enumerate()}
