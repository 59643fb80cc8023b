"""Where control groups are on this machine, and below which group the pool's own may be made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

CONTROLLERS = ("cpu", "memory", "pids", "io")  # as v2 calls them
KERNEL_NAMES = {"cpu": "cpu", "memory": "memory", "pids": "pids", "io": "blkio"}  # as v1 does
_LIMIT_FILES = (
    "cpu.max", "memory.max", "pids.max", "cpu.cfs_quota_us", "memory.limit_in_bytes",
)  # fmt: skip
_CHUNK_BYTES = 8_192
_NO_LIMIT_BYTES = 2**62  # v1 writes the largest multiple of a page where memory is not limited


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of groups: `controllers` are the kernel's names, none for v2; `own` is where this process is."""

    mount: Path
    controllers: frozenset[str]
    own: Path

    @property
    def unified(self) -> bool:
        return not self.controllers


@dataclass(frozen=True, slots=True)
class Ground:
    """Below which groups the pool's own are made: v1, v2, or neither, and what is out of reach and why."""

    version: int | None = None
    bases: Mapping[str, Path] = field(default_factory=dict)  # kernel's name of a controller -> group; v2: "" alone
    unified: Path | None = None  # v1: a group of v2 without controllers, which can still kill whole groups
    offered: frozenset[str] = frozenset()  # of `CONTROLLERS`
    why_not: Mapping[str, str] = field(default_factory=dict)  # controller -> what is in the way


def hierarchies() -> list[Hierarchy]:
    """The trees that this process sees, as the kernel lists them."""
    return parse(read("/proc/self/mountinfo"), read("/proc/self/cgroup"))


def parse(mountinfo: str, own: str) -> list[Hierarchy]:
    """From the texts of /proc/self/mountinfo and /proc/self/cgroup."""
    paths = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        paths[frozenset(names.split(",")) - {""}] = path
    found: dict[frozenset[str], Hierarchy] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, _, root, at = fields.split()[:5]
        kind, _, options = rest.split(" ", 2)
        mount = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), at))
        if kind == "cgroup2":
            controllers: frozenset[str] = frozenset()
        elif kind == "cgroup":
            controllers = next((names for names in paths if names and names <= set(options.split(","))), frozenset())
        else:
            continue
        if controllers in paths and (controllers or kind == "cgroup2"):
            found.setdefault(controllers, Hierarchy(mount, controllers, _below(mount, root, paths[controllers])))
    return list(found.values())


def _below(mount: Path, root: str, path: str) -> Path:
    """The folder of group `path` where `mount` shows the tree from `root` on; the mount itself where it is outside."""
    inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else ""
    return mount / inside.lstrip("/")


def ground(trees: Iterable[Hierarchy], inside: tuple[str, ...] = ()) -> Ground:
    """What the pool can use of them: v2 where it has controllers, else v1. `inside`: the path of the pool's groups."""
    trees = [replace(tree, own=_outside(tree, inside)) for tree in trees]
    unified = next((tree for tree in trees if tree.unified), None)
    if unified and {"cpu", "memory"} & set(read(unified.mount / "cgroup.controllers").split()):
        return _unified_ground(unified)
    if any(not tree.unified for tree in trees):
        return _split_ground([tree for tree in trees if not tree.unified], unified)
    return Ground(why_not=dict.fromkeys(CONTROLLERS, "no control groups are mounted"))


def _outside(tree: Hierarchy, inside: tuple[str, ...]) -> Path:
    """Our own group, or what the pool's groups lie below where we are in one of them."""
    parts = tree.own.relative_to(tree.mount).parts
    for at in range(len(parts)):
        if inside and parts[at : at + len(inside)] == inside:
            return tree.mount.joinpath(*parts[:at])
    return tree.own


def _unified_ground(tree: Hierarchy) -> Ground:
    base = _base(tree, ("cgroup.procs", "cgroup.subtree_control"))
    if base is None:
        return Ground(why_not=dict.fromkeys(CONTROLLERS, f"{tree.own} may not be written"))
    there = set(read(base / "cgroup.controllers").split())
    offered = frozenset(there & set(CONTROLLERS))
    return Ground(
        2, {"": base}, None, offered, {name: f"{base} does not offer it" for name in CONTROLLERS if name not in offered}
    )


def _split_ground(trees: list[Hierarchy], unified: Hierarchy | None) -> Ground:
    by_name = {name: tree for tree in trees for name in tree.controllers}
    bases, why_not = {}, {}
    for name in (*KERNEL_NAMES.values(), "cpuacct", "freezer"):
        tree = by_name.get(name)
        base = _base(tree, ("cgroup.procs",)) if tree else None
        if base:
            bases[name] = base
        else:
            why_not[name] = f"{tree.own} may not be written" if tree else "it is not mounted"
    offered = frozenset(name for name, kernel in KERNEL_NAMES.items() if kernel in bases)
    missing = {name: why_not[kernel] for name, kernel in KERNEL_NAMES.items() if kernel in why_not}
    if not offered:
        return Ground(why_not=missing)
    return Ground(1, bases, _base(unified, ("cgroup.procs",)) if unified else None, offered, missing)


def _base(tree: Hierarchy, files: tuple[str, ...]) -> Path | None:
    """The highest writable group on the way to our own that is not above a limit that was set for us.

    So limits of a container or a service stay kept, and where there are none, the place is the same whoever starts the
    pool again, and in which session.
    """
    way = [tree.mount, *reversed([at for at in (tree.own, *tree.own.parents) if tree.mount in at.parents])]
    way = [at for at in way if at.is_dir()]
    highest = next((at for at in reversed(way) if _limits(at)), tree.mount)
    for at in way[way.index(highest) if highest in way else 0 :]:
        if os.access(at, os.W_OK) and all(os.access(at / name, os.W_OK) for name in files):
            return at
    return None


def _limits(group: Path) -> bool:
    for name in _LIMIT_FILES:
        first = (read(group / name).split() or ["max"])[0]
        if first not in ("max", "-1") and int(first) < _NO_LIMIT_BYTES:
            return True
    return False


def read(path: str | Path) -> str:
    """The text of a kernel's file; empty where it cannot be read."""
    # By descriptor, since a look at all jobs reads hundreds of these.
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(file, _CHUNK_BYTES):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(file)


def write(path: str | Path, text: str) -> bool:
    """Whether the kernel took it."""
    try:
        with open(path, "w") as file:  # noqa: PTH123  # Path.write_text would truncate and report nothing more
            file.write(text)
    except OSError:
        return False
    return True


def number(text: str, name: str) -> int:
    """Of one line of a kernel's table of `name number` lines; 0: it has none."""
    at = f"\n{text}".find(f"\n{name} ")
    return int(text[at + len(name) + 1 :].split(None, 1)[0]) if at >= 0 else 0
