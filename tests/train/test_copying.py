"""The copy of a script that every worker runs: its modules, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from springtide.train import copying


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A script as people have them: beside modules, packages, data, a virtual environment and a repository."""
    files = (
        "train.py", "model.py", "package/__init__.py", "package/deep/layers.py", "package/deep/table.csv", "data.csv",
        "venv/pyvenv.cfg", "venv/lib.py", ".git/hook.py", "__pycache__/model.py", "data_only/big.bin",
    )  # fmt: skip
    for name in files:
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")
    (tmp_path / "project/package/deep/__init__.py").touch()
    return tmp_path / "project"


def copied(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def test_the_script_and_its_local_modules_are_copied(project: Path, tmp_path: Path) -> None:
    assert copying.copy_script(project / "train.py", tmp_path / "copy") is None
    assert copied(tmp_path / "copy") == {
        "train.py", "model.py", "package/__init__.py", "package/deep/__init__.py", "package/deep/layers.py",
    }  # fmt: skip


def test_what_an_earlier_copy_held_is_gone(project: Path, tmp_path: Path) -> None:
    copying.copy_script(project / "train.py", tmp_path / "copy")
    (project / "model.py").unlink()
    copying.copy_script(project / "train.py", tmp_path / "copy")
    assert "model.py" not in copied(tmp_path / "copy")


def test_too_many_files_are_said_and_the_script_is_there_all_the_same(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_MOST_FILES", 1)
    warning = copying.copy_script(project / "train.py", tmp_path / "copy")
    assert warning is not None and "more Python files" in warning and str(project) in warning
    assert (tmp_path / "copy/train.py").read_text() == "# train.py"
