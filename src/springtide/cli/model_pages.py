"""What `tide model` shows: lists, the page of a version, a difference, a gate's rule."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import table
from springtide.spec.errors import UserError
from springtide.spec.quantities import duration_text

if TYPE_CHECKING:
    from springtide.serve.judging import GateRule
    from springtide.serve.registry import Registry, Version
    from springtide.serve.registry.differing import Difference

Row = dict[str, Any]
_MOST_TENSORS = 12
_FLOATS, _COUNTS = ("margin", "slice_margin", "bound"), ("least_count", "slice_least_count")


def summary(registry: Registry, name: str) -> Row:
    """A model in one row."""
    versions = registry.versions(name)
    held = {str(one.stage): one.number for one in versions}
    return {
        "name": name, "production": held.get("production"), "previous": held.get("previous"), "newest": len(versions),
        "versions": len(versions), "servers": len(registry.servers(name)), "gate": registry.rule(name) is not None,
        "added_s": versions[-1].created_s,
    }  # fmt: skip


def show_models(models: Sequence[Row]) -> None:
    headers = ("name", "production", "previous", "versions", "servers", "gate", "newest")
    cells = [
        (
            row["name"], str(row["production"] or "-"), str(row["previous"] or "-"), str(row["versions"]),
            str(row["servers"] or "-"), "set" if row["gate"] else "-", _ago(row["added_s"]),
        )
        for row in models
    ]  # fmt: skip
    table.show(headers, cells, frozenset(("production", "previous", "versions", "servers", "newest")))


def show_versions(registry: Registry, versions: Sequence[Version]) -> None:
    headers = ("version", "stage", "gate", "digest", "metrics", "job", "step", "added", "by", "build")
    table.show(headers, [_cells(registry, one) for one in reversed(versions)], frozenset(("version", "step", "added")))


def _cells(registry: Registry, version: Version) -> tuple[str, ...]:
    verdicts, lineage = registry.verdicts(version.name, version.number), version.lineage
    return (
        str(version.number),
        str(version.stage),
        "-" if not verdicts else "passed" if verdicts[-1][1].passed else "refused",
        version.digest[:12],
        _numbers(version.metrics),
        lineage.job or "-",
        "-" if lineage.step is None else f"{lineage.step:,}",
        _ago(version.created_s),
        version.by,
        version.build,
    )


def page(registry: Registry, version: Version) -> Row:
    """All that is known of a version."""
    from springtide.serve.registry import folder, rows

    changes = registry.changes(version.name)
    mine = [one for one in changes if any(move.number == version.number for move in one.moves)]
    return rows.shown(version) | {
        "code": sorted(folder.read(version.path).code),
        "bytes": (version.path / folder.WEIGHTS).stat().st_size,
        "verdicts": [{"time_s": at} | asdict(one) for at, one in registry.verdicts(version.name, version.number)],
        "changes": [rows.shown_change(one) for one in mine],
        "servers": [{"pid": one.pid, "admin": str(one.admin)} for one in registry.servers(version.name)],
    }


def show_page(row: Row) -> None:
    lineage = row["lineage"]
    offsets = "; ".join(
        f"{url}: {', '.join(f'{part} to {end:,}' for part, end in parts.items())}"
        for url, parts in lineage["offsets"].items()
    )
    lines = {
        "model": f"{row['name']} version {row['number']}, {row['stage']}",
        "digest": row["digest"],
        "build": f"{row['build']}({', '.join(f'{key}={value!r}' for key, value in row['config'].items())})",
        "inputs": ", ".join(row["inputs"]),
        "code": ", ".join(row["code"]),
        "metrics": _numbers(row["metrics"]),
        "job": _joined(lineage["job"], lineage["step"] is not None and f"step {lineage['step']:,}", lineage["run_id"]),
        "data": _joined(lineage["data_fingerprint"], offsets),
        "parent": lineage["parent"] and f"version {lineage['parent']}",
        "source": lineage["source"],
        "folder": row["path"],
        "added": f"{_time(row['created_s'])} by {row['by']}",
        "servers": ", ".join(f"process {one['pid']}" for one in row["servers"]),
    }
    for key, value in lines.items():
        if value and value != "-":
            click.echo(f"{key:<8}{value}")
    for one in row["verdicts"]:
        click.echo(f"{'gate':<8}{_time(one['time_s'])} {'passed' if one['passed'] else 'refused'}: {one['sentence']}")
    for one in row["changes"]:
        done = {"add": "added", "promote": "promoted", "rollback": "rolled back to", "archive": "archived"}
        what = f"{done.get(one['action'], one['action'])} version {one['number']}"
        click.echo(f"{'history':<8}{_time(one['time_s'])} {what} by {one['by']}: {one['why']}")


def show_difference(before: Version, after: Version, found: Difference) -> None:
    if not found:
        click.echo(f"versions {before.number} and {after.number} of {before.name} are equal")
        return
    if found.build:
        click.echo(f"build    {found.build[0]} -> {found.build[1]}")
    for what, values in (("config", found.config), ("metrics", found.metrics)):
        for name, (old, new) in values.items():
            click.echo(f"{what:<9}{name}: {'none' if old is None else old} -> {'none' if new is None else new}")
    for name, lines in found.code.items():
        click.echo(f"code     {name}")
        for line in lines[2:]:
            click.echo(f"         {line}")
    if found.weights:
        click.echo(f"weights  {len(found.weights)} of {found.tensors} tensors differ")
        rows = [
            (one.name, one.before or "-", one.after or "-", "-" if one.largest is None else f"{one.largest:.3g}")
            for one in found.weights[:_MOST_TENSORS]
        ]
        for line in table.lines(("tensor", "before", "after", "most"), rows, frozenset(("most",))):
            click.echo(f"         {line}")
        if len(found.weights) > _MOST_TENSORS:
            click.echo(f"         and {len(found.weights) - _MOST_TENSORS} more; --json names all")


def rule(known: GateRule | None, given: Mapping[str, Any]) -> GateRule:
    """The rule with what was said of it changed. UserError: a value that is none."""
    from springtide.serve.judging import GateRule

    said = {key: _value(key, value) for key, value in given.items()}
    return replace(known or GateRule(), **said)


def _value(key: str, value: Any) -> Any:
    if key == "data" and "://" not in value:
        if not Path(value).is_file():
            raise UserError(f"--data: there is no file {value}; name held-out records in JSONL, or a stream's URL")
        return str(Path(value).absolute())  # whoever promotes may stand elsewhere
    kind = float if key in _FLOATS else int if key in _COUNTS else None
    if kind is None:
        return value
    try:
        return kind(value)
    except ValueError:
        option = f"--{key.replace('_', '-')}"
        raise UserError(
            f'{option}: "{value}" is no number; write for example {0.01 if kind is float else 100}'
        ) from None


def rule_text(rule: GateRule | None) -> str:
    """A gate's rule in a sentence."""
    if rule is None:
        return "there is no rule; `tide model gate NAME --data FILE` sets one, and --force promotes without"
    margin = f" by more than {rule.margin:g}" if rule.margin else ""
    bound = f", {'at least' if rule.better == 'higher' else 'at most'} {rule.bound:g}" if rule.bound is not None else ""
    parts = ", on each slice" if rule.slices == ("*",) else f", also on {', '.join(rule.slices)}" if rule.slices else ""
    scorer = f", scored by {rule.scorer}" if rule.scorer else ""
    least = f"{rule.least_count:,} {'record' if rule.least_count == 1 else 'records'}"
    return (
        f"{rule.metric} ({rule.better} is better) not worse than production's{margin}{bound}{parts}, on at least "
        f"{least} of {rule.data or 'no data yet'}{scorer}"
    )


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "-"


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _ago(since_s: float) -> str:
    return f"{duration_text(max(1, round(time.time() - since_s)))} ago"


def _time(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
