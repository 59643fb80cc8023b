"""Formats of traces: which reader reads which files. A new one is a module with `read` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from springtide.sim import tables
from springtide.sim.trace import Trace
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a reader may be told beside the paths; None stands for the format's own choice."""

    nodes: str | None = None  # as `--nodes`, read by `sim.pool.nodes`
    round_s: float | None = None  # policies plan at multiples of it
    restart_s: float | None = None  # what a change of its slots costs a job
    arrive: float | None = None  # share of the capacity that arrives, where nothing departs
    seed: int = 0  # of this run; `seeds` runs differ in nothing else
    load: float = 1.0  # times as much load: services' rates, jobs per second
    scaling: Path | None = None  # folder of measured step times


Reader = Callable[[Sequence[Path], Options], Trace]


@dataclass(frozen=True, slots=True)
class Format:
    """A format by the module whose `function` reads it, and columns by which a CSV file is known to be of it."""

    module: str
    what: str
    columns: frozenset[str] = frozenset()  # of the header of the first file; where empty, the name ends in `suffixes`
    suffixes: tuple[str, ...] = ()
    function: str = "read"

    def reader(self) -> Reader:
        """The reader itself, imported on first use."""
        found: Reader = getattr(import_module(f"springtide.sim.{self.module}"), self.function)
        return found


def _columns(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The first format all of whose columns a file has is taken: the more particular stand first.
FORMATS: dict[str, Format] = {
    "muri": Format(
        "muri", "jobs with stage times (Muri, SIGCOMM'22)", _columns("num_gpu submit_time iterations resource_time_0")
    ),
    "philly": Format(
        "philly", "jobs of Microsoft's Philly (ATC'19)", _columns("timestamp duration num_gpus gpu_time cluster")
    ),
    "openb": Format(
        "openb", "nodes and pods of Alibaba's openb (2023), by FGD's protocol", _columns("sn cpu_milli model")
    ),
    "helios": Format("helios", "virtual clusters of Helios, each ten minutes (SC'21)", _columns("vc pending_gpu_num")),
    "dlrm": Format("dlrm", "instances of recommendation models (Alibaba 2025)", _columns("instance_sn rdma_request")),
    "gavel": Format("gavel", "throughputs on three kinds of GPUs (OSDI'20)", suffixes=(".json.gz", ".json")),
    "requests": Format(
        "requests", "requests of services; with jobs of Philly, a day", _columns("TIMESTAMP"), (".tar.gz",)
    ),
    "yaml": Format("scenario_file", "the product's own pool and job files", suffixes=(".yaml", ".yml")),
    "pollux": Format(
        "pollux", "workloads of Pollux (OSDI'21); needs --scaling", _columns("application num_replicas batch_size")
    ),
    "csv": Format("jobs_csv", "jobs, one a line; docs/simulator.md names the columns", _columns("submit work")),
}


def format_of(paths: Sequence[Path], name: str | None = None) -> Format:
    """The format called `name`, or the one that the first file's header shows. Raises UserError."""
    if name is not None:
        if name not in FORMATS:
            hint = nearest(name, FORMATS) or f"; there are {', '.join(FORMATS)}"
            raise UserError(f'--format: there is no format "{name}"{hint}')
        return FORMATS[name]
    first = paths[0]
    for known in FORMATS.values():
        if known.suffixes and first.name.endswith(known.suffixes):
            return known
    if any(path.name.endswith(".tar.gz") for path in paths):
        return FORMATS["requests"]
    header = set(tables.header(first))
    for known in FORMATS.values():
        if known.columns and known.columns <= header:
            return known
    raise UserError(
        f"{first}:1: no format has the columns {', '.join(sorted(header))}; name it: --format {'|'.join(FORMATS)}"
    )
