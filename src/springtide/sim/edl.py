"""PaddlePaddle EDL's own experiment of 2017: elastic jobs on 133 nodes, alone and beside a web service."""

from __future__ import annotations

from springtide.core import resources
from springtide.core.snapshot import SERVICE, TRAINING
from springtide.sim import pool
from springtide.sim.formats import Options
from springtide.sim.trace import Resize, Task, Trace
from springtide.sim.world import Steady

NODES = "105x16cpu,64Gi+27x24cpu,96Gi+1x20cpu,80Gi"
GIB = 1024.0**3
TRAINER = resources.vector(cpu=5.0, memory=8 * GIB)
PARAMETER_SERVER = resources.vector(cpu=4.0, memory=5 * GIB)
NGINX = resources.vector(cpu=3.0, memory=3 * GIB)
SERVERS, LEAST, MOST = 10, 2, 60
STEPS, STEP_S = (400, 300, 200, 100, 200, 300, 400), 90.0
APART_S = 10.0
FIRST_TRAINERS = {"edl-2017-case-2": 15}  # trainers that elastic jobs begin with, where it is not the least
START_S, LEAVE_S = 5.0, 2.0
# The one figure that was not published: how long a job takes with all 60 trainers. Fixed sizes let 6 of the 20 jobs
# run at once, so 14 wait, and their mean pending time is 1.2 * (duration - 60 s); it was 308.5 s.
DURATION_S = 317.0


def case_1(options: Options) -> Trace:
    """20 jobs, 10 s apart; with autoscaling off each has 60 trainers."""
    return Trace(
        name="edl-2017-case-1",
        nodes=pool.nodes(options.nodes or NODES),
        tasks=[task for number in range(20) for task in _job(number, MOST, MOST * DURATION_S)],
        world=Steady(options.restart_s or 0.0, START_S),
        leave_s=LEAVE_S,
        window_s=(0.0, 550.0),
        published={
            ("edl-2017", "average_wait"): 47.2,
            ("edl-2017-off", "average_wait"): 308.5,
            ("edl-2017", "cpu_requested"): 76.3,
            ("edl-2017-off", "cpu_requested"): 76.2,
            ("edl-2017-off", "peak_waiting"): 14,
        },
    )


def case_2(options: Options) -> Trace:
    """6 jobs of 15 trainers at first, 10 s apart, beside Nginx in steps of 90 s; CPU is what counts."""
    nginx = Task(
        name="nginx", kind=SERVICE, priority=3, submit_s=0.0, request=NGINX, minimum=STEPS[0], maximum=STEPS[0],
        asked=STEPS[0],
    )  # fmt: skip
    end_s = len(STEPS) * STEP_S
    return Trace(
        name="edl-2017-case-2",
        nodes=pool.nodes(options.nodes or NODES),
        tasks=[nginx, *(task for number in range(6) for task in _job(number, 15, float("inf")))],
        resizes=[Resize(n * STEP_S, "nginx", size) for n, size in enumerate(STEPS)],
        world=Steady(options.restart_s or 0.0, START_S),
        leave_s=LEAVE_S,
        end_s=end_s,
        window_s=(5 * APART_S + 60.0, end_s),
        published={("edl-2017", "cpu_requested"): 83.4, ("edl-2017-off", "cpu_requested"): 61.9},
    )


def _job(number: int, asked: int, work_s: float) -> list[Task]:
    """Its parameter servers, which stay as many as they are, and its elastic trainers."""
    name, submit_s = f"job-{number}", number * APART_S
    servers = Task(
        name=f"{name}-servers", kind=TRAINING, submit_s=submit_s, request=PARAMETER_SERVER, minimum=SERVERS,
        maximum=SERVERS, asked=SERVERS, follows=name,
    )  # fmt: skip
    trainers = Task(
        name=name, kind=TRAINING, submit_s=submit_s, request=TRAINER, minimum=LEAST, maximum=MOST, asked=asked,
        work_s=work_s, work_known=False,
    )  # fmt: skip
    return [servers, trainers]
