"""What the README and the pages of docs/ tell people to type works as it stands there.

The convention, for every page, in a folder of its own:

- ```` ```python train.py ```` is written to the file of that name;
- ```` ```python ```` blocks run in order, all in one fresh interpreter;
- then lines of ```` ```console ```` blocks that begin with `$ tide` or `$ python` run, and must end with exit code 0;
- a fence with `no-run` behind it, and every other kind of block, is only read.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]
_FENCE = re.compile(r"^(?P<marks>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=marks)[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the other words behind the fence, its text, and the line where it begins."""

    language: str
    words: tuple[str, ...]
    body: str
    line: int


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are meant to run, in order."""
    found = []
    for match in _FENCE.finditer(page):
        language, *words = match["info"].split() or [""]
        if "no-run" not in words:
            found.append(Block(language, tuple(words), match["body"], page[: match.start()].count("\n") + 1))
    return found


def commands(block: Block) -> list[list[str]]:
    """The lines of a console block that a person would type; a backslash at the end goes on in the next line."""
    joined = block.body.replace("\\\n", " ")
    typed = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [words for line in typed if (words := shlex.split(line, comments=True))[:1] in (["tide"], ["python"])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_works(page: Path, tmp_path: Path) -> None:
    shown = blocks(page.read_text())
    environment = os.environ | {"TIDE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    code = []
    for block in shown:
        if block.language == "python" and block.words:
            (tmp_path / block.words[0]).write_text(block.body)
        elif block.language == "python":
            # As many empty lines before it as the page has, so that a traceback names the line of the page.
            code.append("\n" * block.line + block.body)
    if code:
        script = f"for code in {code!r}: exec(compile(code, {str(page)!r}, 'exec'), globals())"
        _must_run([sys.executable, "-c", script], tmp_path, environment, f"the Python of {page.name}")
    try:
        for block in shown:
            for words in commands(block) if block.language == "console" else ():
                _must_run(words, tmp_path, environment, f"{page.name}:{block.line}: {shlex.join(words)}")
    finally:
        if (tmp_path / "home" / "pool").exists():  # a page that failed half-way leaves no pool behind
            subprocess.run(["tide", "down"], env=environment, check=False, capture_output=True, timeout=240)


def _must_run(words: list[str], folder: Path, environment: dict[str, str], what: str) -> None:
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{what} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        *PAGES,
        *(path for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG") if (path := ROOT / f"{name}.md").exists()),
    ]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", _FENCE.sub("", page.read_text()))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert not dead


def test_the_convention_reads_a_page_as_it_is_written() -> None:
    page = (
        "# A\n```python train.py\nx = 1\n```\n```python no-run\nboom()\n```\n```python\ny = 2\n```\n"
        "```console\n$ tide ps  # look\nno runs\n$ ls\n$ tide run \\\n  train.py\n```\n"
    )
    named, plain, console = blocks(page)
    assert (named.language, named.words, named.body, named.line) == ("python", ("train.py",), "x = 1\n", 2)
    assert (plain.language, plain.words, plain.line) == ("python", (), 8)
    assert commands(console) == [["tide", "ps"], ["tide", "run", "train.py"]]


def test_every_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    names = [re.split(r"[<>=! \[]", one)[0] for one in named]
    missing = [name for name in names if f"| {name} |" not in page]
    assert not missing


def test_the_lock_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"^\s*(#|--)", lock, re.MULTILINE)
