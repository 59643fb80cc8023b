"""What is kept of far files: bounded, shared, never wrong, whoever dies."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from running import wait_until
from springtide.data.cache import LIMIT, Cache, Limit, name_of
from springtide.spec import UserError

SIZE = 100_000
OVERHEAD = 200


def a_cache(tmp_path: Path, limit_bytes: int = 1 << 30) -> Cache:
    return Cache(Limit(limit_bytes), tmp_path / "cache")


def content_of(number: int, size: int = SIZE) -> bytes:
    return random.Random(number).randbytes(size)


def put(cache: Cache, number: int, size: int = SIZE) -> bytes:
    name = name_of(number)
    with cache.claim(name) as claim:
        assert claim is not None
        claim.keep(content_of(number, size))
    return name


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.folder.glob("??/*") if path.is_file()]


def aside(cache: Cache) -> list[Path]:
    return list((cache.folder / "aside").iterdir())


def test_any_part_of_what_is_kept_is_read_back(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    name = put(cache, 1)
    for start, end in [(0, None), (0, 1), (16383, 16385), (99_999, 100_000), (5, 70_000), (16384, 32768), (7, 7)]:
        assert cache.read(name, start, end) == content_of(1)[start:end]
    assert cache.read(name, 99_990, 200_000) == content_of(1)[99_990:]
    assert cache.read(name_of(2)) is None
    assert aside(cache) == []


def test_empty_and_large_entries_are_entries(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    assert cache.read(put(cache, 1, 0)) == b""
    name = put(cache, 2, 40 << 20)  # its table of checksums is longer than the first look
    assert cache.read(name, (40 << 20) - 3) == content_of(2, 40 << 20)[-3:]


def test_every_flipped_byte_is_noticed_and_the_entry_made_anew(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    whole = None
    for place in (0, 9, 25, 33, 50, 60, 70, 5_000, 99_999, -1):
        name = put(cache, 1)
        path = entries(cache)[0]
        whole = bytearray(path.read_bytes())
        whole[place] ^= 64
        path.write_bytes(whole)
        assert cache.read(name) is None, place
        assert entries(cache) == []
    assert cache.read(put(cache, 1)) == content_of(1)


def test_a_part_is_read_although_another_is_damaged(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    name = put(cache, 1)
    path = entries(cache)[0]
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert cache.read(name, 0, 1000) == content_of(1)[:1000]
    assert cache.read(name) is None


@pytest.mark.parametrize("length", [0, 10, 60, 30_000])
def test_an_entry_that_was_cut_is_not_there(length: int, tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    name = put(cache, 1)
    os.truncate(entries(cache)[0], length)
    assert cache.read(name) is None


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    one, other = put(cache, 1), put(cache, 2)
    cache._path(one).rename(cache._path(other))
    assert cache.read(other) is None


def test_the_limit_holds_and_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, 10 * (SIZE + OVERHEAD))
    for number in range(10):
        os.utime(cache._path(put(cache, number)), (1_000 + number, 1_000 + number))
    assert cache.read(name_of(0)) == content_of(0)  # which was the oldest
    put(cache, 10)
    assert cache.read(name_of(0)) is not None
    assert cache.read(name_of(1)) is None
    assert cache.read(name_of(9)) is not None
    assert sum(path.stat().st_size for path in entries(cache)) <= 10 * (SIZE + OVERHEAD)


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, SIZE // 2)
    assert cache.read(put(cache, 1)) is None
    assert (entries(cache), aside(cache)) == ([], [])


def test_a_limit_of_nothing_makes_no_folder(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, 0)
    with cache.claim(name_of(1)) as claim:
        assert claim is None
    assert not cache.folder.exists()


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    cache = a_cache(tmp_path)
    with cache.claim(name_of(1)) as claim:
        assert claim is None
    other = Cache(Limit(1 << 30), tmp_path / "other")
    with Path("/dev/full").open("r+b", buffering=0) as full:
        assert not other.keep(name_of(1), full.fileno(), content_of(1))
    assert other.read(name_of(1)) is None


def test_the_limit_is_told_by_the_caller_the_environment_or_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    free = os.statvfs(tmp_path)
    share = Limit.of(None).now(tmp_path, 1000) / (free.f_bavail * free.f_frsize)
    assert 0.15 < share < 0.25
    monkeypatch.setenv(LIMIT, "3MB")
    assert Limit.of(None) == Limit(3_000_000)
    assert Limit.of(5) == Limit(5)
    monkeypatch.setenv(LIMIT, "50%")
    assert Limit.of(None) == Limit(share=0.5)
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(UserError, match='TIDE_DATA_CACHE: "much" is no size; write 512MiB'):
        Limit.of(None)
    with pytest.raises(UserError, match="disk_cache_bytes=-1 is negative"):
        Limit.of(-1)


# --- several processes

CHILD = """
import itertools, random, sys
from pathlib import Path
from springtide.data.cache import Cache, Limit, name_of
cache, made = Cache(Limit(int(sys.argv[2])), Path(sys.argv[1])), 0
rounds, seed = int(sys.argv[3]), int(sys.argv[4])
for turn in range(rounds) if rounds else itertools.count():
    number = random.Random(seed * 100_003 + turn).randrange(40)
    content, name = random.Random(number).randbytes(100_000), name_of(number)
    found = cache.read(name)
    if found is None:
        with cache.claim(name) as claim:
            found = cache.read(name)
            if found is None and claim is not None:
                claim.keep(content)
                made += 1
    assert found in (None, content), f"entry {number} is wrong"
