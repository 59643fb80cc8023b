"""What is written down reads back as an equal object."""

from __future__ import annotations

import json
from pathlib import Path

import some_jobs
from hypothesis import given

from springtide import spec
from springtide.spec import Job, Kind, Pool


@given(some_jobs.jobs())
def test_a_job_reads_back_from_its_yaml(job: Job) -> None:
    assert spec.jobs_from_text(spec.to_yaml(job)) == [job]


@given(some_jobs.jobs())
def test_a_job_reads_back_from_its_json(job: Job) -> None:
    assert spec.jobs_from_text(spec.to_json(job)) == [job]


@given(some_jobs.pools())
def test_a_pool_reads_back_from_its_yaml(pool: Pool) -> None:
    assert spec.pool_from_text(spec.to_yaml(pool)) == pool


def test_several_jobs_of_a_file_read_back_in_order() -> None:
    jobs = [Job(kind=Kind.BATCH, name=name, command=("true",)) for name in ("b", "a", "c")]
    assert spec.jobs_from_text(spec.dump(jobs)) == jobs


def test_a_file_read_from_its_folder_reads_the_same_anywhere_else(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text("{kind: training, name: a, script: train.py, data: [x.csv, s3://b/y]}")
    (job,) = spec.jobs(tmp_path / "jobs.yaml")
    assert spec.jobs_from_text(spec.to_yaml(job), "elsewhere", Path("/elsewhere")) == [job]


def test_what_is_so_anyway_is_not_written() -> None:
    job = Job(kind=Kind.SERVICE, name="a", command=("x",))
    assert json.loads(spec.to_json(job)) == {"kind": "service", "name": "a", "command": ["x"]}
