"""What the kernel counts for one control group, read again and again at little cost."""

from __future__ import annotations

import os
from dataclasses import dataclass

from springtide.engines.local.hierarchies import number, read


@dataclass(frozen=True, slots=True)
class Gauge:
    """Paths of the kernel's files as text, since joining them costs more than reading; empty: that one is not there."""

    folder: str = ""
    cpu: str = ""
    cpu_line: str = ""  # its line in that file; empty: the file is one number
    cpu_per_s: float = 1e6
    memory: str = ""
    memory_table: str = ""
    dropped_line: str = ""  # of file contents that the kernel can drop
    disk: str = ""  # v2 only: v1 counts what is read, but not what is written through the page cache

    def identity(self) -> int:
        """Another number when the group was removed and made anew; 0: it is not there."""
        try:
            return os.stat(self.folder).st_ino if self.folder else 0  # noqa: PTH116  # a Path would cost more than the call
        except OSError:
            return 0

    def cpu_s(self) -> float:
        """Seconds of cores, of ended processes and removed groups too."""
        text = read(self.cpu) if self.cpu else ""
        if self.cpu_line:
            return number(text, self.cpu_line) / self.cpu_per_s
        return int(text or 0) / self.cpu_per_s

    def memory_bytes(self) -> int:
        """What it holds now, without file contents that the kernel can drop."""
        held = read(self.memory) if self.memory else ""
        return max(0, int(held) - number(read(self.memory_table), self.dropped_line)) if held else 0

    def disk_bytes(self) -> int | None:
        """Read from and written to devices; None: the group does not tell all of it."""
        if not self.disk:
            return None
        return sum(int(word[7:]) for word in read(self.disk).split() if word.startswith(("rbytes=", "wbytes=")))


def pids(folder: str) -> list[int]:
    """Processes in a group and in those below it."""
    found = [int(line) for line in read(f"{folder}/cgroup.procs").split()]
    for below in groups_below(folder):
        found += pids(below)
    return found


def groups_below(folder: str) -> list[str]:
    """The groups just below one."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
