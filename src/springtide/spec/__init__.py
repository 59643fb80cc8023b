"""What users write, and how they are told what is wrong with it.

Lowest room: imports the standard library and PyYAML only. Begin with `job` and `sharing` (what can be said), then `table`
(each field, once: reader, writer and JSON Schema come of it) and `files` (text in, objects out, all errors at once).
`errors` is the one tree of errors; `quantities` are durations, ranges and sizes as people type them.
"""

from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.job import Bid, Checkpoint, Deadline, Job, Kind, Load, Placement, Priority, Restart, Work
from springtide.spec.sharing import DEFAULT_TEAM, Node, Pool, Team
from springtide.spec.quantities import Every, Range
from springtide.spec.resources import RESOURCES, UNLIMITED, Resources

__all__ = [
    "DEFAULT_TEAM",
    "RESOURCES",
    "UNLIMITED",
    "Bid",
    "Checkpoint",
    "Deadline",
    "Every",
    "Job",
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
]
