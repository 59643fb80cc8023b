"""The full tables of docs/simulator.md: rivals reach what was published of them, and ours is ahead.

They take an hour on two cores: `make test-long`. Pollux's tables are quick enough for `make test-slow`. What falls
short of what was published is held to what was reached, with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from sim.made import trace_file
from springtide.sim import report, simulate
from springtide.sim.formats import Options

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("tables")]

LISTS = ("default", "cpu050", "gpushare40", "gpushare100", "gpuspec20", "multigpu30")
MURI = {  # average completion on 8 x 8 V100, seconds
    1: {"srtf": 1_370_603, "srsf": 980_141, "muri-s": 867_706},
    3: {"srtf": 193_082, "srsf": 185_022, "muri-s": 85_503},
}
DEFAULTS = Options()


@cache
def _played(
    files: tuple[str, ...], policies: tuple[str, ...], options: Options = DEFAULTS, seeds: int = 1
) -> Mapping[str, Mapping[str, float]]:
    """Metrics by policy, means over seeds."""
    paths = tuple(str(trace_file(name)) for name in files)
    return report.means(simulate.simulate(simulate.Work(paths, None, options), policies, seeds))


def _openb(name: str) -> Mapping[str, Mapping[str, float]]:
    files = ("openb/openb_node_list_gpu_node.csv", f"openb/openb_pod_list_{name}.csv")
    return _played(files, ("springtide", "fgd", "best-fit", "random"), Options(arrive=1.3), 10)


def _published(name: str) -> Mapping[tuple[str, str], float]:
    files = ("openb/openb_node_list_gpu_node.csv", f"openb/openb_pod_list_{name}.csv")
    return simulate.head(simulate.Work(tuple(str(trace_file(file)) for file in files))).published


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("policy", ["random", "best-fit", "fgd"])
def test_openb_rivals_hold_what_was_published(name: str, policy: str) -> None:
    published = {metric: value for (whose, metric), value in _published(name).items() if whose == policy}
    assert published
    assert {metric: _openb(name)[policy][metric] for metric in published} == pytest.approx(published, abs=0.5)


@pytest.mark.parametrize("name", LISTS)
def test_openb_ours_is_no_worse_than_fgd_here_and_as_published(name: str) -> None:
    found = _openb(name)
    for at in ("gpu_allocated_at_100", "gpu_allocated_at_130"):
        assert found["springtide"][at] >= max(found["fgd"][at], _published(name)["fgd", at])


def test_openb_default_is_filled_as_far_as_was_wanted() -> None:
    ours = _openb("default")["springtide"]
    assert ours["gpu_allocated_at_100"] >= 95.5
    assert ours["gpu_allocated_at_130"] >= 95.6


def _muri(number: int) -> Mapping[str, Mapping[str, float]]:
    policies = ("springtide", "srtf", "srsf", "muri-s")
    return _played((f"muri/trace{number}.csv",), policies, Options(nodes="8x8gpu"))


@pytest.mark.parametrize("number", sorted(MURI))
@pytest.mark.parametrize("policy", ["srtf", "srsf", "muri-s"])
def test_muri_rivals_complete_in_the_time_that_was_published(number: int, policy: str) -> None:
    assert _muri(number)[policy]["average_completion"] == pytest.approx(MURI[number][policy], rel=0.05)


@pytest.mark.parametrize("number", sorted(MURI))
def test_muri_ours_is_ahead_of_muri_s(number: int) -> None:
    found = {policy: metrics["average_completion"] for policy, metrics in _muri(number).items()}
    assert found["springtide"] < min(found["muri-s"], MURI[number]["muri-s"])


def test_philly_whole_is_played_and_nobody_waits_for_what_is_free() -> None:
    found = _played(("philly/philly.csv.gz",), ("springtide",))
    assert found["springtide"]["queued_while_it_fits"] == 0
    assert "unfinished" not in found["springtide"]


def test_helios_ours_queues_nothing_that_fits_where_separate_clusters_do() -> None:
    files = ("helios/earth_2020-05_vc_10min_derived.csv.gz", "philly/philly.csv.gz")
    found = _played(files, ("springtide", "static"))
    assert found["springtide"]["queued_while_it_fits"] == 0
    assert found["static"]["idle"] == pytest.approx(264, rel=0.1)
    assert found["static"]["queued_while_idle"] > 30  # 63.6 in life, where jobs also waited for GPUs of their own


def test_a_day_with_a_stated_pattern_falls_short_of_nothing_and_is_well_used() -> None:
    files = ("genai/qps.tar.gz", "philly/philly.csv.gz")
    found = _played(files, ("springtide", "springtide-unforeseen"))
    assert found["springtide"]["service_shortfall"] == 0
    assert found["springtide"]["gpu_used"] >= 85
    assert found["springtide-unforeseen"]["service_answering_after"] <= 5


@pytest.mark.parametrize("number", [1, 2])
def test_2017_ours_is_ahead_of_its_autoscaler(number: int) -> None:
    outcomes = simulate.simulate(simulate.Work((f"edl-2017-case-{number}",)), ("springtide", "edl-2017"), 1)
    found = report.means(outcomes)
    if number == 1:
        assert found["springtide"]["average_wait"] < 10
    else:
        assert found["springtide"]["cpu_requested"] >= 97
        assert found["springtide"]["service_restored_after"] <= 1
        # 83.4 was published: what held the original back is not in its description.
        assert found["edl-2017"]["cpu_requested"] == pytest.approx(91.3, abs=2)
