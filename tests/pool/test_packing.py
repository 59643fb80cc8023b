"""What a submission takes along of a folder, and what not."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from springtide.pool import packing
from springtide.pool.packing import pack
from springtide.spec.errors import UserError


def names(folder: Path) -> list[str]:
    packed = pack(folder)
    with packed.file, tarfile.open(fileobj=packed.file) as archive:
        return archive.getnames()


def test_the_same_files_are_the_same_bits_wherever_and_whenever(tmp_path: Path) -> None:
    digests = set()
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        folder = tmp_path / str(number)
        (folder / "sub").mkdir(parents=True)
        for name in order:
            (folder / "sub" / name).write_text(name)
            os.utime(folder / "sub" / name, (number, number))
        with (packed := pack(folder)).file:
            digests.add(packed.digest)
    assert len(digests) == 1


def test_other_content_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    with (before := pack(tmp_path)).file:
        pass
    (tmp_path / "a").write_text("2")
    with (after := pack(tmp_path)).file:
        assert before.digest != after.digest


def test_repositories_environments_caches_and_the_pools_own_things_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDE_HOME", str(tmp_path / "home"))
    for name in (".git", ".venv", "venv", "__pycache__", "node_modules", "home", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    assert names(tmp_path) == ["kept", "kept/file"]


def test_what_tideignore_names_stays(tmp_path: Path) -> None:
    for name in ("data", "sub", "sub/data", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.bin").write_text("x")
        (tmp_path / name / "x.py").write_text("x")
    (tmp_path / ".tideignore").write_text("# by name, and by path\n*.bin\n/data/\nsub/data\n")
    assert names(tmp_path) == [".tideignore", "other", "other/x.py", "sub", "sub/x.py"]


def test_sockets_and_pipes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        (tmp_path / "file").write_text("x")
        assert names(tmp_path) == ["file"]


def test_a_link_out_is_taken_as_the_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("content")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    with (packed := pack(tmp_path / "in")).file, tarfile.open(fileobj=packed.file) as archive:
        found = archive.extractfile("link")
        assert found is not None and found.read() == b"content"


@pytest.mark.parametrize("target", ["..", "/nowhere"])
def test_a_link_out_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(target)
    with pytest.raises(UserError, match=r"link: this link names .* \.tideignore"):
        pack(tmp_path / "in")


def test_too_much_names_the_largest_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 10_000)
    for number, name in enumerate(("small", "middle", "large", "largest")):
        (tmp_path / name).write_bytes(b"x" * 4000 * number)
    with pytest.raises(UserError, match=r"largest \(12.0 kB\), large \(8.0 kB\), middle \(4.0 kB\).*\.tideignore"):
        pack(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        pack(tmp_path / "nowhere")
