"""Values of the registry as rows of its file, and as rows for people's programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from springtide.serve.judging import GateRule, Verdict
from springtide.serve.registry.stages import Moves, Stage
from springtide.serve.registry.version import Change, Lineage, Version

VERSION = "name, number, stage, digest, build, config, metrics, lineage, inputs, created_s, by"
CHANGE = "id, name, number, action, by, time_s, why, moves, before, forced"


def text(value: Any) -> str:
    """JSON; nan and infinities are kept."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


def row_of(version: Version) -> tuple[Any, ...]:
    return (
        version.name, version.number, str(version.stage), version.digest, version.build, text(version.config),
        text(version.metrics), text(version.lineage), text(version.inputs), version.created_s, version.by,
    )  # fmt: skip


def version_of(row: tuple[Any, ...], root: Path) -> Version:
    name, number, stage, digest, build, config, metrics, lineage, inputs, created_s, by = row
    return Version(
        name, number, Stage(stage), digest, build, json.loads(config), json.loads(metrics),
        msgspec.convert(json.loads(lineage), Lineage), created_s, by, root / name / str(number),
        tuple(json.loads(inputs)),
    )  # fmt: skip


def change_of(row: tuple[Any, ...]) -> Change:
    id_, name, number, action, by, time_s, why, moves, before, forced = row
    return Change(
        id_, name, number, action, by, time_s, why, msgspec.convert(json.loads(moves), Moves), before, bool(forced)
    )


def verdict_of(content: str) -> Verdict:
    return msgspec.convert(json.loads(content), Verdict)


def rule_of(content: str) -> GateRule:
    return msgspec.convert(json.loads(content), GateRule)


def shown(version: Version) -> dict[str, Any]:
    """A version for `--json` and the API."""
    return asdict(version) | {"stage": str(version.stage), "path": str(version.path)}


def shown_change(change: Change) -> dict[str, Any]:
    """A change for `--json` and the API; its moves are in the stages of the versions."""
    said: dict[str, Any] = msgspec.to_builtins(change)
    return said
