"""The laws of planning (design, section 3), as properties of random pools, teams, jobs and histories."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from worlds import History, histories, play

from springtide.core import Cluster, Plan, Snapshot, plan, tide
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.quota import Quota
from springtide.core.resources import GPU, SLACK, vector
from springtide.core.snapshot import BATCH, GONE, SERVICE, TRAINING

law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def held_by_hand(cluster: Cluster) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5) and (N, D) what all slots take, added up anew."""
    used = np.zeros_like(cluster.free)
    devices = np.zeros_like(cluster.device_free)
    seen = cluster.snapshot(0.0)
    for row, slots in enumerate(cluster.held):
        request = seen.shapes.request[seen.jobs.shape[row]]
        for slot in slots:
            used[slot.node] += request
            for device in range(devices.shape[1]):
                if slot.devices >> device & 1:
                    devices[slot.node, device] += min(request[GPU], 1.0)
    return used, devices


@law
@given(histories())
def test_no_node_and_no_device_is_over_its_capacity(history: History) -> None:
    for _, _, cluster in play(history):
        used, devices = held_by_hand(cluster)
        limit = np.where(cluster.nodes.alive[:, None], cluster.nodes.capacity, 0.0)
        assert (used <= limit * (1 + SLACK) + SLACK).all()
        assert (devices <= 1 + SLACK).all()


@law
@given(histories())
def test_a_replica_has_as_many_devices_as_it_asks_for(history: History) -> None:
    for _, _, cluster in play(history):
        seen = cluster.snapshot(0.0)
        for row, slots in enumerate(cluster.held):
            gpu = seen.shapes.request[seen.jobs.shape[row], GPU]
            assert all(slot.devices.bit_count() == np.ceil(gpu) for slot in slots)


@law
@given(histories())
def test_a_job_has_its_minimum_or_nothing_and_never_more_than_its_maximum(history: History) -> None:
    for _, _, cluster in play(history):
        jobs = cluster.snapshot(0.0).jobs
        for row in np.flatnonzero(jobs.kind != GONE):
            running = jobs.running[row]
            assert running <= jobs.maximum[row]
            assert jobs.kind[row] == SERVICE or running == 0 or running >= jobs.minimum[row]


@law
@given(histories())
def test_a_plan_of_the_planned_state_is_empty(history: History) -> None:
    for seen, _, cluster in play(history):
        again = plan(cluster.snapshot(seen.now_s))
        assert not again, told(seen, again)


@law
@given(histories(classes=(0, 0, 0, 1, 2)))
def test_a_plan_of_the_planned_state_is_empty_where_most_bid_for_what_teams_are_guaranteed(history: History) -> None:
    for seen, _, cluster in play(history):
        again = plan(cluster.snapshot(seen.now_s))
        assert not again, told(seen, again)


@law
@given(histories())
def test_the_same_snapshot_gives_the_same_plan(history: History) -> None:
    for seen, decided, _ in play(history):
        assert plan(seen) == decided


@law
@given(histories())
def test_planning_changes_nothing_in_the_snapshot(history: History) -> None:
    for seen, _, cluster in play(history):
        before = cluster.frozen(seen.now_s)
        plan(cluster.snapshot(seen.now_s))
        after = cluster.snapshot(seen.now_s)
        assert (before.free == after.free).all() and (before.device_free == after.device_free).all()
        assert list(before.held) == list(after.held)


@law
@given(histories())
def test_whoever_lacks_replicas_is_told_why(history: History) -> None:
    for _, decided, cluster in play(history):
        jobs = cluster.snapshot(0.0).jobs
        for row in np.flatnonzero((jobs.kind != GONE) & (jobs.running < jobs.minimum)):
            assert str(decided.waits[row])
        assert all(str(action.reason) for action in decided.actions)


@law
@given(histories(guarantees=False))
def test_nobody_loses_its_minimum_to_an_equal_or_a_better(history: History) -> None:
    """Who lost its minimum lost it to a better one, or no work at all to one of its team and class, or with a node."""
    for seen, decided, _ in play(history):
        jobs = seen.jobs
        started = [a.job for a in decided.actions if a.added and jobs.running[a.job] < jobs.minimum[a.job]]
        for action in decided.actions:
            row = action.job
            fell = len(action.removed) > len(action.added)
            if not fell or jobs.running[row] < jobs.minimum[row] or after(action, jobs) >= jobs.minimum[row]:
                continue
            if jobs.priority[row] == 0:
                continue  # spot jobs outbid each other: tests/core/test_auction.py
            better = [other for other in started if jobs.priority[other] > jobs.priority[row]]
            better += [a.job for a in decided.actions if a.added and jobs.priority[a.job] > jobs.priority[row]]
            free_of_loss = jobs.kind[row] == TRAINING and jobs.unsaved_s[row] == 0
            for_one_ahead = free_of_loss and any(
                (jobs.team[other], jobs.priority[other]) == (jobs.team[row], jobs.priority[row]) for other in started
            )
            assert better or for_one_ahead, told(seen, decided)


