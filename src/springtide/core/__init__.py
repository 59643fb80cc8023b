"""The planner: one pure function that shares a pool.

`plan(snapshot) -> Plan` is called by the pool, by `--dry-run`, by Kubernetes and by the simulator. Imports the
standard library, numpy and `spec`, nothing else; no clock, no I/O, no randomness. Begin with `planner` (the pass), then
`snapshot` (what goes in), `plan` (what comes out) and the module named after the rule that you look for.
"""

from springtide.core.cluster import Cluster
from springtide.core.forward import apply
from springtide.core.plan import Action, Plan
from springtide.core.planner import plan
from springtide.core.snapshot import Snapshot

__all__ = ["Action", "Cluster", "Plan", "Snapshot", "apply", "plan"]