print(made)
"""


def a_child(cache: Cache, limit_bytes: int, rounds: int, seed: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CHILD, str(cache.folder), str(limit_bytes), str(rounds), str(seed)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_at_once_make_each_entry_once(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    children = [a_child(cache, 1 << 30, 200, seed) for seed in range(3)]
    told = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], told
    assert sum(int(out) for out, _ in told) == len(entries(cache)) == 40


def test_killed_at_any_instant_nothing_wrong_stays_and_the_limit_holds(tmp_path: Path) -> None:
    limit_bytes = 12 * SIZE
    cache, chance = a_cache(tmp_path, limit_bytes), random.Random(7)
    children = [a_child(cache, limit_bytes, 0, seed) for seed in range(2)]
    wait_until(lambda: len(entries(cache)) > 3, "the children write")
    for turn in range(6):
        time.sleep(chance.random() * 0.05)  # any instant is the right one
        number = turn % len(children)
        children[number].kill()
        children[number].communicate()
        children[number] = a_child(cache, limit_bytes, 0, 10 + turn)
        wait_until(lambda: bool(entries(cache)), "somebody writes")
    for child in children:
        assert child.poll() is None, child.communicate()
        child.kill()
        child.communicate()
    for number in range(40):
        assert cache.read(name_of(number)) in (None, content_of(number))
    for number in range(40, 60):  # a removal looks at all there is, and clears what the dead left
        put(cache, number)
    assert sum(path.stat().st_size for path in entries(cache)) <= limit_bytes
    assert aside(cache) == []


def test_who_is_killed_while_it_makes_an_entry_hands_the_right_on(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    script = (
        "import sys, time; from pathlib import Path; from springtide.data.cache import *\n"
        "with Cache(Limit(1 << 30), Path(sys.argv[1])).claim(name_of(1)) as claim:\n"
        "    print(claim is not None, flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(cache.folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with cache.claim(name_of(1), wait_s=0.05) as claim:
        assert claim is None
    taken: list[bool] = []

    def wait() -> None:
        with cache.claim(name_of(1)) as claim:
            taken.append(claim is not None)

    waiting = threading.Thread(target=wait)
    waiting.start()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    waiting.join(60)
    assert taken == [True]
    assert aside(cache) == []


def test_who_waits_for_an_entry_finds_it_made(tmp_path: Path) -> None:
    cache, found = a_cache(tmp_path), []
    name = name_of(1)

    def wait() -> None:
        with cache.claim(name) as claim:
            found.append((claim, cache.read(name)))

    with cache.claim(name) as claim:
        assert claim is not None
        waiting = threading.Thread(target=wait)
        waiting.start()
        claim.keep(content_of(1))
    waiting.join(60)
    assert found == [(None, content_of(1))]


def test_names_tell_parts_apart() -> None:
    assert name_of("a", "b") != name_of("ab")
    assert len({name_of("f", size, block) for size in range(20) for block in range(20)}) == 400
    assert hashlib.blake2b(b"f", digest_size=16).digest() == name_of("f")
