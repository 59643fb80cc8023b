"""Pods arrive until a share of the GPUs was asked for; nothing departs; baselines and ours place them."""

from pathlib import Path

import pytest

from springtide.core.resources import GPU
from springtide.sim import openb
from springtide.sim.formats import Options
from springtide.sim.policies import POLICIES
from springtide.spec.errors import UserError

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,16000,65536,2,T4\nn1,16000,65536,2,T4\nn2,32000,65536,4,V100\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "a,2000,1024,1,500,\nb,2000,1024,1,1000,T4\nc,1000,1024,2,1000,V100|P100\nd,2000,1024,0,0,\n"
)


def files(folder: Path, pods: str = PODS) -> list[Path]:
    (folder / "nodes.csv").write_text(NODES)
    (folder / "openb_pod_list_made.csv").write_text(pods)
    return [folder / "nodes.csv", folder / "openb_pod_list_made.csv"]


def test_arrivals_ask_for_as_much_as_was_said(tmp_path: Path) -> None:
    trace = openb.read(files(tmp_path), Options(arrive=1.3))
    asked = sum(float(task.request[GPU]) for task in trace.tasks)
    assert 1.3 * 8 - 2 <= asked <= 1.3 * 8


def test_the_seed_is_all_that_changes_the_arrivals(tmp_path: Path) -> None:
    names = [[task.name for task in openb.read(files(tmp_path), Options(seed=seed)).tasks] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("policy", ["random", "best-fit", "fgd", "springtide"])
def test_no_policy_gives_more_than_there_is(tmp_path: Path, policy: str) -> None:
    trace = openb.read(files(tmp_path), Options(arrive=3.0))
    assert trace.play is not None
    found = trace.play(trace, POLICIES[policy].make(trace), lambda share: None)
    assert 50.0 <= found["gpu_allocated_at_100"] <= found["gpu_allocated_at_300"] <= 100.0


def test_pods_of_several_shares_are_refused_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"made\.csv:6: gpu_milli"):
        openb.read(files(tmp_path, PODS + "e,1,1,2,500,\n"), Options())


def test_one_file_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two files"):
        openb.read(files(tmp_path)[:1], Options())
