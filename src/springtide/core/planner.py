"""One pass over the pool; docs/planning.md says the same in words and pictures."""

from __future__ import annotations

from springtide.core import admission, complements, growth, market, tide
from springtide.core.draft import Draft
from springtide.core.plan import Plan
from springtide.core.snapshot import Snapshot


def plan(snapshot: Snapshot) -> Plan:
    """Who runs where, when and how large: one answer for one snapshot, with a reason for each decision and wait."""
    draft = Draft(snapshot)
    tide.need(draft)  # replicas that services need now and soon
    market.clear(draft)  # this tick's prices, and who meets them
    admission.admit(draft)  # whole minima in order, in free room or in room that is made (surplus, preemption)
    complements.share(draft)  # who takes turns on the same GPUs, where more wait than fit
    growth.deal(draft)  # what is left, by marginal speed-up
    return draft.plan()
