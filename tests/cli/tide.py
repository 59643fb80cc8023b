"""The real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TIDE = Path(sys.executable).with_name("tide")


def tide(*words: str | Path, home: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Call `tide` with `words`; all that it keeps goes below `home`."""
    environment = os.environ | {"TIDE_HOME": str(home), "COLUMNS": "100"} | variables
    return subprocess.run(
        [str(TIDE), *map(str, words)],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
