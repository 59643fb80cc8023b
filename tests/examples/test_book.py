"""The chapters of the book do what their READMEs say, as a user starts them: `python train.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "examples" / "book"
CHAPTERS = sorted(path.parent for path in BOOK.glob("*/train.py"))


def trained(chapter: str, folder: Path, *arguments: str) -> tuple[str, dict]:
    """What the chapter prints, and its report."""
    report = folder / "report.json"
    environment = {**os.environ, "TIDE_HOME": str(folder / "home"), "TIDE_REPORT": str(report)}
    command = [sys.executable, str(BOOK / chapter / "train.py"), *arguments]
    said = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240)
    assert said.returncode == 0, said.stderr
    return said.stdout, json.loads(report.read_text())


def test_a_line_explains_what_the_exact_solution_explains(tmp_path):
    printed, report = trained("01_fit_a_line", tmp_path)
    assert "the line explains 44%" in printed
    assert report["steps"] == 300


@pytest.mark.slow
def test_digits_are_read_with_98_percent(tmp_path):
    printed, report = trained("02_recognize_digits", tmp_path)
    assert report["metrics"]["accuracy"] >= 0.98
    assert "360 held-out digits read correctly" in printed


@pytest.mark.slow
def test_the_number_of_steps_can_be_said(tmp_path):
    assert trained("01_fit_a_line", tmp_path, "--steps", "7")[1]["steps"] == 7


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_a_chapter_is_one_short_file_with_its_story(chapter):
    assert len((chapter / "train.py").read_text().splitlines()) < 80
    assert (chapter / "README.md").read_text().startswith(f"# {int(chapter.name[:2])}. ")
