"""docs/jobs.md shows files that are read, every field, and sentences that are really said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from springtide import spec
from springtide.spec import UserError
from springtide.spec.record import Record
from springtide.spec.table import JOB, NODE, POOL, TEAM

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_block_is_read() -> None:
    pools = [block for block in BLOCKS if block.startswith("nodes:")]
    assert [spec.pool_from_text(block) for block in pools]
    assert sum(len(spec.jobs_from_text(block)) for block in BLOCKS if block not in pools) == 3


@pytest.mark.parametrize("record", [JOB, NODE, TEAM, POOL])
def test_every_field_has_its_line(record: Record) -> None:
    missing = [one.name for one in record.fields if not re.search(rf"^\| .*`{one.name}`.* \|", PAGE, re.MULTILINE)]
    assert not missing


def test_the_faults_that_it_shows_are_what_is_said() -> None:
    text = "kind: training\nname: a\nscript: a.py\npriorty: spot\nreplicas: 4..1\n\nargs: --steps 400\n"
    with pytest.raises(UserError) as error:
        spec.jobs_from_text(text, "jobs.yaml")
    assert f"```\n{error.value}\n```" in PAGE
