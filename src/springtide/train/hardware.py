"""What this machine is, read from the kernel and from package metadata: no torch is imported for it."""

from __future__ import annotations

import math
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any


def hardware(threads: int | None = None) -> dict[str, Any]:
    """Where a report was measured: cpu, cores, memory_bytes, threads (per worker), torch, gpu."""
    return {
        "cpu": cpu(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "threads": threads,
        "torch": torch_version(),
        "gpu": ", ".join(gpus()) or None,
    }


def cpu() -> str:
    """The processor's name as the kernel gives it, else the architecture."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def cores() -> int:
    """The cores that this process may use: its affinity, and its control group's quota rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def memory_bytes() -> int:
    """The memory that this process may use: the machine's, or its control groups' limit where that is less."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else 0
    return min([total, *(limit for limit, _ in _memory_limits())])


def free_memory_bytes() -> int:
    """What could be allocated now without swapping: as the kernel says, and within the limits of control groups."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    free = int(match[1]) * 1024 if match else 0
    return max(0, min([free, *(limit - used for limit, used in _memory_limits())]))


def torch_version() -> str | None:
    """The installed torch, from its metadata."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver shows here."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [re.search(r"^Model:\s*(.+)$", _read(path), re.MULTILINE) for path in found]
    return [match[1].strip() if match else "GPU" for match in names]


def _memory_limits() -> list[tuple[int, int]]:
    """(limit, used without what can be dropped) in bytes of this process's control group and of those above it."""
    found = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers in ("", "memory"):
            root, names = (
                ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
                if controllers
                else ("/sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file"))
            )
            # In a container the group's own path may not be there: then its folder is the root.
            for place in (Path(root + own), *Path(root + own).parents):
                limit, used = _read(place / names[0]).strip(), _read(place / names[1]).strip()
                if limit.isdigit() and used.isdigit():
                    dropped = re.search(rf"^{names[2]} (\d+)", _read(place / "memory.stat"), re.MULTILINE)
                    found.append((int(limit), int(used) - (int(dropped[1]) if dropped else 0)))
    return found


def _cpu_quota() -> float | None:
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not quota:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) > 0 else None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
