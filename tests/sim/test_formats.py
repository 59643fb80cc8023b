"""Files in, traces out; what is wrong with a file is one sentence with its line."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from sim.made import figures, trace_file
from springtide.sim.formats import FORMATS, Options, format_of
from springtide.sim.policies import POLICIES, checked
from springtide.sim.scenarios import SCENARIOS
from springtide.sim.simulate import Work, opened
from springtide.spec import UserError

PHILLY = "timestamp,duration,num_gpus,gpu_time,cluster\n"


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_columns_say_which_format_it_is(tmp_path: Path) -> None:
    path = Path(_written(tmp_path / "p.csv", PHILLY + "2017-10-09 07:01:55,66.0,1,66.0,vc\n"))
    assert format_of([path]) is FORMATS["philly"]


def test_a_job_of_philly_is_a_gang_of_single_gpus(tmp_path: Path) -> None:
    text = PHILLY + "2017-10-09 07:01:55,60,4,240,b\n2017-10-09 07:01:45,30,1,30,a\n"
    first, second = opened(Work((_written(tmp_path / "p.csv", text),))).tasks
    assert (first.submit_s, first.work_s, second.submit_s) == (0, 30, 10)
    assert (second.minimum, second.maximum, second.work_s) == (4, 4, 240)


def test_twice_the_load_is_half_the_time_between_jobs(tmp_path: Path) -> None:
    text = PHILLY + "2017-10-09 07:01:55,60,4,240,b\n2017-10-09 07:01:45,30,1,30,a\n"
    trace = opened(Work((_written(tmp_path / "p.csv", text),), options=Options(load=2.0)))
    assert trace.tasks[1].submit_s == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("submit,work\n", "nothing stands below"),
        ("submit,work,replcas\n0,1,1\n", r'jobs.csv:1: unknown column "replcas"; did you mean "replicas"'),
        ("submit,work\n0,1\n-5,1\n", r"jobs.csv:3: submit: -5 is negative"),
        ("submit,work\n0,soon\n", r'jobs.csv:2: work: "soon" is no number'),
        ("submit,work\n0,1\n0\n", r"jobs.csv:3: 1 values stand under 2 columns"),
        ("submit,work,kind\n0,1,trainin\n", r'jobs.csv:2: kind: "trainin".*did you mean "training"'),
        ("submit,work,gpu\n0,1,16\n", r"jobs.csv:2: job-0 asks for 16 gpu .* the largest is node-0 with 8 gpu"),
        ("when,what\n0,1\n", r"jobs.csv:1: no format has the columns"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = _written(tmp_path / "jobs.csv", text)
    with pytest.raises(UserError, match=said):
        opened(Work((path,), "csv" if text.startswith("submit") else None))


def test_a_gzip_file_that_is_cut_is_said(tmp_path: Path) -> None:
    whole = gzip.compress((PHILLY + "2017-10-09 07:01:55,66.0,1,66.0,vc\n" * 9000).encode())
    path = tmp_path / "p.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"p.csv.gz:\d+: the gzip file is cut off"):
        opened(Work((str(path),)))


def test_an_unknown_policy_or_format_is_said_with_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "springtide"'):
        checked(["springtied"])
    with pytest.raises(UserError, match='did you mean "philly"'):
        format_of([Path("x.csv")], "phily")


def test_a_file_that_is_not_there_is_said_with_the_scenarios() -> None:
    with pytest.raises(UserError, match='did you mean "day-and-night"'):
        opened(Work(("day-and-nigt",)))


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.module])
def test_every_format_has_its_reader(name: str) -> None:
    assert callable(FORMATS[name].reader())


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_is_a_trace_that_its_pool_can_hold(name: str) -> None:
    assert opened(Work((name,))).tasks


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_names_its_source(name: str) -> None:
    assert POLICIES[name].source


def test_the_pool_and_job_files_of_the_product_are_a_scenario() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "scenarios"
    trace = opened(Work((str(folder / "pool.yaml"), str(folder / "jobs.yaml"))))
    assert {task.name for task in trace.tasks} >= {"web", "digits", "trial", "trial-1"}


def test_helios_separate_clusters_queued_while_others_idled() -> None:
    trace = opened(Work((str(trace_file("helios/earth_2020-05_vc_10min_derived.csv.gz")),)))
    assert trace.play is not None
    apart = trace.play(trace, POLICIES["static"].make(trace), lambda share: None)
    assert apart["queued_while_idle"] == pytest.approx(63.6, rel=0.05)
    assert apart["idle"] == pytest.approx(264, rel=0.1)


def test_helios_in_one_pool_queues_nothing_that_fits() -> None:
    files = ("helios/earth_2020-05_vc_10min_derived.csv.gz", "philly/philly.csv.gz")
    trace = opened(Work(tuple(str(trace_file(name)) for name in files)))
    found = figures(replace(trace, tasks=[task for task in trace.tasks if task.submit_s < 5 * 86400]), "springtide")
    assert found["queued_while_it_fits"] == 0


@pytest.mark.slow
def test_2017_without_the_autoscaler_is_as_it_was_published() -> None:
    found = figures(opened(Work(("edl-2017-case-2",))), "edl-2017-off")
    assert found["cpu_requested"] == pytest.approx(61.9, abs=2)


def test_2017_case_2_ours_hands_over_in_the_same_tick() -> None:
    assert figures(opened(Work(("edl-2017-case-2",))), "springtide")["service_restored_after"] <= 1


def test_2017_case_1_ours_makes_nobody_wait() -> None:
    assert figures(opened(Work(("edl-2017-case-1",))), "springtide")["average_wait"] < 10
