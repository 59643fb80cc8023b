"""What users write, and how they are told what is wrong with it.

Lowest room: imports the standard library and PyYAML only. Begin with `job` and `sharing` (what can be said), then
`table` (each field, once: reader, writer and JSON Schema come of it) and `files` (text in, objects out).
`errors` is the one tree of errors; `quantities` are durations, ranges and sizes as people type them.
Only the errors are imported at once: `tide --help` and supervisors wait for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide.spec.errors import Refused, SpringtideError, UserError

if TYPE_CHECKING:
    from springtide.spec.checks import check_jobs, check_pool
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

_HOMES = {
    name: home
    for home, names in {
        "checks": "check_jobs check_pool",
        "files": "JobFile dump job_file job_file_from_text jobs jobs_from_text pool pool_from_text teams "
        "to_data to_json to_yaml",
        "job": "Bid Checkpoint Deadline Job Kind Load Placement Priority Restart Work",
        "quantities": "Every Range",
        "resources": "RESOURCES UNLIMITED Resources",
        "sharing": "DEFAULT_TEAM Node Pool Team",
        "table": "schema",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))
