"""What can be done with the models of this home, without HTTP. Nothing is built or evaluated in the pool's process.

Models belong to no team: whoever may look at some team sees them, and the pool's administrators promote them.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from springtide.pool import access
from springtide.pool.access import Identity
from springtide.pool.office import Office, Seal, unsealed
from springtide.pool.refusals import Unknown
from springtide.pool.rows import Row
from springtide.serve import promotion
from springtide.serve.registry import Change, Registry, Stage, Version
from springtide.spec.errors import UserError


class Models:
    """Operations on the registry in a folder, which is opened when it is first asked for. Errors as in `service`."""

    def __init__(self, office: Office, root: Path) -> None:
        self.office, self._root = office, root

    def listing(self, who: Identity) -> Row:
        """Every model, and which of its versions serve."""
        access.require(who, "models.list", self.office.tree())
        registry = self._registry()
        return {"models": [self._model(registry, name) for name in registry.names()]}

    def show(self, who: Identity, name: str) -> Row:
        """A model, its gate's rule, and what became of its versions, the newest first."""
        access.require(who, "models.show", self.office.tree())
        registry = self._registry()
        self._versions(registry, name)
        rule = registry.rule(name)
        changes = [_change(one) for one in reversed(registry.changes(name))]
        return self._model(registry, name) | {"rule": asdict(rule) if rule else None, "changes": changes}

    def versions(self, who: Identity, name: str) -> Row:
        """Its versions, the newest first."""
        access.require(who, "models.versions", self.office.tree())
        registry = self._registry()
        return {"versions": [_version(one) for one in reversed(self._versions(registry, name))]}

    def promote(self, who: Identity, name: str, number: int, force: bool, seal: Seal = unsealed) -> Row:
        """Makes a version production whose verdict on record says that it may be; every server has it on return."""
        access.require(who, "models.promote", self.office.tree())
        registry = self._registry()
        self._versions(registry, name)
        change = promotion.promote(registry, name, number, by=who.name, force=force, evaluate=False)
        return self._sealed(change, seal)

    def rollback(self, who: Identity, name: str, seal: Seal = unsealed) -> Row:
        """Makes the previous version production again."""
        access.require(who, "models.rollback", self.office.tree())
        registry = self._registry()
        self._versions(registry, name)
        return self._sealed(promotion.rollback(registry, name, by=who.name), seal)

    def _registry(self) -> Registry:
        return Registry.open(self._root)

    def _sealed(self, change: Change, seal: Seal) -> Row:
        row = _change(change)
        with self.office.store.database.writing():
            seal(row)
        return row

    def _versions(self, registry: Registry, name: str) -> list[Version]:
        try:
            return registry.versions(name)
        except UserError as error:
            raise Unknown(str(error)) from None

    def _model(self, registry: Registry, name: str) -> Row:
        versions = registry.versions(name)
        held = {one.stage: one.number for one in versions}
        return {
            "name": name, "production": held.get(Stage.PRODUCTION), "previous": held.get(Stage.PREVIOUS),
            "newest": versions[-1].number, "servers": len(registry.servers(name)),
        }  # fmt: skip


def _version(version: Version) -> Row:
    lineage: dict[str, Any] = asdict(version.lineage)
    return {
        "number": version.number, "stage": str(version.stage), "digest": version.digest, "build": version.build,
        "config": version.config, "metrics": {name: _finite(value) for name, value in version.metrics.items()},
        "inputs": list(version.inputs), "lineage": lineage, "created_s": version.created_s, "by": version.by,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


def _change(change: Change) -> Row:
    return {
        "id": change.id, "number": change.number, "before": change.before, "action": change.action, "by": change.by,
        "time_s": change.time_s, "why": change.why, "forced": change.forced,
    }  # fmt: skip
