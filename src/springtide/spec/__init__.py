"""What users write, and how they are told what is wrong with it.

Lowest room: imports the standard library and PyYAML only. Begin with `job` and `sharing` (what can be said), then
`table` (each field, once: reader, writer and JSON Schema come of it) and `files` (text in, objects out).
`errors` is the one tree of errors; `quantities` are durations, ranges and sizes as people type them.
"""

from springtide.spec.checks import check_jobs, check_pool
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.files import (
    JobFile,
    dump,
    job_file,
    job_file_from_text,
    jobs,
    jobs_from_text,
    pool,
    pool_from_text,
    teams,
    to_data,
    to_json,
    to_yaml,
)
from springtide.spec.job import Bid, Checkpoint, Deadline, Job, Kind, Load, Placement, Priority, Restart, Work
from springtide.spec.quantities import Every, Range
from springtide.spec.resources import RESOURCES, UNLIMITED, Resources
from springtide.spec.sharing import DEFAULT_TEAM, Node, Pool, Team
from springtide.spec.table import schema

__all__ = [
    "DEFAULT_TEAM",
    "RESOURCES",
    "UNLIMITED",
    "Bid",
    "Checkpoint",
    "Deadline",
    "Every",
    "Job",
    "JobFile",
    "Kind",
    "Load",
    "Node",
    "Placement",
    "Pool",
    "Priority",
    "Range",
    "Refused",
    "Resources",
    "Restart",
    "SpringtideError",
    "Team",
    "UserError",
    "Work",
    "check_jobs",
    "check_pool",
    "dump",
    "job_file",
    "job_file_from_text",
    "jobs",
    "jobs_from_text",
    "pool",
    "pool_from_text",
    "schema",
    "teams",
    "to_data",
    "to_json",
    "to_yaml",
]
