"""What this machine is said to be."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

from springtide.train import hardware


def test_the_machine_of_a_report_is_described_without_torch() -> None:
    code = "import sys; from springtide.train.hardware import hardware; hardware(2); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_figures_are_those_of_the_kernel() -> None:
    told = hardware.hardware(threads=3)
    assert told["threads"] == 3
    assert told["torch"] == metadata.version("torch")
    assert 1 <= told["cores"] <= len(os.sched_getaffinity(0))
    assert 0 < told["memory_bytes"] <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert hardware.free_memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_cores_are_those_that_this_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from springtide.train import hardware; print(hardware.cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
