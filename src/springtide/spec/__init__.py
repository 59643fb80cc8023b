"""What users write, and how they are told what is wrong with it.

Lowest room: imports the standard library only. Begin with `errors` (the one tree of errors) and `quantities`
(durations, ranges and shares as people type them).
"""

from springtide.spec.errors import Refused, SpringtideError, UserError

__all__ = ["Refused", "SpringtideError", "UserError"]
