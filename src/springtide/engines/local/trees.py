"""What trees of processes use, from /proc: children that were reaped count for who reaped them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from springtide.engines.local import gauges
from springtide.engines.local.hierarchies import number, read

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Tree:
    """Of all processes below some heads, the heads among them."""

    cpu_s: float = 0.0
    memory_bytes: int = 0  # shared pages count once for each process
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    started: int
    ticks: int  # its own, and those of children that it reaped
    pages: int


def look(heads: Mapping[str, Iterable[tuple[int, int]]]) -> Mapping[str, Tree]:
    """By name, of the processes below (pid, start). One pass over /proc for all."""
    processes = _all()
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    return {name: _tree(_below(mine, processes, children), processes) for name, mine in heads.items()}


def pids(heads: Iterable[tuple[int, int]]) -> list[int]:
    """The processes below (pid, start), and these."""
    processes = _all()
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    return sorted(_below(heads, processes, children))


def disk_bytes(group: str) -> int:
    """Read from and written to devices by the processes that are in a control group now, and by those they reaped."""
    return sum(_disk_bytes(pid) for pid in gauges.pids(group))


def _tree(members: Iterable[int], processes: Mapping[int, _Process]) -> Tree:
    mine = list(members)
    ticks = sum(processes[pid].ticks for pid in mine)
    pages = sum(processes[pid].pages for pid in mine)
    return Tree(ticks / _TICKS_PER_S, pages * _PAGE_BYTES, sum(_disk_bytes(pid) for pid in mine))


def _below(
    heads: Iterable[tuple[int, int]], processes: Mapping[int, _Process], children: Mapping[int, list[int]]
) -> set[int]:
    found: set[int] = set()
    waiting = [pid for pid, started in heads if pid in processes and processes[pid].started == started]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _all() -> dict[int, _Process]:
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # a path for each name would cost more than reading it
        if name.isdigit() and (text := read(f"/proc/{name}/stat")):
            fields = text.rpartition(")")[2].split()
            found[int(name)] = _Process(int(fields[1]), int(fields[19]), sum(map(int, fields[11:15])), int(fields[21]))
    return found


def _disk_bytes(pid: int) -> int:
    text = read(f"/proc/{pid}/io")
    return number(text, "read_bytes:") + number(text, "write_bytes:") if text else 0