@law
@given(histories(guarantees=False))
def test_a_job_is_suspended_for_one_of_its_class_at_most_once_in_ten_minutes(history: History) -> None:
    last: dict[str, float] = {}
    for seen, decided, _ in play(history):
        for action in decided.actions:
            if "at no loss" in str(action.reason) and not action.added:
                name = seen.jobs.names[action.job]
                assert seen.now_s - last.get(name, -np.inf) >= seen.settings.suspend_every_s
                last[name] = seen.now_s


@law
@given(histories())
def test_a_minimum_inside_its_guarantee_is_not_lost_to_a_team_that_borrows(history: History) -> None:
    for seen, decided, _ in play(history):
        draft = Draft(seen)
        tide.need(draft)
        quota = Quota(draft)
        safe = quota.covered(0)
        takers = [a.job for a in decided.actions if a.added]
        for action in decided.actions:
            row = action.job
            whole = seen.jobs.running[row] >= draft.need[row] > after(action, seen.jobs)
            if not (whole and safe[row] and seen.jobs.kind[row] != SERVICE):
                continue
            team = int(seen.jobs.team[row])
            roots = {quota.chains[int(seen.jobs.team[taker])][-1] for taker in takers}
            same = quota.chains[team][-1] in roots
            entitled = any((quota.guarantee[root] > 0).any() for root in roots)
            assert same or entitled, told(seen, decided)


@law
@given(histories(guarantees=False, most_events=0))
def test_a_node_more_does_not_make_the_most_important_job_wait(history: History) -> None:
    for job in history.first:  # alone in its class, so that it is the most important one
        job["priority"] = min(job["priority"], 2)
    first = history.first[0]
    first["priority"] = 3
    waits = [first["name"] in waiting_names(history, more) for more in (0, 1)]
    assert waits[0] or not waits[1]


@law
@given(histories(guarantees=False, most_events=0))
def test_a_job_that_no_node_can_hold_makes_no_other_wait(history: History) -> None:
    bad = {**history.first[0], "name": "bad", "kind": BATCH, "minimum": 1, "maximum": 1, "priority": 3}
    bad.pop("rate", None)
    bad["request"] = {"cpu": 1.0, "gpu": 8}
    without = waiting_names(history)
    history.first.append(bad)
    assert waiting_names(history) - {"bad"} <= without


def waiting_names(history: History, more_nodes: int = 0) -> set[str]:
    """Who has less than it needs after one pass."""
    cluster = history.cluster(more_nodes=more_nodes)
    decided = plan(cluster.snapshot(0.0))
    return {cluster.names[row] for row in decided.waits}


def test_the_oldest_large_job_starts_though_small_ones_keep_coming() -> None:
    """One that needs the whole node, while small ones arrive before any of them ends."""
    cluster = Cluster(make_nodes(np.array([vector(cpu=4, gpu=4)])))
    small = {"kind": BATCH, "request": vector(gpu=1), "minimum": 1}
    cluster.add("early", **small, submitted_s=0.0)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    large = cluster.add("large", kind=BATCH, request=vector(gpu=4), minimum=1, submitted_s=1.0)
    for k in range(4):
        cluster.add(f"late-{k}", **small, submitted_s=2.0 + k)
        cluster.apply(plan(cluster.snapshot(2.0 + k)), 2.0 + k)
        assert cluster.held[cluster.rows[f"late-{k}"]] == ()
    cluster.remove(cluster.rows["early"])
    cluster.apply(plan(cluster.snapshot(9.0)), 9.0)
    assert len(cluster.held[large]) == 1


def test_who_ends_before_a_reservation_begins_may_start_there() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=4, gpu=4)])))
    cluster.add("runs", kind=BATCH, request=vector(gpu=2), minimum=1, remaining_s=100.0)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    cluster.add("large", kind=BATCH, request=vector(gpu=4), minimum=1, submitted_s=1.0, remaining_s=1000.0)
    cluster.add("long", kind=BATCH, request=vector(gpu=1), minimum=1, submitted_s=2.0, remaining_s=200.0)
    cluster.add("short", kind=BATCH, request=vector(gpu=1), minimum=1, submitted_s=3.0, remaining_s=50.0)
    cluster.apply(plan(cluster.snapshot(3.0)), 3.0)
    assert [len(cluster.held[cluster.rows[name]]) for name in ("large", "long", "short")] == [0, 0, 1]


def after(action: object, jobs: object) -> int:
    return int(jobs.running[action.job]) + len(action.added) - len(action.removed)  # type: ignore[attr-defined]


def told(seen: Snapshot, decided: Plan) -> str:
    lines = [f"{a.verb} {seen.jobs.names[a.job]} +{a.added} -{a.removed}: {a.reason}" for a in decided.actions]
    return "\n".join(lines + [f"{seen.jobs.names[row]} {reason}" for row, reason in decided.waits.items()])
