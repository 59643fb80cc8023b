"""The copy of a script and its local modules that every worker of a run executes, whatever is edited meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_MOST_FILES, _MOST_BYTES = 2000, 32 << 20
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}


def copy_script(script: Path, target: Path) -> str | None:
    """Copy `script` and the Python files below its folder to `target`. Returns a warning where it was too much."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    warning, files, size = None, 0, 0
    for path in _modules(script.parent):
        files, size = files + 1, size + path.stat().st_size
        if files > _MOST_FILES or size > _MOST_BYTES:
            warning = (
                f"more Python files below {script.parent} than are copied; later edits there may reach new workers"
            )
            break
        copied = target / path.relative_to(script.parent)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
    shutil.copyfile(script, target / script.name)
    return warning


def _modules(folder: Path) -> Iterator[Path]:
    """Python files of `folder` and of the packages below it; no hidden folders, no virtual environments."""
    for here, folders, files in os.walk(folder):
        at = Path(here)
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and name not in _PASSED_OVER and not (at / name / "pyvenv.cfg").exists()
            and any((at / name).glob("*.py"))
        )  # fmt: skip
        yield from (at / name for name in sorted(files) if name.endswith(".py"))
