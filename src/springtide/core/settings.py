"""The planner's constants: one set for every pool and every trace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. A pool may say otherwise in its file; nothing here is tuned to a trace."""

    history_half_life_s: float = 7 * 86400.0  # after which use long ago counts half in a team's share
    suspend_every_s: float = 600.0  # the least time between two suspensions of a job for one of its own team and class
    patience_s: float = 30 * 86400.0  # since its submission, after which no shorter job goes before one that waits
    horizon_s: float = 600.0  # for which a change of size is taken to last, when it is weighed against restarting
    restart_prior_s: float = 0.5  # what resizing a training job costs it until that was measured
    scale_down_after_s: float = 300.0  # how long a service's load must have been low before a replica is taken from it
    lookahead_s: float = 600.0  # for which replicas are there before the load that is expected then
    headroom: float = 0.1  # of a service's wanted replicas, kept beside them
    price_tick_s: float = 60.0
