"""A pool's file, and what cannot be right about nodes, teams and jobs together."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from springtide import spec
from springtide.spec import Bid, Job, Kind, Node, Placement, Pool, Range, Resources, Team, UserError

EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs"
SMALL = Node(name="small", resources=Resources(cpu=4, memory=2**33), labels={"zone": "north"})
LARGE = Node(name="large", resources=Resources(cpu=16, memory=2**35, gpu=4), gpu_model="A100", labels={"zone": "south"})


def told(text: str) -> str:
    with pytest.raises(UserError) as error:
        spec.pool_from_text(text, "p.yaml")
    return str(error.value)


def refused(job: Job, pool: Pool) -> str:
    with pytest.raises(UserError) as error:
        spec.check_jobs([job], pool)
    return str(error.value)


def batch(**said: object) -> Job:
    return Job(kind=Kind.BATCH, name="work", command=("x",), **said)  # type: ignore[arg-type]


def test_a_pool_of_nodes_alike_and_teams_in_teams() -> None:
    pool = spec.pool_from_text(
        "nodes: [{name: n, count: 2, resources: {cpu: 4}, gpu_model: A100}]\n"
        "teams: [{name: a, weight: 2, teams: [{name: b, borrow: {gpu: 1}, teams: [{name: c}]}]}, "
        "{name: d, parent: a}]\n"
        "floor: {per_core_hour: 0.01}\nheadroom: 20%\nwindow: 1m\nscale_down: 10s\ntick: 5s\n"
    )
    unlimited = Resources(cpu=4, memory=math.inf, disk=math.inf, network=math.inf)
    assert pool == Pool(
        nodes=tuple(Node(name=f"n-{n}", resources=unlimited, gpu_model="A100") for n in (0, 1)),
        teams=(
            Team(name="a", weight=2),
            Team(
                name="b",
                parent="a",
                borrow=Resources(cpu=math.inf, memory=math.inf, gpu=1, disk=math.inf, network=math.inf),
            ),
            Team(name="c", parent="b"),
            Team(name="d", parent="a"),
        ),
        floor=Bid(per_core_hour=0.01),
        headroom=0.2,
        window_s=60,
        scale_down_s=10,
        tick_s=5,
    )


def test_the_teams_of_a_file_are_read_alone(tmp_path: Path) -> None:
    (tmp_path / "teams.yaml").write_text("teams: [{name: a, teams: [{name: b}]}]")
    assert spec.teams(tmp_path / "teams.yaml") == [Team(name="a"), Team(name="b", parent="a")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("teams: [{name: vision}, {name: a, parent: visoin}]", 'there is no team "visoin"; did you mean "vision"?'),
        ("teams: [{name: a, parent: a}]", "form a cycle, a under a; remove one parent"),
        ("teams: [{name: a, parent: b}, {name: b, parent: a}]", "p.yaml:1:16: team a: parent: the teams form a cycle"),
        ("teams: [{name: a}, {name: a}]", 'p.yaml:1:27: teams.name: "a" is the name of another team, in line 1'),
        (
            "nodes: [{name: n, resources: {gpu: 4}}]\nteams: [{name: a, guarantee: {gpu: 5}}]",
            "the pool has 4 gpu; lower",
        ),
        ("teams: [{name: a, guarantee: {cpu: 1}}]", "1 cpu in all to a, but the pool has 0 cpu"),
        ("teams: [{name: a, teams: [{name: b, parent: c}]}]", "teams.teams.parent: there is no such field"),
        ("nodes: [{name: n}]", "nodes: resources is missing, and it needs one"),
        ("nodes: {name: n}", "nodes: a mapping stands here, where a list belongs"),
        ("headroom: -1", '"-1" is negative'),
        ("notes: []", 'did you mean "nodes"?'),
        ("nodes: []\n---\nnodes: []", "p.yaml:3:1: a pool's file has one document"),
        ("", "p.yaml: there is no pool in it"),
    ],
)
def test_a_fault_of_a_pool_is_said_with_its_place(text: str, sentence: str) -> None:
    said = told(text)
    assert sentence in said
    assert said.startswith("p.yaml")


def test_a_guarantee_is_part_of_the_one_above() -> None:
    nodes = "nodes: [{name: n, resources: {gpu: 16}}]\n"
    teams = "teams: [{name: a, guarantee: {gpu: 8}, teams: [{name: b, teams: [{name: c, guarantee: {gpu: %d}}]}]}]\n"
    spec.pool_from_text(nodes + teams % 8)
    assert "9 gpu in all to c, but team a is guaranteed 8 gpu" in told(nodes + teams % 9)


def test_teams_under_one_without_a_guarantee_draw_on_the_pool() -> None:
    nodes = "nodes: [{name: n, resources: {gpu: 8}}]\n"
    teams = "teams: [{name: a, teams: [{name: b, guarantee: {gpu: 4}}]}, {name: c, guarantee: {gpu: %d}}]\n"
    spec.pool_from_text(nodes + teams % 4)
    assert "9 gpu in all to b, c, but the pool has 8 gpu" in told(nodes + teams % 5)


def test_faults_of_objects_are_told_as_those_of_files() -> None:
    with pytest.raises(UserError, match="node small: name: there are two nodes of this name"):
        spec.check_pool(Pool(nodes=(SMALL, SMALL)))


def test_a_job_that_no_node_could_ever_hold_is_told_the_largest() -> None:
    said = refused(batch(resources=Resources(cpu=1, gpu=8)), Pool(nodes=(SMALL, LARGE)))
    assert said == "job work: resources: no node could ever hold 8 gpu; the largest, large, has 4 gpu"


def test_the_largest_node_is_the_largest_of_those_allowed() -> None:
    wish = Placement(require={"zone": ("north", "west")})
    said = refused(batch(resources=Resources(cpu=8), placement=wish), Pool(nodes=(SMALL, LARGE)))
    assert said.endswith("no node that it may run on could ever hold 8 cpu; the largest, small, has 4 cpu")


@pytest.mark.parametrize(("label", "value"), [("zone", "south"), ("gpu_model", "A100"), ("node", "large")])
def test_a_node_is_found_by_its_labels_its_model_and_its_name(label: str, value: str) -> None:
    pool = Pool(nodes=(SMALL, LARGE))
    assert not spec.check_jobs([batch(placement=Placement(require={label: (value,)}))], pool)
    assert f"no node has {label} nowhere" in refused(batch(placement=Placement(require={label: ("nowhere",)})), pool)


def test_a_team_that_does_not_exist_is_told_with_its_place() -> None:
    file = spec.job_file_from_text("kind: batch\nname: a\nteam: visoin\ncommand: [x]\n", "f.yaml")
    with pytest.raises(UserError, match=r'^f.yaml:3:7: job a: team: there is no team "visoin"; did you mean "vision"'):
        spec.check_jobs(file.jobs, Pool(nodes=(SMALL,), teams=(Team(name="vision"),)), file.place)


def test_the_default_team_is_always_there() -> None:
    assert spec.check_jobs([batch()], Pool(nodes=(SMALL,))) == []


def test_a_service_whose_minimum_is_not_guaranteed_is_a_warning() -> None:
    pool = Pool(nodes=(LARGE,), teams=(Team(name="shop", guarantee=Resources(cpu=2)),))
    web = Job(kind=Kind.SERVICE, name="web", team="shop", command=("x",), replicas=Range(3, 9))
    (warning,) = spec.check_jobs([web], pool)
    assert "its minimum needs 3 cpu, and team shop is guaranteed 2 cpu" in warning
    assert not spec.check_jobs([Job(kind=Kind.SERVICE, name="web", team="shop", command=("x",))], pool)


def test_the_examples_fit_each_other() -> None:
    pool = spec.pool(EXAMPLES / "pool.yaml")
    jobs = [*spec.jobs(EXAMPLES / "web.yaml"), *spec.jobs(EXAMPLES / "digits.yaml")]
    assert spec.check_jobs(jobs, pool) == []
    assert all(Path(job.script).exists() for job in jobs if job.script)
