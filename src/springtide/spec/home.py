"""Where Springtide keeps what it must remember on a machine."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder for all that Springtide keeps: `TIDE_HOME`, else the user's data folder (XDG)."""
    if named := os.environ.get("TIDE_HOME"):
        return Path(named).absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "springtide"


def runs() -> Path:
    """One folder for each named run of this machine."""
    return home() / "runs"


def models() -> Path:
    """The registry of models of this home."""
    return home() / "models"
