"""docs/loop.md shows a file that is read, and every field."""

from __future__ import annotations

import re
from pathlib import Path

from springtide import spec
from springtide.spec.loop_table import LOOP
from springtide.spec.record import Record

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loop.md").read_text()


def test_the_file_that_it_shows_is_that_of_the_example() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    folder = ROOT / "examples" / "loop"
    (shown,) = spec.job_file_from_text(block, "loop.yaml", folder).loops
    assert (shown,) == spec.job_file(folder / "loop.yaml").loops


def test_every_field_has_its_line() -> None:
    rows = {name: line for line in PAGE.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    missing = [one.name for one in LOOP.fields if one.name not in rows and one.name != "kind"]
    for one in LOOP.fields:
        if isinstance(one.form, Record):
            missing += [f"{one.name}.{part.name}" for part in one.form.fields if f"`{part.name}`" not in rows[one.name]]
    assert not missing
