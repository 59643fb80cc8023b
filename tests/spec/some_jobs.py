"""Jobs, teams and pools as hypothesis invents them: all that the objects can say and a file may hold."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from springtide.spec import (
    Bid,
    Checkpoint,
    Deadline,
    Every,
    Job,
    Kind,
    Load,
    Node,
    Placement,
    Pool,
    Priority,
    Range,
    Resources,
    Restart,
    Team,
    Work,
)
from springtide.spec.patterns import PATTERNS

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
some_text = text.filter(lambda one: one.strip())
amount = st.floats(0, 1e9, allow_nan=False)
positive = st.floats(1e-6, 1e9, allow_nan=False)
share = st.floats(0, 1)
seconds = st.floats(1e-3, 1e9, allow_nan=False)
memory = st.integers(0, 2**50).map(float)
gpus = st.one_of(st.integers(0, 64).map(float), share)
bids = st.builds(Bid, per_core_hour=amount, per_gpu_hour=amount)
labels = st.dictionaries(some_text, text, max_size=3)
wishes = st.dictionaries(some_text, st.lists(text, min_size=1, max_size=3).map(tuple), max_size=2)
steps = st.integers(1, 10**9)
intervals = st.one_of(st.builds(Every, seconds=seconds), st.builds(Every, steps=steps))
work = st.one_of(st.builds(Work, seconds=seconds), st.builds(Work, steps=steps))
moments = st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000)
deadlines = st.one_of(st.builds(Deadline, at_s=moments), st.builds(Deadline, within_s=seconds))
patterns = st.one_of(
    st.just(()),
    st.sampled_from(list(PATTERNS.values())),
    st.sampled_from([24, 168]).flatmap(lambda n: st.lists(positive, min_size=n, max_size=n).map(tuple)),
)


def resources(no_limit: bool = False) -> st.SearchStrategy[Resources]:
    def some(one: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
        return st.one_of(one, st.just(math.inf)) if no_limit else one

    return st.builds(
        Resources, cpu=some(amount), memory=some(memory), gpu=gpus, disk=some(amount), network=some(amount)
    )


ranges = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(lambda ends: Range(min(ends), max(ends)))
checkpoints = st.builds(
    Checkpoint,
    every=st.none() | intervals,
    keep=st.none() | st.integers(1, 100),
    folder=st.none() | some_text,
)
placements = st.builds(Placement, require=wishes, prefer=wishes, arrange=st.sampled_from([None, "spread", "pack"]))
restarts = st.builds(
    Restart, policy=st.sampled_from(["never", "on-failure", "always"]), limit=st.none() | st.integers(0, 100)
)
more_of_a_load: dict[str, Any] = {
    "pattern": patterns,
    "headroom": st.none() | share,
    "window_s": st.none() | seconds,
}
loads = st.one_of(
    st.builds(Load, requests_per_second=positive, **more_of_a_load),
    st.builds(Load, cpu=st.floats(0.01, 1), **more_of_a_load),
)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    kind = draw(st.sampled_from(Kind))
    said: dict[str, Any] = {"kind": kind, "name": draw(names)}
    always: dict[str, st.SearchStrategy[Any]] = {
        "team": names,
        "priority": st.sampled_from(Priority),
        "replicas": ranges,
        "resources": resources(),
        "args": st.lists(text, max_size=3).map(tuple),
        "environment": st.dictionaries(st.from_regex("[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), text, max_size=3),
        "folder": some_text,
        "data": st.lists(some_text, max_size=3).map(tuple),
        "placement": placements,
        "labels": labels,
        "restart": restarts,
        "python": some_text,
        "image": some_text,
    }
    for name, strategy in always.items():
        if draw(st.booleans()):
            said[name] = draw(strategy)
    if said.get("priority") is Priority.SPOT:
        said["bid"] = draw(st.none() | bids)
    if kind is Kind.TRAINING:
        said |= {"script": draw(some_text), "checkpoint": draw(checkpoints)}
        said["microbatches"] = draw(st.none() | st.integers(1, 4096))
    elif kind is Kind.SERVICE and draw(st.booleans()):
        said |= {
            "model": draw(names),
            "requests": draw(st.none() | st.sampled_from(["log:///requests", "kafka://h:9/t"])),
        }
    else:
        said["command"] = draw(st.lists(text, min_size=1, max_size=4).map(tuple))
    if kind in (Kind.TRAINING, Kind.BATCH):
        said |= {"deadline": draw(st.none() | deadlines), "work": draw(st.none() | work)}
    if kind is Kind.STREAM:
        said["lag"] = draw(st.none() | st.integers(1, 10**6))
    if kind is Kind.SERVICE:
        said |= {"load": draw(st.none() | loads), "port": draw(st.integers(1, 65535))}
    return Job(**said)


teams = st.builds(
    Team,
    name=names,
    guarantee=st.none() | resources(),
    weight=positive,
    borrow=st.none() | resources(no_limit=True),
    budget=st.none() | amount,
)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A pool in which nothing is promised that is not there."""
    everything = Resources(cpu=math.inf, memory=math.inf, gpu=1e6, disk=math.inf, network=math.inf)
    nodes = draw(
        st.lists(
            st.builds(
                Node, name=names, resources=resources(no_limit=True), labels=labels, gpu_model=st.none() | some_text
            ),
            max_size=3,
            unique_by=lambda node: node.name,
        )
    )
    nodes.append(Node(name="everything-there-is", resources=everything))
    found = draw(st.lists(teams, max_size=3, unique_by=lambda team: team.name))
    if len(found) > 1 and draw(st.booleans()):
        last = found[-1]
        found[-1] = Team(
            name=last.name, parent=found[0].name, weight=last.weight, borrow=last.borrow, budget=last.budget
        )
    return Pool(
        nodes=tuple(nodes), teams=tuple(found), floor=draw(bids), headroom=draw(share), window_s=draw(seconds),
        scale_down_s=draw(seconds), tick_s=draw(seconds),
    )  # fmt: skip
