"""Folders that come in: what is well made is unpacked, and nothing else leaves a trace."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from springtide.pool import sources
from springtide.pool.packing import pack
from springtide.pool.refusals import Malformed, TooLarge
from springtide.pool.sources import Sources
from springtide.spec.errors import UserError


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a tar file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar file of some entries."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return file.getvalue()


def bring(here: Sources, content: bytes, digest: str | None = None) -> bool:
    digest = digest or hashlib.sha256(content).hexdigest()
    with here.receive(digest) as coming:
        for at in range(0, len(content), 1000):
            coming.feed(content[at : at + 1000])
        return coming.finish()


LINK, HARD, DEVICE, FIFO, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE
ATTACKS = {
    "a path upwards": [member("../evil")],
    "a path upwards, deeper": [member("a/../../evil")],
    "an absolute path": [member("/tmp/tide-evil")],
    "a link out": [member("link", LINK, "../../..")],
    "an absolute link": [member("link", LINK, "/etc/passwd")],
    "a file through a link": [member("link", LINK, ".."), member("link/evil")],
    "a file through a folder's link": [member("sub", FOLDER), member("sub", LINK, ".."), member("sub/evil")],
    "two links that lead out only together": [
        member("d", FOLDER), member("d/e", FOLDER), member("d/e/up", LINK, "../.."), member("out", LINK, "d/e/up/.."),
    ],
    "a hard link": [member("hard", HARD, "/etc/passwd")],
    "a device": [member("null", DEVICE)],
    "a fifo": [member("pipe", FIFO)],
    "one name twice": [member("a"), member("a")],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_leads_out_of_the_folder_is_refused_and_leaves_nothing(attack: str, tmp_path: Path) -> None:
    here = Sources(tmp_path / "deep" / "sources")
    with pytest.raises(UserError):
        bring(here, tar(*ATTACKS[attack]))
    assert list(here.folder.iterdir()) == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["sources"]
    assert not Path("/tmp/tide-evil").exists()


def test_a_folder_is_there_once_it_came_whole(tmp_path: Path) -> None:
    here = Sources(tmp_path)
    content = tar(member("a/b.py", content=b"print()"), member("link", LINK, "a/b.py"))
    assert bring(here, content)
    assert not bring(here, content)
    digest = hashlib.sha256(content).hexdigest()
    assert (here.path(digest) / "link").read_text() == "print()"
    assert here.holds(digest, "a/b.py") and not here.holds(digest, "../a") and not here.holds(digest, "a")


def test_another_content_than_was_announced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="has the digest"):
        bring(Sources(tmp_path), tar(member("a")), "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_tar_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="no tar file"):
        bring(Sources(tmp_path), b"x" * 5000)


def test_a_name_that_is_no_digest_reaches_no_file(tmp_path: Path) -> None:
    for name in ("..", "../../etc", "A" * 64, ""):
        with pytest.raises(UserError, match="names no folder"):
            Sources(tmp_path).path(name)


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BYTES", 1 << 20)
    with pytest.raises(TooLarge, match="larger than 1 MiB"):
        bring(Sources(tmp_path), tar(member("big", content=b"x" * (1 << 20))))
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_says_it_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    info, _ = member("bomb")
    info.size = 1 << 40
    with pytest.raises(UserError):
        bring(Sources(tmp_path), info.tobuf() + b"\0" * 1024)
    sparse, _ = member("sparse", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(UserError):
        bring(Sources(tmp_path), sparse.tobuf() + b"\0" * 1024)
    assert list(tmp_path.iterdir()) == []


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_ENTRIES", 3)
    with pytest.raises(TooLarge):
        bring(Sources(tmp_path), tar(*(member(f"f{number}") for number in range(4))))


def test_leaving_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), Sources(tmp_path).receive("0" * 64) as coming:
        coming.feed(b"half")
        raise ConnectionError
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_needs_and_is_a_day_old_is_swept(tmp_path: Path) -> None:
    here = Sources(tmp_path)
    digests = []
    for number in range(3):
        content = tar(member(f"f{number}"))
        bring(here, content)
        digests.append(hashlib.sha256(content).hexdigest())
    (tmp_path / "coming-dead").mkdir()
    for name in (digests[0], digests[1], "coming-dead"):
        os.utime(tmp_path / name, (0, 0))
    assert here.sweep({digests[0]}) == [digests[1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([digests[0], digests[2]])


def test_what_was_packed_unpacks_to_the_same(tmp_path: Path) -> None:
    folder, here = tmp_path / "folder", Sources(tmp_path / "sources")
    (folder / "sub").mkdir(parents=True)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    (folder / "sub" / "data").write_bytes(b"\0\1")
    (folder / "sub" / "back").symlink_to("../run.sh")
    packed = pack(folder)
    with packed.file:
        assert bring(here, packed.file.read())
    tree = here.path(packed.digest)
    assert (tree / "sub" / "back").readlink() == Path("../run.sh")
    assert (tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tree / "sub" / "data").read_bytes() == b"\0\1"
