"""The outcome of a simulation: rows for `--json`, and a table to read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from springtide.sim.record import UNITS
from springtide.sim.simulate import Head, Outcome

Row = dict[str, Any]
_TITLES = {
    "average_completion": "average", "median_completion": "median", "p99_completion": "p99", "average_wait": "wait",
    "makespan": "makespan", "gpu_allocated_at_100": "GPU at 100 %", "gpu_allocated_at_130": "GPU at 130 %",
    "cpu_requested": "CPU requested", "gpu_allocated": "GPU held", "gpu_used": "GPU used", "cpu_allocated": "CPU held",
    "cpu_used": "CPU used", "queued_while_idle": "queued while idle",
    "queued_while_it_fits": "queued though it fits", "idle": "idle",
    "jain_index": "Jain", "preemptions": "preempted",
    "lost_work": "lost work", "service_shortfall": "service short", "service_restored_after": "service back",
    "service_answering_after": "answers after", "core_price": "core price", "gpu_price": "GPU price",
    "revenue": "revenue", "jobs_at_once": "jobs at once", "teams_at_once": "teams at once",
    "trials_started_in_10s": "trials in 10 s", "peak_waiting": "most waiting", "unfinished": "unfinished",
}  # fmt: skip

_GROUPS = (
    ("gpu_allocated_at_100", "gpu_allocated_at_130"),
    ("average_completion", "median_completion", "p99_completion", "average_wait", "makespan", "unfinished"),
    ("cpu_requested", "gpu_allocated", "gpu_used", "cpu_allocated", "cpu_used"),
    ("queued_while_idle", "queued_while_it_fits", "idle"),
    ("service_shortfall", "service_restored_after", "service_answering_after", "preemptions", "lost_work"),
    ("core_price", "gpu_price", "revenue"),
    ("jobs_at_once", "teams_at_once", "peak_waiting", "trials_started_in_10s", "jain_index"),
)


def means(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """policy -> metric -> mean over seeds, policies in the order in which they were asked for."""
    found: dict[str, dict[str, float]] = {}
    for policy in dict.fromkeys(outcome.policy for outcome in outcomes):
        mine = [outcome.metrics for outcome in outcomes if outcome.policy == policy]
        names = [name for name in (*UNITS, *mine[0]) if all(name in metrics for metrics in mine)]
        found[policy] = {name: float(np.mean([metrics[name] for metrics in mine])) for name in names}
    return found


def rows(head: Head, outcomes: Sequence[Outcome]) -> list[Row]:
    """`{"work", "system", "metric", "value", "unit", "published"}` for each policy and metric.

    Values are means over seeds. A published figure of a system that was not played has no value.
    """
    found: list[Row] = []
    for policy, metrics in means(outcomes).items():
        found += [_row(head, policy, metric, value) for metric, value in metrics.items()]
    there = {(row["system"], row["metric"]) for row in found}
    for (system, metric), published in head.published.items():
        if (system, metric) not in there:
            row = {"work": head.name, "system": system, "metric": metric, "value": None, "unit": UNITS.get(metric, "")}
            found.append(row | {"published": published})
    return found


def _row(head: Head, policy: str, metric: str, value: float) -> Row:
    row = {"work": head.name, "system": policy, "metric": metric, "value": value, "unit": UNITS.get(metric, "")}
    return row | {"published": head.published.get((policy, metric))}


def tables(head: Head, outcomes: Sequence[Outcome]) -> list[tuple[list[str], list[list[str]]]]:
    """Headers and one row per policy, a few metrics a table; beside what was published stands the published figure."""
    by_policy = means(outcomes)
    published: dict[str, dict[str, float]] = {}
    for (system, metric), value in head.published.items():
        published.setdefault(system, {})[metric] = value
    found = []
    for group in _GROUPS:
        all_figures = (*by_policy.values(), *published.values())
        shown = [name for name in group if any(_says(name, figures) for figures in all_figures)]
        if shown:
            found.append(_table(shown, by_policy, published))
    return found


def _table(
    shown: Sequence[str], by_policy: Mapping[str, Mapping[str, float]], published: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], list[list[str]]]:
    compared = {name for name in shown if any(name in figures for figures in published.values())}
    headers = ["policy"]
    for name in shown:
        headers += [_TITLES.get(name, name)] + (["published"] if name in compared else [])
    others = [system for system, figures in published.items() if system not in by_policy and compared & figures.keys()]
    lines = []
    for policy in (*by_policy, *others):
        line = [policy]
        for name in shown:
            line.append(text(name, by_policy.get(policy, {}).get(name)))
            if name in compared:
                line.append(text(name, published.get(policy, {}).get(name)))
        lines.append(line)
    return headers, lines


def _says(name: str, metrics: Mapping[str, float]) -> bool:
    """Whether a column of it is worth its width: what never happened is in the JSON only."""
    silent = (
        "lost_work",
        "preemptions",
        "core_price",
        "gpu_price",
        "revenue",
        "queued_while_idle",
        "queued_while_it_fits",
    )
    return name in metrics and (name not in silent or metrics[name] != 0)


def text(metric: str, value: float | None) -> str:
    """A figure for people: `1,234 s`, `83.4 %`, `-` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    unit = UNITS.get(metric, "")
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if unit == "%" else f"{value:.3g}"
    return f"{number} {unit}" if unit in ("s", "%") else number
